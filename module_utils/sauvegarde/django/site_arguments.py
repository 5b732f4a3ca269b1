"""Declare the arguments that the modules of Django data share, and read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import site

SITE: dict[str, Any] = {
    "site": {
        "type": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "settings": {"type": "str", "required": True},
            "env_file": {"type": "path", "default": ""},
            "user": {"type": "str", "default": ""},
            "database": {"type": "str", "default": "default"},
        },
    },
}


def described(parameters: Mapping[str, Any]) -> site.Site:
    """Return the Site of a module's parameters."""
    return site.site(parameters["site"])


def present(parameters: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return {name: value} of those parameters that are set."""
    return {name: parameters[name] for name in names if parameters[name] is not None}
