"""Install the engine on a host, where cron and people start it as the command `sauvegarde`.

    ROOT/engine-DIGEST/sauvegarde/**.py   one folder a version: a job that runs keeps its files
    ROOT/run, COMMAND                     launchers of the current version, replaced atomically

ROOT is /usr/local/lib/sauvegarde. COMMAND, /usr/local/sbin/sauvegarde, is on root's PATH. ROOT/run is its former path,
which users' own scripts may call.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
from pathlib import Path

from ..errors import SauvegardeError
from . import atomic_file
from .engine_files import read_folder

PACKAGE = "sauvegarde"
ROOT = "/usr/local/lib/sauvegarde"
COMMAND = "/usr/local/sbin/sauvegarde"
LAUNCHER = "run"
_FOLDER = "engine-"
_LAUNCHER_TEXT = """#!/usr/bin/python3 -I
# {note}
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, {folder!r})
from {package}.cli import main

sys.exit(main())
"""
_OURS = f"from {PACKAGE}."  # a launcher of any version imports from the package
_FOLDER_LINE = re.compile(r"^sys\.path\.insert\(0, (.+)\)$", re.MULTILINE)


def digest(files: dict[str, bytes]) -> str:
    """Return a short name for exactly these sources."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return total.hexdigest()[:16]


def installed(launcher: str | Path) -> dict[str, bytes]:
    """Return the sources that a launcher starts; empty where there is none."""
    folder = _engine_folder(Path(launcher))
    return read_folder(folder / PACKAGE) if folder else {}


def _engine_folder(launcher: Path) -> Path | None:
    """Return the folder of the version that a launcher starts."""
    match = _FOLDER_LINE.search(_read_launcher(launcher))
    return Path(ast.literal_eval(match.group(1))) if match else None


def _read_launcher(path: Path) -> str:
    """Return a launcher's text; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def launcher_text(root: str | Path, files: dict[str, bytes], note: str) -> str:
    """Return the text of the launchers for these sources."""
    folder = Path(root) / (_FOLDER + digest(files))
    return _LAUNCHER_TEXT.format(note=note, folder=str(folder), package=PACKAGE)


def is_current(root: str | Path, command: str | Path, files: dict[str, bytes], note: str) -> bool:
    """Whether the host starts exactly these sources. Raises if `command` is a program of another origin."""
    _refuse_other_program(Path(command))
    text = launcher_text(root, files, note)
    launchers = (Path(root) / LAUNCHER, Path(command))
    return all(_read_launcher(path) == text for path in launchers) and installed(command) == files


def _refuse_other_program(command: Path) -> None:
    if (command.exists() or command.is_symlink()) and _OURS not in _read_launcher(command):
        raise SauvegardeError(
            f"There is another program at {command}.",
            "It is not a launcher of Sauvegarde, so it is not replaced.",
            "Move it away, then run the backup role again.",
        )


def install(root: str | Path, command: str | Path, files: dict[str, bytes], note: str) -> None:
    """Install the sources and start them from now on. All versions but the one before are removed."""
    root, command = Path(root), Path(command)
    _refuse_other_program(command)
    launchers = (root / LAUNCHER, command)
    previous = {_engine_folder(path) for path in launchers}
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = root / (_FOLDER + digest(files))
    if not folder.exists() or read_folder(folder / PACKAGE) != files:
        _write_sources(folder, files)
    for path in [root, folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in launchers:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        atomic_file.replace(path, launcher_text(root, files, note), mode=0o755)
    if previous <= {folder, None}:
        return  # this version was current already: a job may still run the one before
    for other in root.glob(_FOLDER + "*"):
        if other != folder and other not in previous:
            shutil.rmtree(other)


def _write_sources(folder: Path, files: dict[str, bytes]) -> None:
    if folder.exists():
        shutil.rmtree(folder)  # its content is not what its name says
    for name, content in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(content)


def differences(launcher: str | Path, files: dict[str, bytes]) -> list[str]:
    """Return the names of those files that a launcher's version has otherwise, or not at all."""
    present = installed(launcher)
    return sorted(name for name in files if present.get(name) != files[name])
