# GNU General Public License v3.0+ (see LICENSE)
"""Wait for a detached migration, as for a restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.plugins.loader import action_loader

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as WithEngine

    class Restore(WithEngine): ...

else:
    WithEngine = action_loader.get("sauvegarde_with_engine", class_only=True)
    Restore = action_loader.get("sauvegarde_restore", class_only=True)


class ActionModule(WithEngine, Restore):
    """Run the module of the same name."""

    MODULE = "sauvegarde_migration"
    DIRECTORY = "/var/lib/sauvegarde/migrations"
