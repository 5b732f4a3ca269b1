"""Declare the arguments that the migration's modules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..django import fixture_sets
from ..django import site_arguments as django
from ..errors import SauvegardeError
from ..restore import restore_arguments as restore
from .migration_request import DIRECTORY

DECIDED = ("by", "date", "note")
LABELS: dict[str, Any] = {
    "labels": {"type": "list", "elements": "str", "default": []},
    "sets": {"type": "list", "elements": "str", "default": []},
    "fixture_sets": {"type": "list", "elements": "dict", "default": []},
}
CHOICE: dict[str, Any] = {
    "exclude": {"type": "list", "elements": "str", "default": []},
    "include": {"type": "list", "elements": "str", "default": []},
    "hidden": {"type": "str", "choices": ["travel", "stay"], "default": "travel"},
}
TARGET: dict[str, Any] = dict(
    dict(django.SITE, **LABELS, **CHOICE),
    directory={"type": "path", "default": DIRECTORY},
    server_directory=restore.DIRECTORY,
    connection=restore.CONNECTION,
    keeper={"type": "str", "default": ""},
    policy={"type": "dict", "default": {}},
    unknown={"type": "str", "choices": ["stop", "skip"], "default": "stop"},
    environment_of_host={"type": "str", "default": ""},
)
SOURCE: dict[str, Any] = dict(
    dict(django.SITE, **LABELS, **CHOICE),
    policy={"type": "dict", "default": {}},
    key={"type": "str", "default": "", "no_log": True},
    masking={"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    target_environment={"type": "str", "default": ""},
    target={"type": "str", "default": ""},
    decided={"type": "dict", "default": {}, "options": {name: {"type": "str", "default": ""} for name in DECIDED}},
    directory={"type": "path", "default": DIRECTORY},
    archive={"type": "path", "default": ""},
    plan_mark={"type": "str", "default": ""},
    keeper={"type": "str", "default": ""},
    server_directory=restore.DIRECTORY,
    connection=restore.CONNECTION,
    environment_of_host={"type": "str", "default": ""},
)


def about(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what migration_source.make and look need to know of the source, among a module's parameters."""
    return {
        "path": parameters["archive"],
        "keeper": parameters["keeper"],
        "connection": parameters["connection"],
        "server_directory": parameters["server_directory"],
        "environment": parameters["environment_of_host"],
    }


def labels(parameters: Mapping[str, Any]) -> list[str]:
    """Return the applications and models to move, those of the named fixture sets included; [] for the whole site."""
    models_of_set = {
        one["name"]: one["models"] for one in fixture_sets.checked(parameters["fixture_sets"] or fixture_sets.SETS)
    }
    unknown = sorted(set(parameters["sets"]) - set(models_of_set))
    if unknown:
        raise SauvegardeError(
            "There is no fixture set {}.".format(", ".join(unknown)),
            fix="Name one of: {}.".format(", ".join(models_of_set)),
        )
    chosen = list(parameters["labels"])
    for name in parameters["sets"]:
        chosen += models_of_set[name]
    return [] if "*" in chosen else chosen  # the whole site, as for sets.export


def request_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a MigrationRequest among a module's parameters."""
    values = {name: parameters[name] for name in TARGET if name not in LABELS}
    return dict(values, labels=labels(parameters))
