"""Dump a site's data: stream it, check it while it runs, publish it by rename."""

import contextlib
import filecmp
import gzip
import json
import lzma
import os
import queue
import secrets
import stat
import threading
from pathlib import Path

from .. import archive, process
from ..errors import SauvegardeError
from . import fixture, load, privacy
from .leaks import Scanner
from .proof import Count, Fingerprint
from .site import completed, run

# Every site makes its own content types and permissions, by `migrate`; their numbers mean nothing elsewhere.
EXCLUDE = ("contenttypes", "auth.permission")
DEFAULTS = {
    "labels": [],
    "exclude": list(EXCLUDE),
    "format": "json",
    "indent": None,
    "natural_foreign": True,
    "natural_primary": False,
    "all": False,
    # Whether views, unmanaged models and search indexes are written too, as stock does; a migration leaves them out,
    # but for those that `include` names.
    "derived": True,
    "include": [],
    # Whether moments keep their microseconds, which stock cuts; loads take them.
    "exact": False,
    "pks": [],
    # Fixture sets (`sets.checked`): what they hold of people is emptied, a number or masked.
    "sets": None,
    # For a comparison of sets with the database: what they mask is written as it is, and is not in the fingerprint.
    "compared": False,
    "policy": None,
    "key": "",
}
COMPRESSIONS = ("gz", "xz", "zst")


def options(values):
    """The options of a dump, completed; unknown ones raise."""
    whole = completed("dump", values, DEFAULTS)
    if whole["format"] not in ("json", "jsonl"):
        raise SauvegardeError(
            "The format {} cannot be dumped.".format(whole["format"]),
            fix="Use json or jsonl; loads read all of Django's.",
        )
    if whole["policy"] and not whole["key"]:
        raise SauvegardeError("Masking needs a secret key.", fix="Give the key, as hexadecimal digits.")
    if whole["sets"] and not whole["compared"]:
        privacy.require_key(whole["sets"], whole["key"])
    return whole


def stream(site, values, write, progress=None, prove=True, many=None):
    """Dump into the function `write` (bytes); what goes by is parsed, counted and, to `prove` something later,
    fingerprinted ("fingerprint" is None without it). `many`: a dict that is filled before the first data come.

    Returns {"counts", "fingerprint", "many", "stock", "masked", "private"}; raises where the parse does not agree
    with the worker.
    """
    whole = options(values)
    with Check(whole["format"], prove, many) as check:
        result = _checked(site, "dump", whole, None, write, check, progress)
        fingerprint = check.end()
        _add_search(result, check)
    return _agreed(result, fingerprint, check.many)


def parsed(take):
    """A function for `stream` of the format jsonl that hands each object to `take`."""
    rest = [b""]

    def write(piece):
        *lines, rest[0] = (rest[0] + piece).split(b"\n")
        for line in lines:
            if line:
                take(json.loads(line.decode("utf-8")))

    return write


def converted(site, paths, values, write, progress=None):
    """As `stream`, but out of fixtures (an archive's), by the site's models; its database is not asked."""
    whole = options(values)
    with contextlib.ExitStack() as stack, Check(whole["format"]) as check:
        # To mask, the names that the files hold are learnt first.
        twice = [*paths, *paths] if whole["policy"] else paths
        source = load.Framed([load.opened(stack, path) for path in twice])
        result = _checked(site, "convert", dict(whole, files=len(paths)), source, write, check, progress)
        fingerprint = check.end()
        _add_search(result, check)
    return _agreed(result, fingerprint, check.many)


def _checked(site, task, whole, source, write, check, progress):
    """Run the task; its data goes to the caller and to the check."""

    def data(payload):
        write(payload)
        check.feed(payload)

    def told(event):
        if "many" in event:
            check.many.update(event["many"])
        elif "originals" in event:
            policy = event.get("policy") or whole["policy"]
            check.scanner = Scanner(policy, bytes.fromhex(whole["key"]), event["originals"])
        elif "unmasked" in event:
            check.unmasked.update(event["unmasked"])
        elif progress is not None:
            progress(event)

    return run(site, task, whole, source=source, data=data, progress=told)


def _add_search(result, check):
    if check.scanner is not None and result["masking"] is not None:
        result["masking"]["search"] = check.scanner.facts


