# GNU General Public License v3.0+ (see LICENSE)
"""Wait for a swap, which may have to wait for sessions to go, more than once."""

from ansible.plugins.loader import action_loader


class ActionModule(action_loader.get("sauvegarde_waiting", class_only=True)):
    pass
