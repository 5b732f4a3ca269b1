"""Run pg_restore past the errors of single entries, and find out which entries failed, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import SauvegardeError
from ..postgres import server_errors
from ..system import process
from .dump.load_errors import server_message
from .dump.toc_list import entry_number, write_list

# Errors that end a load: the entry that was loaded did not cause them.
_ENDS_LOAD = re.compile(
    r"^(?:.*: )?(?:FATAL|PANIC):  |^(?:.*: )?(?:server closed the connection|no connection to the server)"
    r"|ERROR:  (?:out of (?:shared )?memory|could not extend file|could not write|.*No space left on device"
    r"|canceling statement due to user request|.* in a read-only transaction)",
    re.MULTILINE,
)
_FROM_ENTRY = re.compile(r"from TOC entry (\d+);")
_STDERR_BYTES = 16 * 1024 * 1024  # what is kept of pg_restore's messages
_MESSAGE_BYTES = 64 * 1024  # what is kept of one line, and shown in an error
_PREFIX = re.compile(r"^pg_restore: (?:\[[^\]]*\] )?(?:error: |warning: )?")
# From 12 on messages start with "error" or "warning"; older versions name the part of the program.
_PROGRESS = re.compile(r"pg_restore: (?!error: |warning: |\[|.*\bfrom TOC entry )")
_IGNORED = re.compile(r"errors ignored on restore: (\d+)")
# Anywhere in a line, since the output of several workers can be mixed.
_ERROR = re.compile(r"\berror: |\[[a-z][^\]]*\] (?!Error (?:while|from) )")


def load_entries(
    command: Sequence[str],
    parallel: Sequence[str],
    lines: Sequence[bytes],
    path: str,
    folder: str,
    env: Mapping[str, str] | None,
    what: str,
) -> dict[str, str]:
    """Run pg_restore over these lines of the archive's list. Return {id of an entry that failed: the server's message}.

    parallel: options of the first run. Entries that fail are tried once more, one after the other: they may only have
    come in the wrong order, and messages of several workers can be mixed. Raises if pg_restore ended early.
    """

    def attempt(lines: Sequence[bytes], *options: str) -> dict[str, str]:
        chosen = Path(folder) / "list"
        write_list(chosen, lines)
        # Only --verbose names the entry that an error belongs to.
        argv = [*command, *options, "-v", "-L", str(chosen), path]
        result = process.run(argv, env=env, checked=False, kept=_STDERR_BYTES, sift=error_lines)
        errors = errors_by_entry(result.stderr) if result.status else {}
        if result.status and not errors:
            raise _ended_early(what, result)
        _check_count(what, result, len(errors), bool(options))
        return errors

    first = attempt(lines, *parallel)
    if not first:
        return {}
    second = attempt([line for line in lines if entry_number(line) in first])
    # If an object was created and only its owner failed, the second attempt says that it exists already.
    return {number: first[number] if "already exists" in why else why for number, why in second.items()}


def error_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield those lines of a verbose pg_restore that belong to errors.

    The progress grows with the dump: only its last line before each error remains. Failed statements may contain rows:
    only their beginning remains.
    """
    progress, statement = "", False
    for line in lines:
        if _FROM_ENTRY.search(line) or _IGNORED.search(line) or not (statement or _PROGRESS.match(line)):
            statement = line.lstrip().startswith("Command was:")
        elif line.startswith("pg_restore: "):
            statement = False
            if _PROGRESS.match(line):
                progress = line
                continue
        else:
            continue
        if progress:
            yield progress
            progress = ""
        yield line if len(line) <= _MESSAGE_BYTES else line[:_MESSAGE_BYTES] + "\n"


def errors_by_entry(stderr: str) -> dict[str, str]:
    """Return {id of an entry: the server's message} from the messages of a verbose pg_restore.

    {} if it ended early, or if an error does not belong to an entry.
    """
    if not _IGNORED.search(stderr):
        return {}
    messages: dict[str, list[str]] = {}
    current: list[str] | None = None
    statement = False
    for line in stderr.splitlines():
        begin = _FROM_ENTRY.search(line)
        if begin:
            current = messages.setdefault(begin.group(1), [])
            statement = False
        elif _PROGRESS.match(line) or _IGNORED.search(line):
            current = None
        elif current is not None:
            # The statement itself follows, up to the next of pg_restore's own lines.
            statement = (statement or line.lstrip().startswith("Command was:")) and not line.startswith("pg_restore: ")
            if not statement:
                current.append(_PREFIX.sub("", line))
        elif line.startswith("pg_restore: ") and "error" in line:
            return {}  # no entry is named
    texts = {number: "\n".join(lines) for number, lines in messages.items()}
    if any(_ENDS_LOAD.search(text) for text in texts.values()):
        return {}
    return {number: server_message(text) for number, text in texts.items()}


def _check_count(what: str, result: process.Result, entries: int, parallel: bool) -> None:
    """Raise if pg_restore counted more errors than could be read: an unknown loss would be a silent one."""
    counted = _IGNORED.search(result.stderr)
    errors = len(_ERROR.findall(result.stderr))
    # With workers pg_restore counts each error, and each entry that had errors.
    if counted and int(counted.group(1)) > (errors + entries if parallel else max(errors, entries)):
        raise SauvegardeError(
            what,
            f"pg_restore counted {counted.group(1)} errors, of which {entries} could be read:"
            f"\n{_without_progress(result.stderr)[-_MESSAGE_BYTES:]}",
            "Run it again with restore_jobs: 1, so that the messages of several workers do not mix.",
        )


def _ended_early(what: str, result: process.Result) -> SauvegardeError:
    """Return the error of a pg_restore that could not go on: no entry caused it."""
    why = _without_progress(result.stderr)[-_MESSAGE_BYTES:]
    if result.status < 0:
        why = f"pg_restore was ended by signal {-result.status}.\n{why}"
    fix = server_errors.server_fix(why) or (
        "Look in the server's log, and run the restore again; if it stops here again, restore another archive."
    )
    return SauvegardeError(what, why, fix)


def _without_progress(stderr: str) -> str:
    return "\n".join(line for line in stderr.splitlines() if not _PROGRESS.match(line))
