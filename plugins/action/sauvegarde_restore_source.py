# GNU General Public License v3.0+ (see LICENSE)
"""Copy what is restored from the controller to the target if it is not there, and return where it is on the target."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.errors import SauvegardeError
from sauvegarde.restore.dump import split_files

COPIES = Path(__file__).resolve().parents[2] / ".restore"  # archives of other hosts on their way
CARRIED = "carried"  # the folder of the copies on the target
ARGUMENTS = ("directory", "file", "path", "globals", "chosen", "fetched")

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as Transfer
else:
    Transfer = action_loader.get("sauvegarde_transfer", class_only=True)


@dataclass(frozen=True)
class RestoreSource:
    """What is restored: paths of the archive and of the globals ('' if there are none) on the target, and the paths of
    the controller that have to be copied there first."""

    archive: str
    globals: str = ""
    copied: tuple[str, ...] = ()

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> RestoreSource:
        """Return the source that the arguments name. Raises AnsibleActionFail if they name none."""
        if arguments.get("fetched"):
            archive, roles = (arguments["fetched"].get(key) or {} for key in ("archive", "globals"))
            return cls(archive["path"], roles.get("path", ""))
        if arguments.get("chosen"):
            copies = [str(COPIES / name) for name in arguments["chosen"]["names"]]
            return cls._copied(copies, arguments["directory"])
        roles = arguments.get("globals") or ""
        if arguments.get("file"):
            parts = file_parts(arguments["file"])
            return cls._copied([parts[0], *filter(None, [roles])], arguments["directory"], parts[1:])
        if arguments.get("path"):
            return cls(arguments["path"], roles)
        raise AnsibleActionFail("Name the source of the restore: one of chosen, fetched, file and path.")

    @classmethod
    def _copied(cls, paths: list[str], directory: str, other_parts: Iterable[str] = ()) -> RestoreSource:
        """Return the source whose archive, globals if there are some, and other parts of the archive are copied."""
        places = [f"{directory}/{CARRIED}/{Path(path).name}" for path in paths]
        return cls(places[0], "".join(places[1:]), (*paths, *other_parts))


def file_parts(path: str) -> list[str]:
    """Return the paths of all parts of a split file, as the engine finds them on a target; others stay as they are.

    Raises AnsibleActionFail for a later part, and for a series with a gap.
    """
    if Path(path).is_dir():
        return [str(path)]
    try:
        paths, _ = split_files.parts(Path(path))
    except SauvegardeError as error:
        raise AnsibleActionFail(" ".join(filter(None, (error.what, error.why, error.fix)))) from error
    return [str(part) for part in paths] or [str(path)]


class ActionModule(Transfer):
    def _work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Copy, and return the paths on the target."""
        arguments = self._task.args
        if set(arguments) - set(ARGUMENTS) or not arguments.get("directory"):
            raise AnsibleActionFail(f"sauvegarde_restore_source takes {', '.join(ARGUMENTS)}; directory is required.")
        source = RestoreSource.from_arguments(arguments)
        moved = 0
        for path in source.copied if not self._task.check_mode else ():
            self._carried = 0
            moved += self._push(path, f"{arguments['directory']}/{CARRIED}/{Path(path).name}")
        places = {"archive": source.archive, "globals": source.globals}
        return {"changed": bool(moved), "bytes": moved, **places}
