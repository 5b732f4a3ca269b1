# GNU General Public License v3.0+ (see LICENSE)
"""Wait for an archive that is fetched, as for a plan."""

from ansible.plugins.loader import action_loader


class ActionModule(action_loader.get("sauvegarde_plan", class_only=True)):
    pass
