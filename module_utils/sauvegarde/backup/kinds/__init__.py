"""Find the kinds of job by listing this package, which has one file for each; backup/kind.py defines what a kind is."""

from __future__ import annotations

import errno
import functools
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import psycopg2

from ...archive import archive_reader, archive_writer, compression, ids
from ...archive.manifest import Manifest
from ...errors import SauvegardeError
from ...postgres import server_errors
from ...system import disk_space, engine_files, private_directory
from .. import last_manifests
from ..kind import Declaration, Kind, Notify

_LEVEL = "level"  # the setting of every kind: zstd's level


@functools.cache
def kinds() -> dict[str, Kind]:
    """Return every kind by its name, that of its file."""
    names = engine_files.module_names("backup/kinds")
    return {name: cast(Kind, importlib.import_module(f"{__name__}.{name}")) for name in names}


def declarations() -> dict[str, Declaration]:
    """Return what every kind declares."""
    return {name: Declaration.of(kind) for name, kind in kinds().items()}


def find(name: str) -> Kind:
    """Return a kind. Raises SauvegardeError if there is none of that name."""
    if name not in kinds():
        raise SauvegardeError(f"There is no kind of job {name!r}.", fix=f"Use one of {', '.join(sorted(kinds()))}.")
    return kinds()[name]


def options_of(job: Mapping[str, Any]) -> Any:
    """Return the options of a job's kind (its class Options). Raises SauvegardeError that names a missing or wrong key.

    Other settings are ignored: those of other kinds, and those of another version of the engine.
    """
    kind = find(job["kind"])
    declared = declarations()
    missing = [key for key in declared[job["kind"]].required if job.get(key) in (None, "", {})]
    if missing:
        raise SauvegardeError(
            f"The settings of the job {job['name']} are incomplete.",
            f"Missing: {', '.join(missing)}.",
            f"A job of kind {job['kind']} may have {', '.join(declared[job['kind']].options)}.",
        )
    values = {key: job[key] for key in declared[job["kind"]].options if job.get(key) is not None}
    try:
        return kind.Options.from_values(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise SauvegardeError(f"The settings of the job {job['name']} are wrong.", str(error)) from error


def silent(_step: str, **_values: Any) -> None:
    """A `notify` that reports nothing."""


def back_up(
    job: Mapping[str, Any],
    root: str | Path,
    notify: Notify = silent,
    now: float | None = None,
    last: Callable[[], Manifest | None] | None = None,
) -> Manifest:
    """Run one job to a published archive below ROOT/JOB and return its manifest; on any error nothing is published.

    The caller holds the job's lock: what an earlier, killed run left is removed first.
    job: name, kind and the kind's settings. now: seconds since the epoch, for the id; the clock by default.
    last: finds the manifest to estimate by; by default the newest of the job.
    """
    kind, options = find(job["kind"]), options_of(job)
    directory = ids.job_directory(root, job["name"])
    mask = os.umask(0o077)
    try:
        private_directory.check_private(directory)
        for name in archive_writer.remove_partial(directory):
            notify("cleaned", name=name)
        notify("preflight")
        facts = kind.preflight(options, directory, last() if last else last_manifest(directory))
        level = int(job.get(_LEVEL) or compression.LEVEL)
        with archive_writer.Stage(root, job["name"], job["kind"], level, now) as stage:
            notify("dump", id=stage.id)
            part = kind.dump(options, stage, facts, notify)
            notify("publish", id=stage.id)
            manifest = stage.publish(part.as_dict())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_space.disk_full_error(directory, error) from error
        raise SauvegardeError(f"The archive could not be written: {directory}", str(error)) from error
    except psycopg2.Error as error:
        raise server_errors.database_error(error, "The server ended the connection, or refused a statement.") from error
    finally:
        os.umask(mask)
    notify("published", id=manifest.id, stored_bytes=manifest.stored_bytes)
    return manifest


def last_manifest(directory: Path) -> Manifest | None:
    """Return the newest manifest of a job's folder that can be read."""
    return next(last_manifests.newest_first(directory), None)


def verify(path: str | Path) -> Manifest:
    """Read a published archive completely: every checksum, and the kind's own reader if it has one. Returns the
    manifest; raises Damaged."""
    manifest = archive_reader.read_manifest(path)
    read = getattr(find(manifest.kind), "read", None)
    if read is None:
        archive_reader.read_all(path, manifest.files)
    else:
        read(path, manifest)
    return manifest
