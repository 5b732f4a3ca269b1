"""Write metrics for Prometheus, as a file that node_exporter's textfile collector reads: one file a job.

They are computed from the job's state, so a failed run reports its failure and keeps the time of the last success, and
a job that never runs again goes stale. A new metric is one entry in METRICS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from ..system import atomic_file

PREFIX = "sauvegarde_backup_"
Number = Union[int, float]
State = Mapping[str, Any]


def _at(*keys: str) -> Callable[[State], Any]:
    """Return a function that looks up a value in a job's state; None where a key is absent."""

    def look_up(state: State) -> Any:
        value: Any = state
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return look_up


def _succeeded(exit_code: Number | None) -> bool | None:
    return None if exit_code is None else exit_code == 0


def _count(values: list[Any] | None) -> int | None:
    return None if values is None else len(values)


def _last_copies(state: State) -> dict[str, Any]:
    return {name: copies.get("last_success") for name, copies in sorted(state.get("offsite", {}).items())}


def _of_databases(*keys: str) -> Callable[[State], dict[str, Any]]:
    """Return a function that looks up a value for each database that the job backs up: {database: number}."""
    find = _at(*keys)

    def look_up(state: State) -> dict[str, Any]:
        return {name: find(entry) for name, entry in _databases(state).items() if entry.get("selected")}

    return look_up


def _databases(state: State) -> dict[str, Mapping[str, Any]]:
    entries = state.get("databases")
    entries = entries if isinstance(entries, Mapping) else {}
    return {name: entry for name, entry in sorted(entries.items()) if isinstance(entry, Mapping)}


def _databases_succeeded(state: State) -> dict[str, bool | None]:
    codes = _of_databases("last_run", "exit_code")(state)
    return {name: _succeeded(code) for name, code in codes.items()}


def _databases_available(state: State) -> dict[str, Any]:
    return {name: entry.get("available") for name, entry in _databases(state).items()}


@dataclass(frozen=True)
class Metric:
    """A gauge. value: from the job's state (report/job_state.py), None where there is nothing to report.

    label: if the metric has one more label than every metric, its name; `value` then returns {label's value: number}.
    Metrics of the label `database` are those of a job that backs up several; a database that the last run did not have
    to back up, as it was dropped, has only `database_available`.
    """

    name: str
    help: str
    value: Callable[[State], Any]
    label: str = ""

    def samples(self, state: State) -> list[tuple[dict[str, str], Number]]:
        """Return (labels, number) for each value that there is."""
        value = self.value(state)
        values = value if self.label else {"": value}
        return [
            ({self.label: name} if self.label else {}, int(number) if isinstance(number, bool) else number)
            for name, number in values.items()
            if number is not None
        ]


# The texts stay as they are: node_exporter exports only one file's series of a metric whose files have different texts,
# and after an upgrade each job writes its file at its own next run.
METRICS = (
    Metric("last_run_timestamp_seconds", "End of the last run.", _at("last_run", "ended")),
    Metric(
        "last_run_success",
        "1 if the last run did all it had to, 0 if not.",
        lambda state: _succeeded(_at("last_run", "exit_code")(state)),
    ),
    Metric("last_run_exit_code", "Exit code of the last run.", _at("last_run", "exit_code")),
    Metric(
        "last_success_timestamp_seconds",
        "End of the last run that published an archive.",
        _at("last_success", "ended"),
    ),
    Metric(
        "last_duration_seconds", "Duration of the last run that published an archive.", _at("last_success", "seconds")
    ),
    Metric("last_size_bytes", "Stored size of the last archive published.", _at("last_success", "stored_bytes")),
    Metric("last_warnings", "Warnings in the manifest of the last archive published.", _at("last_success", "warnings")),
    Metric(
        "last_unproven",
        "Objects in the last archive published that its fingerprint does not cover.",
        _at("last_success", "unproven"),
    ),
    Metric(
        "databases_without_job",
        "Databases on the job's server that no job of this host names.",
        lambda state: _count(state.get("without_job")),
    ),
    Metric("available", "Archives kept on the host.", _at("available")),
    Metric(
        "last_verify_success",
        "1 if the last reading back of archives found them whole, 0 if not.",
        _at("last_verify", "success"),
    ),
    Metric("last_verify_timestamp_seconds", "End of the last reading back of archives.", _at("last_verify", "ended")),
    Metric(
        "offsite_last_success_timestamp_seconds",
        "End of the last complete copy to the repository.",
        _last_copies,
        label="repository",
    ),
    Metric(
        "database_last_run_success",
        "1 if the last run backed the database up, 0 if not.",
        _databases_succeeded,
        label="database",
    ),
    Metric(
        "database_last_success_timestamp_seconds",
        "End of the last backup of the database.",
        _of_databases("last_success", "ended"),
        label="database",
    ),
    Metric(
        "database_last_duration_seconds",
        "Duration of the last backup of the database.",
        _of_databases("last_success", "seconds"),
        label="database",
    ),
    Metric(
        "database_last_size_bytes",
        "Stored size of the last archive of the database.",
        _of_databases("last_success", "stored_bytes"),
        label="database",
    ),
    Metric(
        "database_last_warnings",
        "Warnings in the manifest of the last archive of the database.",
        _of_databases("last_success", "warnings"),
        label="database",
    ),
    Metric(
        "database_last_unproven",
        "Objects in the last archive of the database that its fingerprint does not cover.",
        _of_databases("last_success", "unproven"),
        label="database",
    ),
    Metric(
        "database_available",
        "Archives of the database kept on the host, also of a dropped one.",
        _databases_available,
        label="database",
    ),
)


def _escape(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("\\", "\\\\").replace('"', '\\"')


def render(job: str, kind: str, state: State) -> str:
    """Return the text for a job's state. The label is `backup_job`, since Prometheus reserves `job`."""
    lines = []
    for metric in METRICS:
        samples = metric.samples(state)
        if samples:
            name = PREFIX + metric.name
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} gauge"]
            lines += [_sample(name, dict(labels, backup_job=job, kind=kind), number) for labels, number in samples]
    return "\n".join(lines) + "\n"


def _sample(name: str, labels: Mapping[str, str], number: Number) -> str:
    inside = ",".join(f'{key}="{_escape(labels[key])}"' for key in sorted(labels))
    return f"{name}{{{inside}}} {repr(round(number, 3)) if isinstance(number, float) else number}"


def path(directory: str | Path, job: str) -> Path:
    """Return the path of a job's metrics; a job's name is safe in a file name."""
    return Path(directory) / f"sauvegarde_{job}.prom"


def write(directory: str | Path, job: str, kind: str, state: State) -> None:
    """Replace a job's file; readable by everyone, since the exporter runs as another user."""
    atomic_file.replace(path(directory, job), render(job, kind, state), mode=0o644)
