# GNU General Public License v3.0+ (see LICENSE)
"""Run the module of the same name, with the complete engine sent along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.plugins.action.normal import ActionModule as Normal
from ansible.plugins.loader import action_loader

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as WithEngine

else:
    WithEngine = action_loader.get("sauvegarde_with_engine", class_only=True)


class ActionModule(WithEngine, Normal):
    """Run the module of the same name."""
