# GNU General Public License v3.0+ (see LICENSE)
"""Wait for an archive that is fetched."""

from ansible.plugins.loader import action_loader


class ActionModule(action_loader.get("sauvegarde_waiting", class_only=True)):
    pass
