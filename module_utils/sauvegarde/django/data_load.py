"""Load fixtures into a site: files or pipes, compressed or not, checked first, then written in one transaction.

This is the outer half. It reads and parses the files; `worker.fixture_load` checks and writes their objects.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Union

from ..errors import SauvegardeError
from ..system import process
from . import fixture_stream
from .site import Readable, Site, run
from .worker_request import Action, LoadOptions, LoadReport

# A fixture: a path that is named like one, or (binary file with plain text, format, name).
Source = Union[str, Path, "tuple[Readable, str, str]"]

MODES = ("merge", "replace")
# What can be wrong with a value, and what can be done about it; the first action is the default. What stock loads
# without a word (precision, nan) is loaded and listed; a migration stops there.
POLICIES = {
    "too_long": ("stop", "cut", "keep"),
    "out_of_range": ("stop", "empty", "drop"),
    "nul": ("stop", "strip"),
    "null": ("stop", "drop"),
    "foreign_key": ("stop", "empty", "drop"),
    "invalid": ("stop", "drop"),
    "unknown": ("stop", "skip"),
    "hidden": ("stop", "drop"),
    "precision": ("round", "stop"),
    "nan": ("empty", "stop", "drop"),
    "infinity": ("stop", "limit", "empty", "drop"),
    "surrogate": ("stop", "replace", "drop"),
}
# These kinds concern objects and references, not single fields: they take one action, not one for each field.
_WHOLE = ("foreign_key", "unknown", "hidden")
_HEAD = struct.Struct(">I")
_PIECE = 1 << 18  # bytes of a file that Django parses
_BATCH = 50  # objects passed to the worker together
_LISTED = 200  # problems in an error


# --- options ----------------------------------------------------------------------------------------------------------


def options(values: Mapping[str, Any]) -> LoadOptions:
    """Return the options of a load, with a complete policy. Unknown options, modes and policies raise."""
    whole = LoadOptions.from_values(values)
    if whole.mode not in MODES:
        raise SauvegardeError(f"A load has no mode {whole.mode}.", fix="Use one of: {}.".format(", ".join(MODES)))
    return LoadOptions.from_values(dict(whole.as_dict(), policy=policies(whole.policy)))


def policies(chosen: Mapping[str, Action]) -> dict[str, Action]:
    """Return {kind: action, or {model.field: action} with "*" for all others} of every kind of problem.

    Kinds that are not chosen get their default. Where fields are named, all others stop.
    """
    policy: dict[str, Action] = {name: actions[0] for name, actions in POLICIES.items()}
    for name, action in chosen.items():
        if isinstance(action, dict) and name not in _WHOLE:
            by_field = {"*": "stop", **{field.lower(): one for field, one in action.items()}}
            policy[name], actions = by_field, list(by_field.values())
        else:
            policy[name], actions = action, [action]
        for one in actions:
            if not isinstance(one, str) or one not in POLICIES.get(name, ()):
                raise SauvegardeError(
                    f"The policy of a load cannot be {name}: {one}.",
                    "One action for all fields, or for some of them {{model.field: action}}, not for {}.".format(
                        ", ".join(_WHOLE)
                    ),
                    "; ".join("{}: {}".format(kind, " or ".join(some)) for kind, some in sorted(POLICIES.items())),
                )
    return policy


# --- the load ---------------------------------------------------------------------------------------------------------


def load(
    site: Site,
    sources: Iterable[Source],
    values: Mapping[str, Any],
    progress: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Load the sources in their order, with the `values` of `LoadOptions`.

    Returns the values of a `LoadReport`. Problems that stop the load raise, all of them listed, and nothing is written;
    with `check_only` they are returned.
    """
    whole = options(values)
    with contextlib.ExitStack() as stack:
        parts = [opened(stack, source) for source in sources]
        answer = run(site, "load", whole.as_dict(), source=FramedSources(parts), progress=progress)
    report = LoadReport.from_dict(answer)
    if report.stopping and not whole.check_only:
        accepted = acceptance(report.problems)
        raise SauvegardeError(
            "The fixture cannot be loaded: {} problem{}; nothing was written.".format(
                report.stopping, "" if report.stopping == 1 else "s"
            ),
            listed(report.problems, report.stopping),
            "Correct them in the fixture, or choose what to do with them in the policy"
            + (f" (migrate_values of a migration), by name: {accepted}" if accepted else "."),
        )
    return report.as_dict()


