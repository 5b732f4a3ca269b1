# GNU General Public License v3.0+ (see LICENSE)
"""Wait for what leaves a source, as for a plan: an archive may have to be restored for it."""

from ansible.plugins.loader import action_loader


class ActionModule(
    action_loader.get("sauvegarde_with_engine", class_only=True),
    action_loader.get("sauvegarde_waiting", class_only=True),
):
    pass
