"""Write and read the report that a run's worker sends to its supervisor: one line of JSON after each change."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass, field

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


@dataclass
class Report:
    """What a worker has done so far.

    databases_without_job: names of the server's databases that no job names; None where the server was not asked.
    offsite: by repository, the id of its newest archive; None where the copy failed.
    stopped: a signal ended the work. ended: the report is complete.
    """

    archive: ArchiveSummary | None = None
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
                return cls(archive=ArchiveSummary(**archive) if archive else None, problems=problems, **values)
        return cls()
