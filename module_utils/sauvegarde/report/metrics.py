"""Metrics for Prometheus, as a file that node_exporter's textfile collector reads: one file a job.

They are drawn from the job's state, so a failed run says that it failed and keeps the time of the last success, and a
job that never runs again goes stale.
"""

import re
from pathlib import Path

from ..system import atomic_file

PREFIX = "sauvegarde_backup_"
_METRICS = (
    ("last_run_timestamp_seconds", "End of the last run."),
    ("last_run_success", "1 if the last run did all it had to, 0 if not."),
    ("last_run_exit_code", "Exit code of the last run."),
    ("last_success_timestamp_seconds", "End of the last run that published an archive."),
    ("last_duration_seconds", "Duration of the last run that published an archive."),
    ("last_size_bytes", "Stored size of the last archive published."),
    ("last_warnings", "Warnings in the manifest of the last archive published."),
    ("last_unproven", "Objects in the last archive published that its fingerprint does not cover."),
    ("databases_without_job", "Databases on the job's server that no job of this host names."),
    ("available", "Archives kept on the host."),
    ("last_verify_success", "1 if the last reading back of archives found them whole, 0 if not."),
    ("last_verify_timestamp_seconds", "End of the last reading back of archives."),
    ("offsite_last_success_timestamp_seconds", "End of the last complete copy to the repository."),
)


def _label(text):
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("\\", "\\\\").replace('"', '\\"')


def _samples(current):
    run, success = current.get("last_run", {}), current.get("last_success", {})
    verify = current.get("last_verify", {})
    yield "last_run_timestamp_seconds", {}, run.get("ended")
    yield "last_run_success", {}, None if "exit_code" not in run else int(run["exit_code"] == 0)
    yield "last_run_exit_code", {}, run.get("exit_code")
    yield "last_success_timestamp_seconds", {}, success.get("ended")
    yield "last_duration_seconds", {}, success.get("seconds")
    yield "last_size_bytes", {}, success.get("stored_bytes")
    yield "last_warnings", {}, success.get("warnings")
    yield "last_unproven", {}, success.get("unproven")
    without = current.get("without_job")
    yield "databases_without_job", {}, None if without is None else len(without)
    yield "available", {}, current.get("available")
    yield "last_verify_success", {}, None if "success" not in verify else int(verify["success"])
    yield "last_verify_timestamp_seconds", {}, verify.get("ended")
    for repository, told in sorted(current.get("offsite", {}).items()):
        yield "offsite_last_success_timestamp_seconds", {"repository": repository}, told.get("last_success")


def render(job, kind, current):
    """The text for a job's state (as state.py has it). `backup_job`, since Prometheus keeps `job` for itself."""
    samples = list(_samples(current))
    lines = []
    for name, text in _METRICS:
        values = [(labels, value) for sample, labels, value in samples if sample == name and value is not None]
        if not values:
            continue
        lines += [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} gauge"]
        for labels, value in values:
            labels = dict(labels, backup_job=job, kind=kind)
            inside = ",".join(f'{key}="{_label(labels[key])}"' for key in sorted(labels))
            number = repr(round(value, 3)) if isinstance(value, float) else str(value)
            lines.append(f"{PREFIX}{name}{{{inside}}} {number}")
    return "\n".join(lines) + "\n"


def path(directory, job):
    """Where a job's metrics are; a job's name is safe in a file name."""
    return Path(str(directory)) / f"sauvegarde_{job}.prom"


def write(directory, job, kind, current):
    """Replace a job's file; readable by everyone, as the exporter runs as somebody else."""
    atomic_file.replace(path(directory, job), render(job, kind, current), mode=0o644)
