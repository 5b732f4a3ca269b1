"""The kinds of job: one file each, and its line in KINDS.

A kind is a module with
    preflight(job, directory, last) -> facts   finds all that would stop the dump, before anything is written;
                                               directory: where the archive will go; last: the last manifest, or None
    dump(job, stage, facts, notify) -> part    fills the stage; part: the manifest's source, tools, fingerprint,
                                               restore_by_hand and warnings
and, where its format has a reader of its own,
    read(path, manifest)                       reads a published archive whole with it, checksums included

job is a dictionary of plain values: `name`, `kind`, and what the kind's own docstring names.
notify(step, **values) is told what is going on, and how far it is.
"""

import errno
import os

import psycopg2

from ...archive import archive_reader, archive_writer, compression, ids
from ...errors import SauvegardeError
from ...postgres import server_errors
from ...system import disk_space, private_directory
from . import (
    dumpdata,
    fixtures,
    pg_dump,
    sqlite,
)
from . import globals as globals_kind

KINDS = {
    "pg_dump": pg_dump,
    "globals": globals_kind,
    "sqlite": sqlite,
    "dumpdata": dumpdata,
    "fixtures": fixtures,
}


def silent(_step, **_values):
    """A notify that says nothing."""


def find(name):
    """The kind of that name."""
    if name not in KINDS:
        raise SauvegardeError(f"There is no kind of job {name!r}.", fix=f"Use one of {', '.join(sorted(KINDS))}.")
    return KINDS[name]


def back_up(job, root, notify=silent, now=None):
    """Run one job to a published archive under ROOT/JOB and return its manifest; on any error nothing is published.

    The caller holds the job's lock: what an earlier, killed run left behind is removed first.
    now: seconds since the epoch, for the label; the clock by default.
    """
    kind = find(job["kind"])
    directory = ids.job_directory(root, job["name"])
    mask = os.umask(0o077)
    try:
        private_directory.check_private(directory)
        for name in archive_writer.remove_partial(directory):
            notify("cleaned", name=name)
        notify("preflight")
        facts = kind.preflight(job, directory, last_manifest(directory))
        with archive_writer.Stage(root, job["name"], job["kind"], job.get("level", compression.LEVEL), now) as stage:
            notify("dump", id=stage.id)
            part = kind.dump(job, stage, facts, notify)
            notify("publish", id=stage.id)
            manifest = stage.publish(part)
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


def last_manifest(directory):
    """The newest manifest of a job's folder that can be read, or None."""
    for identifier in reversed(ids.list_ids(directory)):
        try:
            return archive_reader.read_manifest(directory / identifier)
        except SauvegardeError:
            continue  # whoever lists the archives says so; here an older one serves as well
    return None


def verify(path):
    """Read a published archive whole: every checksum, and the kind's own reader where it has one. Returns the manifest;
    raises Damaged."""
    manifest = archive_reader.read_manifest(path)
    reader = getattr(find(manifest.kind), "read", None)
    if reader is None:
        archive_reader.read_all(path, manifest.files)
    else:
        reader(path, manifest)
    return manifest
