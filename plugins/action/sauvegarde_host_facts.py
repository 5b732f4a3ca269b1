# GNU General Public License v3.0+ (see LICENSE)
"""Wait for the facts of a host, whose repositories may be far away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.plugins.loader import action_loader

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as Base
else:
    Base = action_loader.get("sauvegarde_waiting", class_only=True)


class ActionModule(Base):
    """Run the module of the same name."""