def _agreed(result, fingerprint, many):
    counted = {label: rows for label, rows in result["counts"].items() if rows}
    if counted != fingerprint.counts:
        raise SauvegardeError(
            "The dump does not hold what was read: it is not published.",
            f"Written: {counted}\nFound in the stream: {fingerprint.counts}",
            "Run it again; if it stays so, report it.",
        )
    proof = fingerprint.result() if isinstance(fingerprint, Fingerprint) else None
    return dict(result, fingerprint=proof, many=many)


class Check:
    """Parses a stream that goes by, in a thread of its own."""

    def __init__(self, form, prove=True, many=None):
        self.many = {} if many is None else many
        self._form = form
        self._pieces = queue.Queue(maxsize=8)
        self._left = b""
        self._fingerprint = Fingerprint(self.many) if prove else Count()
        self._error = None
        self.scanner = None  # given before the first data, where they are masked
        self.unmasked = {}  # as `privacy.actions`, of a dump for a comparison; filled before the first data
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        if self._thread.is_alive():
            self._pieces.put(b"")
            self._thread.join()

    def feed(self, payload):
        if payload:
            self._pieces.put(payload)

    def end(self):
        self._pieces.put(b"")
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._fingerprint

    def _run(self):
        try:
            for entry in fixture.objects(self, self._form, "The dump"):
                self._fingerprint.add(privacy.without_masked(entry, self.unmasked, self.many))
                if self.scanner is not None:
                    self.scanner.add(entry)
            if self.scanner is not None:
                self.scanner.end()
        except Exception as error:  # noqa: BLE001 - raised again by `end`, in the caller's thread
            self._error = error
        while self._more():  # so that nobody waits for a full queue
            pass

    def _more(self):
        if self._pieces is None:
            return False
        self._left = self._pieces.get()
        if not self._left:
            self._pieces = None
        return bool(self._left)

    # A binary file, for the parser: whatever piece is there.
    def read(self, _size):
        if not self._left and not self._more():
            return b""
        piece, self._left = self._left, b""
        return piece


def to_file(site, values, path, progress=None, write=True, prove=False):
    """Dump to a file, compressed as its name says; the old one stays until the new one is whole.

    Returns as `stream`, and "path", "bytes" and "changed". Not to `write` is to dump and check all the same.
    """
    path = Path(str(path))
    form, compression = fixture.kind_of(path.name)
    if compression not in (None, *COMPRESSIONS):
        raise SauvegardeError(
            f"A dump cannot be compressed as {compression}.", fix="Use one of: {}.".format(", ".join(COMPRESSIONS))
        )
    values = dict(values, format=form)
    if not write:
        return dict(stream(site, values, lambda piece: None, progress, prove), path=str(path), bytes=0, changed=True)
    try:
        with replaced(path) as target:
            with compressed(target, compression) as sink:
                result = stream(site, values, sink.write, progress, prove)
            target.flush()
            changed = not path.exists() or not filecmp.cmp(str(path), target.name, shallow=False)
    except OSError as error:
        raise SauvegardeError(
            f"The dump could not be written: {path}",
            str(error),
            "Correct the path, or free space there; a file that was there before is as it was.",
        ) from error
    return dict(result, path=str(path), bytes=path.stat().st_size, changed=changed)


def _new(path, flags):
    """Opens a file of our own: never an existing one, never through a link."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def replaced(path, mode=0o600):
    """A new binary file that takes the place of `path` when the block ends well, and goes when it does not."""
    path = Path(str(path))
    with contextlib.suppress(FileNotFoundError):
        there = path.lstat().st_mode
        mode = there & 0o777 if stat.S_ISREG(there) else mode  # a link's target has no say
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(str(temporary), "w+b", opener=_new) as target:
            yield target
            target.flush()
            os.fchmod(target.fileno(), mode)
            os.fsync(target.fileno())
        temporary.rename(path)
        archive.sync(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def compressed(target, compression):
    """A binary file whose writes arrive in `target` compressed."""
    if compression is None:
        yield target
    elif compression == "gz":
        # Without the moment of writing: equal data is an equal file.
        with gzip.GzipFile(fileobj=target, mode="wb", filename="", compresslevel=6, mtime=0) as sink:
            yield sink
    elif compression == "xz":
        with lzma.LZMAFile(target, "wb") as sink:
            yield sink
    else:
        zstd = process.start([process.find("zstd"), "-qc", "-3"], stdin=process.PIPE, stdout=target.fileno())
        with zstd:
            yield zstd.stdin
            zstd.stdin.close()
            zstd.finish(what="The dump could not be compressed.")
