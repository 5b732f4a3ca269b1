"""Load fixtures into a site: files or pipes, compressed or not, checked first, then written in one transaction."""

import contextlib
import json
import marshal
import os
import stat
import struct
from itertools import islice
from pathlib import Path

from ..errors import SauvegardeError
from ..system import process
from . import fixture_stream
from .site import completed, run

MODES = ("merge", "replace")
DEFAULTS = {
    "mode": "merge",
    "policy": {},
    "exclude": [],
    "models": [],
    # Whether the site's listeners hear of what is saved, and of what a replacement deletes.
    "listeners": True,
    "tell_deletions": True,
    # Whether the database's own triggers and rules fire.
    "triggers": True,
    "check_only": False,
    # Not /tmp, which may be memory: as much as the largest fixture waits there, in files without a name.
    "spool": "/var/tmp",
    "lock_timeout": 60,
}
# What can be wrong with a value, and what may be done about it; the first is the default. What stock loads without a
# word (precision, nan) is loaded and listed; a migration stops there.
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
# These kinds concern objects and references, not single fields: they take one action, not one a field.
_WHOLE = ("foreign_key", "unknown", "hidden")
_HEAD = struct.Struct(">I")
_PIECE = 1 << 18
_TOGETHER = 50
_TOLD = 200


def options(values):
    """The options of a load, completed; unknown ones raise."""
    whole = completed("load", values, DEFAULTS)
    if whole["mode"] not in MODES:
        raise SauvegardeError(
            "A load has no mode {}.".format(whole["mode"]), fix="Use one of: {}.".format(", ".join(MODES))
        )
    return dict(whole, policy=policies(whole["policy"]))


def policies(chosen):
    """{kind: action, or {model.field: action} with "*" for all others} of every kind, with the defaults of those that
    were not chosen. Where fields are named, all others stop."""
    policy = {name: actions[0] for name, actions in POLICIES.items()}
    for name, action in chosen.items():
        by_field = isinstance(action, dict) and name not in _WHOLE
        if by_field:
            action = {"*": "stop", **{field.lower(): each for field, each in action.items()}}
        wrong = [each for each in (action.values() if by_field else [action]) if not _is_known(name, each)]
        if wrong:
            raise SauvegardeError(
                f"The policy of a load cannot be {name}: {wrong[0]}.",
                "One action for all fields, or for some of them {{model.field: action}}, not for {}.".format(
                    ", ".join(_WHOLE)
                ),
                "; ".join("{}: {}".format(name, " or ".join(actions)) for name, actions in sorted(POLICIES.items())),
            )
        policy[name] = action
    return policy


def _is_known(name, action):
    return isinstance(action, str) and action in POLICIES.get(name, ())


def acceptance(problems):
    """The policy that accepts just the values that stop a load, as JSON (which is YAML, too); "" where none can."""
    found = {}
    for each in problems:
        actions = [action for action in POLICIES[each["kind"]] if action not in ("stop", "keep")]
        if each["action"] == "stop" and each["kind"] not in _WHOLE and each["field"] and actions:
            found.setdefault(each["kind"], {})["{model}.{field}".format(**each)] = each.get("accept") or actions[0]
    return json.dumps(found, sort_keys=True) if found else ""


def load(site, sources, values, progress=None):
    """Load the sources in their order.

    Each source is a path, named like a fixture, or a tuple (binary file, format, name) for a pipe with plain text.
    Returns what `worker_load.load` does: {"counts", "stock", "skipped", "problems", "stopping", "mended", "touched",
    "changed", "silent", "written"}.
    Problems that the policy does not mend raise, all listed, and nothing is written; `check_only` returns them.
    """
    whole = options(values)
    with contextlib.ExitStack() as stack:
        parts = [opened(stack, source) for source in sources]
        result = run(site, "load", whole, source=Framed(parts), progress=progress)
    if result["stopping"] and not whole["check_only"]:
        accepted = acceptance(result["problems"])
        raise SauvegardeError(
            "The fixture cannot be loaded: {} problem{}; nothing was written.".format(
                result["stopping"], "" if result["stopping"] == 1 else "s"
            ),
            told(result["problems"], result["stopping"]),
            "Mend them in the fixture, or choose what to do with them in the policy"
            + (f" (migrate_values of a migration), by name: {accepted}" if accepted else "."),
        )
    return result


def told(problems, count):
    """The problems that stop a load, one a line; `count`: how many there are, also where not all of them are listed."""
    lines = [
        "{} {!r}{}: {}".format(each["model"], each["pk"], " " + each["field"] if each["field"] else "", each["detail"])
        for each in problems
        if each["action"] == "stop"
    ]
    lines = lines[:_TOLD]
    if count > len(lines):
        lines.append(f"… and {count - len(lines)} more")
    return "\n".join(lines)


def opened(stack, source):
    """(binary file with plain text, format, name) of a path or of a tuple of just these."""
    if isinstance(source, tuple):
        return source
    path = Path(str(source))
    form, compression = fixture_stream.kind_of(path.name)
    try:
        raw = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise SauvegardeError(f"The fixture cannot be read: {path}", str(error)) from error
    if compression == "zst":
        child = stack.enter_context(
            process.start([process.find("zstd"), "-dcq"], stdin=raw.fileno(), stdout=process.PIPE)
        )
        return _Finished(child), form, path.name
    if compression == "zip" and not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raise SauvegardeError(f"A zip cannot be read from a pipe: {path}", fix="Use another compression.")
    return fixture_stream.expanded(raw, compression, path.name), form, path.name


class _Finished:
    """A child's output; at its end the child must have succeeded."""

    def __init__(self, child):
        self._child = child

    def read(self, size):
        data = self._child.stdout.read(size)
        if not data:
            self._child.finish(what="The fixture could not be decompressed.")
        return data


class Framed:
    """The sources as the worker wants them: for each a line that names it, then pieces behind their lengths.

    What can be parsed here is, while the worker looks at what came before: its pieces are lists of objects.
    """

    def __init__(self, sources):
        self._sources = iter(sources)
        self._pieces = None

    def read(self, _size):
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


def _objects(file, form, name):
    """The objects of a fixture, some at a time, in the form that every Python reads quickest."""
    entries = fixture_stream.objects(file, form, name)
    for some in iter(lambda: list(islice(entries, _TOGETHER)), []):
        yield marshal.dumps(some, 2)
