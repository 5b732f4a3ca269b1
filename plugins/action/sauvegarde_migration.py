# GNU General Public License v3.0+ (see LICENSE)
"""Wait for a detached migration, as for a restore."""

from ansible.plugins.loader import action_loader


class ActionModule(
    action_loader.get("sauvegarde_with_engine", class_only=True),
    action_loader.get("sauvegarde_restore", class_only=True),
):
    MODULE = "sauvegarde_migration"
    DIRECTORY = "/var/lib/sauvegarde/migrations"
