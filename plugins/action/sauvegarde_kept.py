# GNU General Public License v3.0+ (see LICENSE)
"""Wait for a kept database that is removed: one of many files takes its time."""

from ansible.plugins.loader import action_loader


class ActionModule(action_loader.get("sauvegarde_waiting", class_only=True)):
    pass
