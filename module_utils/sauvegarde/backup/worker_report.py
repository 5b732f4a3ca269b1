"""Write and read the report that a run's worker sends to its supervisor: one line of JSON after each change."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..archive.manifest import Manifest
from ..errors import SauvegardeError, from_dict


@dataclass(frozen=True)
class ArchiveSummary:
    """What the job's state keeps of a published archive; sizes in bytes, `warnings` and `unproven` are counts."""

    id: str
    bytes: int
    stored_bytes: int
    proven: str
    warnings: int
    unproven: int

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> ArchiveSummary:
        return cls(
            id=manifest.id,
            bytes=manifest.bytes,
            stored_bytes=manifest.stored_bytes,
            proven=manifest.proof_scope,
            warnings=len(manifest.warnings),
            unproven=len(manifest.unproven),
        )

    @classmethod
    def total(cls, summaries: Sequence[ArchiveSummary]) -> ArchiveSummary:
        """Return the sums of several archives, with the newest one's id. `proven` stays empty."""
        return cls(
            id=max(summary.id for summary in summaries),
            bytes=sum(summary.bytes for summary in summaries),
            stored_bytes=sum(summary.stored_bytes for summary in summaries),
            proven="",
            warnings=sum(summary.warnings for summary in summaries),
            unproven=sum(summary.unproven for summary in summaries),
        )


@dataclass(frozen=True)
class DatabaseResult:
    """What became of one database of a job that backs up several; times in seconds since the epoch.

    status: running, ok, failed, or dropped: it disappeared before it was backed up, which is no failure.
    """

    status: str
    started: float
    ended: float = 0.0
    archive: ArchiveSummary | None = None
    problem: SauvegardeError | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "archive": dataclasses.asdict(self.archive) if self.archive else None,
            "problem": self.problem.as_dict() if self.problem else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatabaseResult:
        archive, problem = values["archive"], values["problem"]
        return cls(
            values["status"],
            values["started"],
            values["ended"],
            ArchiveSummary(**archive) if archive else None,
            from_dict(problem) if problem else None,
        )


@dataclass
class Report:
    """What a worker has done so far.

    archive: the archive; the sums of all of a job that backs up several databases.
    databases: of such a job, the result of each database that was tried; None for any other job. selected: the
    databases that it has to back up. left_out: why patterns did not choose others. available: archives on the host by
    database. selected and available are None where they were not found out.
    databases_without_job: names of the server's databases that no job names; None where the server was not asked.
    offsite: by repository, the id of its newest archive; None where the copy failed.
    stopped: a signal ended the work. ended: the report is complete.
    """

    archive: ArchiveSummary | None = None
    databases: dict[str, DatabaseResult] | None = None
    selected: list[str] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    available: dict[str, int] | None = None
    databases_without_job: list[str] | None = None
    warnings: list[str] = field(default_factory=list)
    problems: list[SauvegardeError] = field(default_factory=list)
    offsite: dict[str, str | None] = field(default_factory=dict)
    stopped: bool = False
    ended: bool = False

    def to_line(self) -> bytes:
        """Return the report as one line. It begins with a line end too, which completes a line that was cut short."""
        values = {
            "archive": dataclasses.asdict(self.archive) if self.archive else None,
            "databases": None
            if self.databases is None
            else {name: result.as_dict() for name, result in self.databases.items()},
            "selected": self.selected,
            "left_out": self.left_out,
            "available": self.available,
            "databases_without_job": self.databases_without_job,
            "warnings": self.warnings,
            "problems": [problem.as_dict() for problem in self.problems],
            "offsite": self.offsite,
            "stopped": self.stopped,
            "ended": self.ended,
        }
        return f"\n{json.dumps(values)}\n".encode("ascii")

    @classmethod
    def from_lines(cls, data: bytes) -> Report:
        """Return the last complete report among the lines; an empty one if there is none."""
        for line in reversed(data.split(b"\n")):
            with contextlib.suppress(ValueError):
                values = json.loads(line.decode("ascii"))
                archive = values.pop("archive")
                problems = [from_dict(problem) for problem in values.pop("problems")]
                results = values.pop("databases")
                if results is not None:
                    results = {name: DatabaseResult.from_dict(result) for name, result in results.items()}
                summary = ArchiveSummary(**archive) if archive else None
                return cls(archive=summary, problems=problems, databases=results, **values)
        return cls()
