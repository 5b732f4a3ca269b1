"""The virtual environment that everything on the controller runs in.

Run by the system's Python before anything is installed, so it uses the standard library alone:
``python3 -I environment.py ROOT`` prints the path of a whole environment, made or repaired where needed.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SETTING = "SAUVEGARDE_ANSIBLE_CORE"
LANES = ("2.19", "2.16")
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


def lane(environ=os.environ):
    """The ansible-core line to run ("2.19" or "2.16"), from the one setting that selects it."""
    wanted = environ.get(SETTING) or LANES[0]
    if wanted not in LANES:
        raise EnvironmentFailed(
            f"{SETTING}={wanted} is not known.\n"
            f"  Why: there is a lock of exact versions for ansible-core {' and '.join(LANES)} only.\n"
            f"  Fix: unset it (for {LANES[0]}), or set it to 2.16 where hosts have Python 3.6 or 3.7."
        )
    return wanted


def paths(root, core):
    """The environment's folder and its lock file for an ansible-core line."""
    folder = ".venv" if core == LANES[0] else f".venv-{core}"
    return root / folder, root / "requirements" / f"ansible-core-{core}.lock"


def expected_stamp(venv, lock):
    """What the stamp of a whole environment says; moving it or changing its Python makes it another one."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{digest} python{sys.version_info[0]}.{sys.version_info[1]} {venv}\n"


def fault(venv, lock):
    """Why the environment can't be used as it is, or None."""
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


def build(venv, lock):
    """Make the environment anew from its lock. The stamp comes last, so that a killed build is seen as one."""
    if venv.exists():
        shutil.rmtree(venv)
    steps = (
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


def ensure(root, core):
    """The path of a whole environment for this ansible-core line, made or repaired first where needed.

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
        build(venv, lock)
    return venv


if __name__ == "__main__":
    try:
        print(ensure(Path(sys.argv[1]), lane()))
    except EnvironmentFailed as failure:
        sys.exit(f"sauvegarde: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
