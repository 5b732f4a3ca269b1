"""Declare the arguments that several modules share, once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .request import DIRECTORY as DEFAULT_DIRECTORY

CONNECTION: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "host": {"type": "str", "default": "/var/run/postgresql"},
        "port": {"type": "int", "default": 5432},
        "user": {"type": "str", "default": ""},
        "passfile": {"type": "path", "default": ""},
        "sslmode": {"type": "str", "default": ""},
        "sslrootcert": {"type": "str", "default": ""},
        "sslcert": {"type": "path", "default": ""},
        "sslkey": {"type": "path", "default": "", "no_log": False},
    },
}
DIRECTORY: dict[str, Any] = {"type": "path", "default": DEFAULT_DIRECTORY}
TARGET: dict[str, Any] = {
    "connection": CONNECTION,
    "directory": DIRECTORY,
    "database": {"type": "str", "required": True},
}
RESTORE: dict[str, Any] = dict(
    TARGET,
    path={"type": "path", "required": True},
    mode={"type": "str", "choices": ["swap", "beside"], "default": "swap"},
    file_database={"type": "str", "default": ""},
    globals={"type": "path", "default": ""},
    globals_roles={"type": "str", "choices": ["named", "all"], "default": "named"},
    missing_roles={"type": "str", "choices": ["refuse", "create"], "default": "refuse"},
    partial={"type": "str", "default": ""},
    owner={"type": "str", "default": ""},
    encoding={"type": "str", "default": ""},
    locale={"type": "str", "default": ""},
    jobs={"type": "int", "default": 0},
    accept_losses={"type": "list", "elements": "str", "default": []},
)
CONFIRMATION: dict[str, Any] = {
    "confirm": {"type": "str", "default": ""},
    "host": {"type": "str", "default": ""},
    "environment_of_host": {"type": "str", "default": ""},
    "production": {"type": "str", "default": ""},
    "targets": {"type": "int", "default": 1},
    "plan_mark": {"type": "str", "default": ""},
}


def request_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a RestoreRequest among a module's parameters."""
    return {name: parameters[name] for name in (*RESTORE, "plan_mark")}
