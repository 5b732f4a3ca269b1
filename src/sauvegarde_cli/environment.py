"""Make and repair the virtual environment that everything on the controller runs in.

The system's Python runs this file before anything is installed, so it uses the standard library alone:
``python3 -I environment.py ROOT`` prints the path of a complete environment.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Lock:
    """A lock of exact versions: a line of ansible-core, and which Python on the controller runs it."""

    core: str
    oldest_python: tuple[int, int]
    support_ended: str = ""  # the month in which its last fix came out; empty while it is supported


# Newest last. A lock comes from requirements/*.in by the command in its first lines.
LOCKS = (Lock("2.19", (3, 11), support_ended="November 2026"), Lock("2.21", (3, 12)))
FORMER_SETTING = "SAUVEGARDE_ANSIBLE_CORE"
STAMP = "sauvegarde-lock"

# Run inside the environment: every distribution of the lock is there in its version, with the first of its
# modules. Names and versions are the lock's lines "name==version [; marker] \".
PROBE = r"""
import re, sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

for line in Path(sys.argv[1]).read_text().splitlines():
    found = re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)\s*(?:;\s*(.*?))?\s*\\?$", line)
    if not found:
        continue
    name, version, marker = found.groups()
    if marker:
        from pip._vendor.packaging.markers import Marker
        if not Marker(marker).evaluate():
            continue
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        sys.exit("%s is missing" % name)
    if dist.version != version:
        sys.exit("%s is %s, not %s" % (name, dist.version, version))
    record = dist.read_text("RECORD") or ""
    module = next((p for p in (r.split(",")[0] for r in record.splitlines()) if p.endswith("/__init__.py")), None)
    if module and not Path(dist.locate_file(module)).exists():
        sys.exit("%s has lost %s" % (name, module))
"""


class EnvironmentFailed(Exception):
    """What failed, why, and what to do, as one text."""


def newest_lock(python: tuple[int, ...] = sys.version_info[:2]) -> Lock:
    """Return the newest lock that this Python runs. Raises EnvironmentFailed if it is too old for all of them."""
    fitting = [lock for lock in LOCKS if python >= lock.oldest_python]
    if not fitting:
        raise EnvironmentFailed(
            f"Python {python[0]}.{python[1]} is too old for the controller.\n"
            f"  Why: ansible-core {LOCKS[0].core} needs Python {version_text(LOCKS[0].oldest_python)} or newer.\n"
            "  Fix: run this from Debian 12, Ubuntu 24.04 or later; the hosts may keep an older Python."
        )
    return fitting[-1]


def core_version(python: tuple[int, ...] = sys.version_info[:2]) -> str:
    """Return the newest line of ansible-core that this Python runs, for example "2.19". Raises EnvironmentFailed."""
    return newest_lock(python).core


def version_text(python: tuple[int, ...]) -> str:
    """Return the version as people write it, for example "3.11"."""
    return ".".join(map(str, python))


def support_note(python: tuple[int, ...] = sys.version_info[:2]) -> str:
    """Return the note that this Python's line of ansible-core gets no more fixes; empty while it does."""
    lock, newest = newest_lock(python), LOCKS[-1]
    if not lock.support_ended:
        return ""
    return (
        f"sauvegarde: ansible-core {lock.core}, the newest that Python {version_text(python[:2])} runs, is out of "
        f"support since {lock.support_ended}. It works, but gets no more fixes. For {newest.core}: install Python "
        f"{version_text(newest.oldest_python)} or newer, and set SAUVEGARDE_PYTHON to its command."
    )


def former_setting_warning(environ: Mapping[str, str] = os.environ) -> str:
    """Return what to say where the user still sets the line of ansible-core; empty where not."""
    value = environ.get(FORMER_SETTING, "")
    if not value or value == core_version():
        return ""
    return (
        f"sauvegarde: {FORMER_SETTING}={value} has no effect: ansible-core {core_version()} is used. "
        "Hosts need Python 3.9; older ones are backed up over the network, by a job on another host (roles/backup)."
    )


def paths(root: Path, core: str) -> tuple[Path, Path]:
    """Return the environment's folder and the lock file of a line of ansible-core."""
    return root / ".venv", root / "requirements" / f"ansible-core-{core}.lock"


def expected_stamp(venv: Path, lock: Path) -> str:
    """Return the text of a complete environment's stamp. It changes with the lock, the folder and the Python."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{digest} python{sys.version_info[0]}.{sys.version_info[1]} {venv}\n"


def fault(venv: Path, lock: Path) -> str | None:
    """Return why the environment cannot be used as it is, or None."""
    if not venv.is_dir():
        return "there is none yet"
    stamp = venv / STAMP
    if not stamp.is_file():
        return "the last attempt did not finish"
    if stamp.read_text() != expected_stamp(venv, lock):
        return "the lock, the Python or the folder has changed"
    try:
        probe = subprocess.run(
            [venv / "bin" / "python", "-I", "-c", PROBE, lock], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"its Python does not start ({error.strerror})"
    if probe.returncode:
        return (probe.stderr.strip().splitlines() or ["its Python does not work"])[-1]
    return None


def build(venv: Path, lock: Path) -> None:
    """Create the environment again from its lock. The stamp is written last, so that a killed build is recognised."""
    if venv.exists():
        shutil.rmtree(venv)
    steps: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "venv", venv],
        [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--require-hashes", "-r", lock],
    )  # fmt: skip
    for step in steps:
        done = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            tail = "\n    ".join(done.stdout.strip().splitlines()[-12:])
            raise EnvironmentFailed(
                f"could not make {venv}: {Path(step[0]).name} {' '.join(str(word) for word in step[1:4])} "
                f"ended with {done.returncode}.\n    {tail}\n"
                "  Fix: see that the package index that pip is set up for can be reached, then run this again; "
                "what is half made is thrown away by itself."
            )
    (venv / STAMP).write_text(expected_stamp(venv, lock))


def ensure(root: Path, core: str) -> Path:
    """Return the path of a complete environment for this line of ansible-core, after making or repairing it.

    Two commands at once wait for each other. Raises EnvironmentFailed.
    """
    venv, lock = paths(root, core)
    with contextlib.ExitStack() as stack:
        try:
            guard = stack.enter_context((root / f"{venv.name}.guard").open("w"))
        except OSError as error:
            if fault(venv, lock) is None:
                return venv
            raise EnvironmentFailed(
                f"{root} is not writable ({error.strerror}), and {venv.name} must be made in it.\n"
                "  Fix: run this as the user who owns the checkout."
            ) from error
        fcntl.flock(guard, fcntl.LOCK_EX)
        why = fault(venv, lock)
        if why is None:
            return venv
        print(
            f"sauvegarde: making {venv.name} from {lock.relative_to(root)} ({why}); about a minute, once",
            file=sys.stderr,
            flush=True,
        )
        if support_note():
            print(support_note(), file=sys.stderr, flush=True)
        build(venv, lock)
    return venv


if __name__ == "__main__":
    try:
        if former_setting_warning():
            print(former_setting_warning(), file=sys.stderr)
        print(ensure(Path(sys.argv[1]), core_version()))
    except EnvironmentFailed as failure:
        sys.exit(f"sauvegarde: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
