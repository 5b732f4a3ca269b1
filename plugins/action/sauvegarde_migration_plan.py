# GNU General Public License v3.0+ (see LICENSE)
"""Run the module of the same name, with the complete engine sent along."""

from ansible.plugins.action.normal import ActionModule as Normal
from ansible.plugins.loader import action_loader


class ActionModule(action_loader.get("sauvegarde_with_engine", class_only=True), Normal):
    pass
