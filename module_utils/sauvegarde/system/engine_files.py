"""Read the engine's own source files, from its folder or from what the controller sent with a module.

Ansible sends a module with its imports. That is not enough to install the engine, to run its part inside a site, or to
import a module by a computed name. For these modules an action plugin (plugins/action/sauvegarde_with_engine.py) sends
the whole engine as the argument `engine`.
"""

from __future__ import annotations

import base64
import importlib.abc
import importlib.machinery
import importlib.util
import io
import pkgutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import SauvegardeError

ARGUMENT: dict[str, dict[str, Any]] = {"engine": {"type": "str", "default": "", "no_log": True}}
_PACKAGE = __name__.rsplit(".", 2)[0]
_FOLDER = Path(__file__).parent.parent
_received: dict[str, bytes] = {}


def receive(archive: str) -> None:
    """Take the engine's files from an archive (zip, in base64). Modules that did not come otherwise are imported from
    it. An empty text changes nothing."""
    if not archive:
        return
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(archive))) as opened:
        _received.update({name: opened.read(name) for name in opened.namelist()})
    if not any(isinstance(finder, _ReceivedModules) for finder in sys.meta_path):
        sys.meta_path.append(_ReceivedModules())


def engine_files() -> dict[str, bytes]:
    """Return all sources of the engine: {path relative to the package: content}."""
    if _received:
        return dict(_received)
    if not _FOLDER.is_dir():
        raise SauvegardeError(
            "The controller did not send the engine along.",
            "The module was not called through its action plugin.",
            "Call it in a play of this project, whose ansible.cfg names plugins/action.",
        )
    return read_folder(_FOLDER)


def module_names(package: str) -> list[str]:
    """Return the names of the modules in a package of the engine, given as a path: `backup/kinds`."""
    if _received:
        paths = [Path(name) for name in _received if name.startswith(package + "/")]
        return sorted(path.stem for path in paths if str(path.parent) == package and path.stem != "__init__")
    return sorted(module.name for module in pkgutil.iter_modules([str(_FOLDER / package)]))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the Python sources below a folder: {relative path: content}."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.py"))}


class _ReceivedModules(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the engine's modules from the files that were received."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if self._file(fullname) else None

    def is_package(self, fullname: str) -> bool:
        return self._file(fullname).endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        return _received[self._file(fullname)].decode("utf-8")

    @staticmethod
    def _file(fullname: str) -> str:
        """Return the path of a module's file; empty if it is none of the engine's."""
        if not fullname.startswith(_PACKAGE + "."):
            return ""
        path = fullname[len(_PACKAGE) + 1 :].replace(".", "/")
        return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in _received), "")