def acceptance(problems: Sequence[Mapping[str, Any]]) -> str:
    """Return the policy that accepts exactly the values that stop a load, as JSON (which is also YAML).

    An empty text if none can.
    """
    policy: dict[str, dict[str, str]] = {}
    for problem in problems:
        kind = problem["kind"]
        actions = [action for action in POLICIES[kind] if action not in ("stop", "keep")]
        if problem["action"] == "stop" and kind not in _WHOLE and problem["field"] and actions:
            policy.setdefault(kind, {})["{model}.{field}".format(**problem)] = problem.get("accept") or actions[0]
    return json.dumps(policy, sort_keys=True) if policy else ""


def listed(problems: Sequence[Mapping[str, Any]], count: int) -> str:
    """Return the problems that stop a load, one a line. `count`: how many there are, even if not all are listed."""
    lines = [
        "{} {!r}{}: {}".format(
            problem["model"], problem["pk"], " " + problem["field"] if problem["field"] else "", problem["detail"]
        )
        for problem in problems
        if problem["action"] == "stop"
    ]
    lines = lines[:_LISTED]
    if count > len(lines):
        lines.append(f"… and {count - len(lines)} more")
    return "\n".join(lines)


# --- the sources ------------------------------------------------------------------------------------------------------


def opened(stack: contextlib.ExitStack, source: Source) -> tuple[Readable, str, str]:
    """Return (binary file with plain text, format, name) of a source. `stack`: closes what is opened."""
    if isinstance(source, tuple):
        return source
    path = Path(source)
    form, compression = fixture_stream.kind_of(path.name)
    try:
        raw = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise SauvegardeError(f"The fixture cannot be read: {path}", str(error)) from error
    if compression == "zst":
        child = stack.enter_context(
            process.start([process.find("zstd"), "-dcq"], stdin=raw.fileno(), stdout=process.PIPE)
        )
        return _ChildOutput(child), form, path.name
    if compression == "zip" and not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raise SauvegardeError(f"A zip cannot be read from a pipe: {path}", fix="Use another compression.")
    return fixture_stream.expanded(raw, compression, path.name), form, path.name


class _ChildOutput:
    """A child's output. At its end the child must have succeeded."""

    def __init__(self, child: process.Process) -> None:
        assert child.stdout is not None
        self._child, self._output = child, child.stdout

    def read(self, size: int) -> bytes:
        data: bytes = self._output.read(size)
        if not data:
            self._child.finish(what="The fixture could not be decompressed.")
        return data


class FramedSources:
    """The sources in the form that `worker.load_source` reads: for each a line that names it, then pieces with lengths.

    Formats of JSON are parsed here, while the worker converts what came before: their pieces are lists of objects.
    """

    def __init__(self, sources: Iterable[tuple[Readable, str, str]]) -> None:
        self._sources: Iterator[tuple[Readable, str, str]] | None = iter(sources)
        self._pieces: Iterator[bytes] | None = None

    def read(self, _size: int) -> bytes:
        """Return the next piece, whatever its size; b"" at the end."""
        if self._sources is None:
            return b""
        if self._pieces is None:
            source = next(self._sources, None)
            if source is None:
                self._sources = None
                return b"null\n"
            file, form, name = source
            parsed = form in ("json", "jsonl")
            self._pieces = _objects(file, form, name) if parsed else iter(lambda: file.read(_PIECE), b"")
            return json.dumps({"name": name, "format": form, "parsed": parsed}).encode("ascii") + b"\n"
        piece = next(self._pieces, b"")
        if not piece:
            self._pieces = None
        return _HEAD.pack(len(piece)) + piece


def _objects(file: Readable, form: str, name: str) -> Iterator[bytes]:
    """Yield the objects of a fixture, some at a time, in the form that every Python reads fastest."""
    entries = fixture_stream.objects(file, form, name)
    for some in iter(lambda: list(islice(entries, _BATCH)), []):
        yield marshal.dumps(some, 2)
