"""The engine's own copy on a host: what cron runs. Each version lies in a folder of its own, so that a job which runs
while another version comes keeps its files; the launcher names the one to start, and is replaced whole.

ROOT/run, ROOT/engine-DIGEST/sauvegarde/**.py
"""

import hashlib
import shutil
import zipfile
from pathlib import Path

from ..report import job_state

PACKAGE = "sauvegarde"
LAUNCHER = "run"
_FOLDER = "engine-"
_START = """#!/usr/bin/python3 -I
# {note}
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, {folder!r})
from {package}.backup.pipeline import main

sys.exit(main())
"""


def sources():
    """The sources of the package that runs here: {relative path: bytes}, read from its folder or from the archive that
    Ansible sends a module in (which holds only what the module imports)."""
    here = str(Path(__file__).parent.parent)
    if ".zip/" in here:
        archive, inside = here.split(".zip/", 1)
        with zipfile.ZipFile(archive + ".zip") as opened:
            names = [name for name in opened.namelist() if name.startswith(inside + "/") and name.endswith(".py")]
            return {name[len(inside) + 1 :]: opened.read(name) for name in names}
    return _folder(Path(here))


def _folder(path):
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*.py"))}


def digest(files):
    """A short name for exactly these sources."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return total.hexdigest()[:16]


def installed(root):
    """The sources that the launcher of a host starts; empty where there is none."""
    launcher = Path(root) / LAUNCHER
    if not launcher.exists():
        return {}
    folder = [line for line in launcher.read_text(encoding="utf-8").splitlines() if _FOLDER in line]
    name = folder[0].split(_FOLDER)[1][:16] if folder else ""
    return _folder(Path(root) / (_FOLDER + name) / PACKAGE)


def launcher(root, files, note):
    """The text of the launcher for these sources."""
    return _START.format(note=note, folder=str(Path(root) / (_FOLDER + digest(files))), package=PACKAGE)


def current(root, files, note):
    """Whether the host starts exactly these sources."""
    path = Path(root) / LAUNCHER
    if not path.exists() or path.read_text(encoding="utf-8") != launcher(root, files, note):
        return False
    return installed(root) == files


def install(root, files, note):
    """Put the sources there and start them from now on. All but the version before this one are removed."""
    root = Path(root)
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = {each.name for each in root.glob(_FOLDER + "*")}
    folder = root / (_FOLDER + digest(files))
    if folder.exists():
        shutil.rmtree(str(folder))  # the launcher is about to be right, so what lies there is not
    for name, content in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in [root, folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    was = root / LAUNCHER
    previous = was.read_text(encoding="utf-8") if was.exists() else ""
    job_state.replace(was, launcher(root, files, note), mode=0o755)
    for name in before - {folder.name}:
        if name not in previous:
            shutil.rmtree(str(root / name))


def differences(root, files):
    """Names of the given sources (those that a module brought) which the host's copy has otherwise, or not at all."""
    there = installed(root)
    return sorted(name for name in files if there.get(name) != files[name])
