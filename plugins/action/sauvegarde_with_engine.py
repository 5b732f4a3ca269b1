# GNU General Public License v3.0+ (see LICENSE)
"""Send the complete engine along with a module, as its argument `engine`: the base of other action plugins.

Ansible sends only what a module imports. These modules install the engine, or run a part of it inside a site.

This plugin has no module of its own. The others find it with Ansible's plugin loader: plugins that lie beside
playbooks, outside a collection, cannot be imported in another way.
"""

from __future__ import annotations

import base64
import functools
import io
import zipfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

ENGINE = Path(__file__).resolve().parents[2] / "module_utils" / "sauvegarde"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest of a zip file; equal files give an equal archive


@functools.cache
def engine_archive(folder: Path = ENGINE) -> str:
    """Return every Python file of the engine in a zip archive, as base64."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


class ActionModule(ActionBase):
    """Combine it with the plugin that runs the module: `class ActionModule(this, that)`."""

    def _execute_module(
        self, module_name: str | None = None, module_args: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        arguments = self._task.args if module_args is None else module_args
        if arguments.get("state") != "asked":  # a job that runs is asked every few seconds
            arguments = dict(arguments, engine=engine_archive())
        result: dict[str, Any] = super()._execute_module(module_name=module_name, module_args=arguments, **options)
        return result
