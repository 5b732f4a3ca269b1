"""The same as `side` and `swap`, for SQLite: a side file beside the live one, put in its place, and back.

The live file keeps a second name first (NAME__before_ID, a hard link), then the side file takes its name by a rename:
at every moment the name stands for a whole database. Both happen while nobody else reads or writes the live one.
Whoever has it open still sees the old one: SQLite refuses to write there (its file was moved), and Django opens it
anew for each request.
"""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from ..backup.kinds import sqlite
from ..errors import Locked, SauvegardeError
from ..postgres import database_names
from ..system import file_sync
from . import swap

# How long readers and writers that are at it may take to finish, in seconds.
FENCE = 10.0
FOLDER = ".sauvegarde"
_COMPANIONS = ("-journal", "-wal", "-shm")


def is_file(database):
    """Whether a target's name is that of an SQLite file: an absolute path."""
    return database.startswith("/")


def label(database):
    """What a person calls the database."""
    return Path(database).name if is_file(database) else database


def directory(database):
    """Where runs for this file keep their state: beside it, since its keeper can write there."""
    return str(Path(database).with_name(FOLDER))


def side(database, identifier):
    """Where the run `identifier` for `database` goes before the swap."""
    return str(Path(database).with_name(database_names.side(Path(database).name, identifier)))


def before(database, identifier):
    """What `database` is called once the swap `identifier` has put another in its place."""
    return str(Path(database).with_name(database_names.before(Path(database).name, identifier)))


def _made(database, kind):
    live = Path(database)
    if not live.parent.is_dir():
        return []
    return sorted(each for each in live.parent.iterdir() if database_names.belongs(each.name, live.name, kind))


def leftovers(database):
    """Side files of `database`: their paths, without their companions."""
    return [str(each) for each in _made(database, "restore")]


def kept(database):
    """Files kept from swaps of `database`, newest first, as swap.kept lists databases.

    A second name of the live file itself, left by a swap that was killed, is none.
    """
    found = []
    for each in _made(database, "before"):
        if not (Path(database).exists() and each.samefile(database)):
            identifier = database_names.made(each.name)[2]
            found.append({"name": str(each), "kind": "before", "id": identifier, "bytes": each.stat().st_size})
    return sorted(found, key=lambda each: each["id"], reverse=True)


def sessions(database):
    """Processes that have the file open, as far as we may look: [{pid, user, application, address, state}]."""
    live = Path(database)
    found = []
    if live.exists():
        mark = (live.stat().st_dev, live.stat().st_ino)
        for each in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                status = each.stat()
                if (status.st_dev, status.st_ino) == mark and int(each.parts[2]) != os.getpid():
                    command = Path("/proc", each.parts[2], "comm").read_text().strip()
                    found.append(
                        {"pid": int(each.parts[2]), "user": "", "application": command, "address": "", "state": "open"}
                    )
    return found


@contextlib.contextmanager
def _alone(path, fence):
    """Nobody else reads or writes the database meanwhile, and all of it is in its one file."""
    try:
        with contextlib.closing(sqlite.connect(path, "rw")) as connection:
            connection.execute(f"PRAGMA busy_timeout = {int(fence * 1000)}")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            was = connection.execute("PRAGMA journal_mode").fetchone()[0]
            if was == "wal":
                # Leaving it needs to be the only one there, and folds the log into the file.
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
            yield was
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        holders = ["{pid} {application}".format(**each) for each in sessions(path)]
        raise Locked(
            f"The swap of {path} did not happen; the live file is as it was.",
            "\n".join([str(error), *holders]),
            "Stop what uses the file, and run it again.",
        ) from error


def exchange(database, incoming, outgoing, fence=FENCE):
    """Give `database` the further name `outgoing` (if it exists), then `incoming` its name, or change nothing.

    Returns {"seconds", "ended": 0}: there are no sessions to end.
    """
    if not Path(incoming).exists():
        raise SauvegardeError(f"There is no file {incoming} to put in place.")
    if Path(outgoing).exists() and not (Path(database).exists() and Path(outgoing).samefile(database)):
        raise SauvegardeError(f"There already is a file {outgoing}.")
    started = time.monotonic()
    was = ""
    with contextlib.ExitStack() as stack:
        if Path(database).exists():
            was = stack.enter_context(_alone(database, fence))
            for each in _made(database, "before"):
                if each.samefile(database):
                    each.unlink()
            os.link(database, outgoing)
        Path(incoming).rename(database)
        file_sync.sync(Path(database).parent)
    if was == "wal":
        # The mode belongs to the file; a reader of the kept one may stand in its way, and then it does without.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite.connect(outgoing, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    return {"seconds": round(time.monotonic() - started, 3), "ended": 0}


def into_place(database, incoming, identifier, fence=FENCE):
    """Swap the side file in. Returns exchange()'s result and `kept`: the old one's path, None if there was none."""
    there = Path(database).exists()
    outgoing = before(database, identifier)
    result = exchange(database, incoming, outgoing, fence)
    result["kept"] = outgoing if there else None
    return result


def chosen(database, wanted=""):
    """The kept file to go back to (see `swap.choose`)."""
    return swap.choose(database, [each["name"] for each in kept(database)], wanted)


def back(database, identifier, wanted="", fence=FENCE):
    """Put a kept file back in place. What was live is kept in its turn."""
    incoming = chosen(database, wanted)
    result = into_place(database, incoming, identifier, fence)
    result["restored"] = incoming
    return result


def remove(database, wanted):
    """Remove one kept file, by its whole name. True if it was there."""
    if wanted not in [str(each) for each in _made(database, "before")] and Path(wanted).exists():
        raise SauvegardeError(
            f"{wanted} is not a file kept from a swap of {database}.",
            f"Kept files are named {database}__before_ID.",
            "Only those are removed here; remove others by hand.",
        )
    return drop(wanted)


def drop(path):
    """Remove a file that was made here, with its companions. True if it was there."""
    there = Path(path).exists()
    for name in (path, *(path + each for each in _COMPANIONS)):
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
    return there
