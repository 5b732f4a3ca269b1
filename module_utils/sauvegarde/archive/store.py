"""Archives on disk: written under a temporary name, read back whole, synced, renamed; later verified and expanded.

A repository is ROOT/JOB/ID/. An archive holds `manifest.json` and, for each file of the manifest, PATH.zst.
While it is written it is ROOT/JOB/.partial-ID; one found damaged is set aside as ROOT/JOB/.damaged-ID.
The caller holds the job's lock for everything here that writes.
"""

import calendar
import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import VERSION
from ..errors import Damaged, SauvegardeError
from ..system import process, user_groups
from . import manifest

LEVEL = 2  # zstd's: as small as gzip in a ninth of its time; 3 costs a third more for a twentieth less
SUFFIX = ".zst"
_PARTIAL = ".partial-"
_DAMAGED = ".damaged-"
_LABEL = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"\d{8}T\d{6}Z\Z")
_JOB = re.compile(manifest.SCHEMA["properties"]["job"]["pattern"][:-1] + r"\Z")
_CHUNK = 256 * 1024  # what fits into a processor's own cache on its way from one pipe to the next
_PIPE = 1024 * 1024
_BATCH = 200  # files handed to one zstd: few processes for many small files, and a command line of bounded length
_F_SETPIPE_SZ = 1031  # Linux; not named in fcntl before Python 3.10


def moment(seconds=None):
    """ISO 8601 in UTC with milliseconds, of a time in seconds since the epoch (now by default)."""
    seconds = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


def job_directory(root, job):
    """ROOT/JOB as a Path; a job's name that could lead elsewhere is refused."""
    if not _JOB.match(job):
        raise SauvegardeError(
            f"The job's name cannot name a folder: {job!r}",
            fix="Use letters, digits, '_', '-' and '.', not starting with '-' or '.'.",
        )
    return Path(str(root)) / job


def identifiers(directory):
    """The ids of the published archives in a job's folder, oldest first; empty where there is no folder."""
    directory = Path(str(directory))
    if not directory.is_dir():
        return []
    entries = os.scandir(str(directory))
    return sorted(each.name for each in entries if _ID.match(each.name) and each.is_dir(follow_symlinks=False))


def new_identifier(directory, now=None, others=()):
    """A UTC label greater than that of every archive in the folder, set aside ones included, and than the `others`,
    even when the clock went back: then it is the newest label's next second."""
    label = time.strftime(_LABEL, time.gmtime(now))
    names = [entry.name for entry in os.scandir(str(directory))]
    taken = [name for name in (re.sub(r"\A\.(partial|damaged)-", "", name) for name in names) if _ID.match(name)]
    newest = max([*taken, *others], default="")
    if label > newest:
        return label
    return time.strftime(_LABEL, time.gmtime(calendar.timegm(time.strptime(newest, _LABEL)) + 1))


def check_directory(directory):
    """Refuse a job's folder that somebody else could write in, or that is not where its name says."""
    directory = Path(str(directory))
    _check_folders([(directory.parent, False), (directory, True)])


def check_place(directory):
    """Refuse what `check_directory` would, also where the folder itself is still to be made."""
    directory = Path(str(directory))
    there = [(directory, True)] if os.path.lexists(str(directory)) else []
    _check_folders([(directory.parent, False), *there])


