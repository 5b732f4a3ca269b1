# GNU General Public License v3.0+ (see LICENSE)
"""Wait for what leaves a source, as for a plan: an archive may have to be restored for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.plugins.loader import action_loader

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as WithEngine

    class Waiting(WithEngine): ...

else:
    WithEngine = action_loader.get("sauvegarde_with_engine", class_only=True)
    Waiting = action_loader.get("sauvegarde_waiting", class_only=True)


class ActionModule(WithEngine, Waiting):
    """Run the module of the same name."""