def _check_folders(folders):
    for path, private in folders:
        try:
            status = os.lstat(str(path))
        except FileNotFoundError as error:
            raise SauvegardeError(
                f"The folder does not exist: {path}", fix="Let the backup role make it, or create it with mode 0700."
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            raise SauvegardeError(
                f"Not a folder but {_sort(status.st_mode)}: {path}",
                fix="Find out who put it there; archives are only written into real folders.",
            )
        owners = (os.geteuid(),) if private else (os.geteuid(), 0)
        open_to_others = status.st_mode & 0o077 if private else user_groups.others_may_write(path, status)
        if status.st_uid not in owners or open_to_others:
            raise SauvegardeError(
                f"The folder is not private: {path}",
                f"Its owner is uid {status.st_uid} and its mode {stat.S_IMODE(status.st_mode):04o}; this runs as uid "
                f"{os.geteuid()}.",
                f"chown it to uid {os.geteuid()} and chmod {'700' if private else 'go-w'} it.",
            )


def _sort(mode):
    return "a symbolic link" if stat.S_ISLNK(mode) else "something else"


def clean(directory):
    """Remove what killed runs left in a job's folder; returns the names removed. A planted link is unlinked, never
    followed."""
    gone = []
    for entry in list(os.scandir(str(directory))):
        if entry.name.startswith(_PARTIAL):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
            gone.append(entry.name)
    return gone


def quarantine(path):
    """Set a damaged archive aside under a name that nothing takes for an archive; returns the new path."""
    path = Path(str(path))
    aside = path.with_name(_DAMAGED + path.name)
    path.rename(aside)
    sync(path.parent)
    return aside


def sync(path):
    """fsync a folder or a file."""
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def widen(pipe):
    """Let a pipe hold several chunks, so that both ends run side by side; a full quota of pipe memory is no error."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE)


class Writer:
    """A file of the archive while it is written: bytes in, zstd on disk, with zstd's own checksum of what came in.

    As a context manager it is finished at the end of the block, given up when the block fails.
    """

    def __init__(self, stage, path):
        self._stage, self._path = stage, path
        self._bytes = 0
        self._target = stage.create(path + SUFFIX)
        try:
            self._zstd = process.start(
                [*stage.zstd, f"-{stage.level}", "-c"], stdin=process.PIPE, stdout=self._target.fileno()
            )
        except BaseException:
            self._target.close()
            raise
        widen(self._zstd.stdin)

    def write(self, data):
        self._bytes += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._zstd.stdin.fileno(), view) :]
        except BrokenPipeError:
            self._finish()  # its own words say why it went
            raise

    def _finish(self):
        self._zstd.stdin.close()
        self._zstd.finish(what=f"{self._path} could not be compressed.")

    def close(self):
        try:
            self._finish()
            stored = os.fstat(self._target.fileno()).st_size
        finally:
            self.abort()
        self._stage.record(self._path, self._bytes, stored)

    def abort(self):
        self._zstd.kill(grace=0)
        self._target.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:
            self.abort()


class Stage:
    """An archive in the making. Leaving the block without `publish` removes every trace of it.

    with Stage(root, job, kind) as stage:
        with stage.writer("globals.sql") as target:
            target.write(b"...")
        stage.publish(part)
    """

    def __init__(self, root, job, kind, level=LEVEL, now=None):
        self.job, self.kind, self.level = job, kind, int(level)
        self.directory = job_directory(root, job)
        # One thread that compresses beside one that reads and writes, which takes less time in all than a single one.
        self.zstd = [process.find("zstd"), "-q", "-T1"]
        self.started = time.time() if now is None else now
        self._now = now
        self._files = {}
        self._proven = set()
        self._lock = threading.Lock()
        self._published = False

    def __enter__(self):
        check_directory(self.directory)
        self.id = new_identifier(self.directory, self._now)
        self.path = self.directory / (_PARTIAL + self.id)
        self.path.mkdir(mode=0o700)
        return self

    def __exit__(self, *_):
        if not self._published:
            shutil.rmtree(str(self.path), ignore_errors=True)

    def create(self, path):
        """A new file of our own in the stage, open for writing: never an existing one, never through a link."""
        target = self.path / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(str(target), flags, 0o600), "r+b")

    def writer(self, path):
        """A Writer for a new file of the archive."""
        return Writer(self, path)

    def compress(self, paths):
        """Turn finished plain files of the stage into files of the archive, many with one zstd; the plain ones go."""
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            sizes = [os.lstat(str(self.path / path)).st_size for path in batch]
            # Each plain file goes as soon as its zstd form is whole (--rm), so that a batch needs little room.
            arguments = [*self.zstd, f"-{self.level}", "--rm", "--", *batch]
            process.run(arguments, cwd=str(self.path), stdout=process.DEVNULL, what="Files could not be compressed.")
            for path, size in zip(batch, sizes):
                self.record(path, size, os.lstat(str(self.path / (path + SUFFIX))).st_size)

    def record(self, path, size, stored):
        """Enter a finished file: its size uncompressed and as stored. Its SHA-256 is that of what is read back, once
        zstd has found it equal, by its own checksum, to what it was given."""
        with self._lock:
            self._files[path] = {"path": path, "bytes": size, "stored_bytes": stored}

    def discard(self, path):
        """Take a finished file back, to write it anew."""
        with self._lock:
            del self._files[path]
        (self.path / (path + SUFFIX)).unlink()

    @property
    def files(self):
        """The files so far, as the manifest lists them."""
        with self._lock:
            return [self._files[path] for path in sorted(self._files)]

    def settle(self):
        """Bring every file to the disk and drop it from memory, so that reading it back reads the disk."""
        for entry in self.files:
            descriptor = os.open(str(self.path / (entry["path"] + SUFFIX)), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def proven(self, paths):
        """Note files as read back and found equal (a kind whose reader did it already says so here)."""
        self._proven.update(paths)

    def read_back(self):
        """Read what nobody has read back yet from the disk, and compare."""
        left = [entry for entry in self.files if entry["path"] not in self._proven]
        if left:
            self.settle()
            read_all(self.path, left)
            self.proven(entry["path"] for entry in left)

    def publish(self, part):
        """Read back, write the manifest last, sync everything, rename. Returns the manifest.

        part: the kind's share of the manifest: source, tools, fingerprint, restore_by_hand, warnings.
        """
        self.read_back()
        files = self.files
        whole = {
            "format": manifest.FORMAT,
            "id": self.id,
            "job": self.job,
            "kind": self.kind,
            "tool": {"name": "sauvegarde", "version": VERSION},
            "host": os.uname().nodename,
            "started": moment(self.started),
            "ended": moment(),
            "files": files,
            "bytes": sum(entry["bytes"] for entry in files),
            "stored_bytes": sum(entry["stored_bytes"] for entry in files),
        }
        whole.update(part)
        text = manifest.dumps(whole)
        with self.create(manifest.NAME) as target:
            target.write(text.encode("utf-8"))
            target.flush()
            os.fsync(target.fileno())
        strange = _others(self.path, files)
        if strange:
            raise SauvegardeError(f"The stage holds files that nobody entered: {', '.join(strange[:5])}")
        for folder, _, _ in os.walk(str(self.path)):
            sync(folder)
        self.path.rename(self.directory / self.id)
        self._published = True
        sync(self.directory)
        return manifest.loads(text, self.id)


def _others(path, files):
    """Names in an archive's folder that its manifest does not know."""
    known = {entry["path"] + SUFFIX for entry in files} | {manifest.NAME}
    found = (Path(folder) / name for folder, _, names in os.walk(str(path)) for name in names)
    return sorted(str(each.relative_to(path)) for each in found if str(each.relative_to(path)) not in known)


def read(path):
    """The manifest of a published archive, checked on its own (no data is read): schema, checksum, its id and folder
    agree, every file is there, a plain file, of the recorded size. Raises Damaged."""
    path = Path(str(path))
    found = manifest.load(path / manifest.NAME)
    if _ID.match(path.name) and found["id"] != path.name:
        raise damaged(path, f"Its manifest is that of {found['id']}.")
    check_files(path, found["files"])
    strange = _others(path, found["files"])
    if strange:
        raise damaged(path, f"It holds files that its manifest does not know: {', '.join(strange[:5])}")
    return found


def check_files(path, files):
    """Every file is there, a plain file, of the recorded stored size."""
    for entry in files:
        name = entry["path"] + SUFFIX
        try:
            status = os.lstat(str(Path(str(path)) / name))
        except OSError as error:
            raise damaged(path, str(error)) from error
        if not stat.S_ISREG(status.st_mode):
            raise damaged(path, f"{name} is {_sort(status.st_mode)}.")
        if status.st_size != entry["stored_bytes"]:
            raise damaged(path, f"{name} has {status.st_size} bytes, its manifest says {entry['stored_bytes']}.")


def damaged(path, why):
    """The error for an archive that is not what its manifest says."""
    return Damaged(f"The archive is damaged: {path}", why, "Use another archive, or the offsite copy of this one.")


def stream(path, files, sink):
    """Decompress files of an archive one after the other, comparing size and SHA-256 of each; an entry that has no
    SHA-256 yet is given it.

    sink(entry) returns a context manager that yields a function taking each chunk, or yields None. An error names the
    file. Memory stays flat; many files share one zstd.
    """
    path = Path(str(path))
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        names = [entry["path"] + SUFFIX for entry in batch]
        arguments = [process.find("zstd"), "-dcq", "--single-thread", "--", *names]
        with process.start(arguments, stdout=process.PIPE, cwd=str(path)) as zstd:
            widen(zstd.stdout)
            descriptor = zstd.stdout.fileno()
            for entry in batch:
                _one(path, entry, descriptor, sink, zstd)
            if os.read(descriptor, 1):
                raise damaged(path, f"{names[-1]} holds more than its manifest says.")
            result = zstd.wait()
            if result.status:
                raise damaged(path, result.stderr)


def _one(path, entry, descriptor, sink, zstd):
    digest, left = hashlib.sha256(), entry["bytes"]
    with sink(entry) as write:
        while left:
            chunk = os.read(descriptor, min(left, _CHUNK))
            if not chunk:
                break
            digest.update(chunk)
            if write is not None:
                write(chunk)
            left -= len(chunk)
    if left or digest.hexdigest() != entry.setdefault("sha256", digest.hexdigest()):
        time.sleep(0.05)  # zstd may still be about to say what it met
        why = f"{entry['path']}{SUFFIX}: " + (
            f"{left} bytes are missing at its end" if left else "its content does not have the recorded SHA-256"
        )
        raise damaged(path, "\n".join(filter(None, [why + ".", zstd.errors()])))


@contextlib.contextmanager
def _nowhere(_entry):
    yield None


def _shares(files, workers):
    """The files dealt out by size, so that workers end together: a list of lists, each in the given order."""
    shares = [[0, []] for _ in range(max(1, min(workers, len(files))))]
    for position, entry in sorted(enumerate(files), key=lambda pair: -pair[1]["bytes"]):
        least = min(shares, key=lambda share: share[0])
        least[0] += entry["bytes"] + 4096
        least[1].append(position)
    return [[files[position] for position in sorted(share[1])] for share in shares]


def _in_parallel(path, files, sink, workers):
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting = [pool.submit(stream, path, share, sink) for share in _shares(files, workers) if share]
        for future in waiting:
            future.result()


def read_all(path, files, workers=0):
    """Read files of an archive and compare each with its SHA-256; workers: 0 for one a core, at most 4."""
    _in_parallel(path, files, _nowhere, workers or default_workers())


def default_workers():
    """How many things to do at once where the job does not say: the cores, at most 4."""
    return min(4, len(os.sched_getaffinity(0)))


def verify(path, workers=0):
    """Read an archive whole, compare every checksum; returns its manifest. Raises Damaged."""
    found = read(path)
    read_all(path, found["files"], workers)
    return found


def expand(path, destination, workers=0):
    """Write an archive's files, uncompressed and checked, and its manifest under `destination`, new or empty.

    This is the form that deduplicates offsite and that pg_restore reads. Returns the manifest. On any error nothing of
    it stays.
    """
    path, destination = Path(str(path)), Path(str(destination))
    found = read(path)
    made = not destination.exists()
    try:
        if made:
            destination.mkdir(mode=0o700)
        elif destination.is_symlink() or any(destination.iterdir()):
            raise SauvegardeError(f"The folder to expand into is not empty: {destination}", fix="Name a new folder.")
        for entry in found["files"]:
            (destination / entry["path"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

        @contextlib.contextmanager
        def into(entry):
            with _exclusive(destination / entry["path"]) as target:
                yield target.write

        _in_parallel(path, found["files"], into, workers or default_workers())
        with _exclusive(destination / manifest.NAME) as target:
            target.write((path / manifest.NAME).read_bytes())
    except BaseException as error:
        if made:
            shutil.rmtree(str(destination), ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(destination, error) from error
        raise
    return found


def _exclusive(path):
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(str(path), flags, 0o600), "wb")


def verify_plain(path):
    """`verify` for the plain form (expanded, or fetched from offsite); returns the manifest."""
    path = Path(str(path))
    found = manifest.load(path / manifest.NAME)
    with ThreadPoolExecutor(default_workers()) as pool:
        for _ in pool.map(lambda entry: _plain(path, entry), found["files"]):
            continue  # an error of a file is raised here
    return found


def _plain(path, entry):
    digest = hashlib.sha256()
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with os.fdopen(os.open(str(path / entry["path"]), flags), "rb", buffering=0) as plain:
            for chunk in iter(lambda: plain.read(_CHUNK), b""):
                digest.update(chunk)
    except OSError as error:
        raise damaged(path, str(error)) from error
    if digest.hexdigest() != entry["sha256"]:
        raise damaged(path, f"{entry['path']} does not have the recorded SHA-256.")


def no_space(path, error):
    """The error for a full disk."""
    return SauvegardeError(
        f"The disk is full: {path}", str(error), "Free some space there, or keep fewer archives (retention)."
    )


def free_bytes(path):
    """Bytes that this user may still write on the file system of `path`."""
    status = os.statvfs(str(path))
    return status.f_bavail * status.f_frsize


def require_space(directory, needed):
    """Refuse before anything is written when the file system has less than `needed` bytes for this user."""
    free = free_bytes(directory)
    if free < needed:
        raise SauvegardeError(
            f"Not enough space for the archive: {directory}",
            f"It may need {needed // 1024 // 1024} MB, {free // 1024 // 1024} MB are free.",
            "Free some space there, or keep fewer archives (retention).",
        )


def tools():
    """Versions of what every kind uses."""
    text = process.run([process.find("zstd"), "--version"], timeout=30).text
    found = re.search(r"v?(\d+\.\d+\.\d+)", text)
    return {"zstd": found.group(1) if found else text.strip(), "python": platform.python_version()}
