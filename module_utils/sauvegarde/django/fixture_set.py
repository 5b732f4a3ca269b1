"""Describe one fixture set: its models, its file, and what it says about people's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import SauvegardeError
from .field_masks import MASKS
from .policy_actions import EMPTY, KEEP, PUBLIC, is_mask

# A reference is written as the number that it is in the database, as stock `dumpdata` does.
NUMBER = "number"
ACTIONS = (KEEP, PUBLIC, EMPTY, NUMBER)
# Whether a set keeps the people's data that it holds.
PRIVATE = "private"
CHOICES = (PRIVATE, KEEP)

_OPTIONS = ("name", "file", "models", "indent", "people", "masks", "kept_words", "not_searched")


def choices() -> str:
    """Return the actions that a set may give a field, for people."""
    return ", ".join(ACTIONS) + ", {mask: HOW} (HOW one of " + ", ".join(MASKS) + ")"


def is_action(action: Any) -> bool:
    """Return whether a set may give the action to a field."""
    return (isinstance(action, str) and action in ACTIONS) or is_mask(action)


def names(label: str, model: str) -> bool:
    """Return whether a set's label (`app`, `app.Model`, `*`) names the model."""
    label, model = label.lower(), model.lower()
    return label in ("*", model, model.split(".")[0])


@dataclass(frozen=True)
class FixtureSet:
    """A named group of models that is exported to one file."""

    name: str
    file: str  # a path inside the sets' folder
    models: list[str]  # `app`, `app.Model` or `*`
    people: str  # one of CHOICES
    masks: Mapping[str, Mapping[str, Any]]  # {app.model: {field: action}}
    kept_words: list[str] = field(default_factory=list)  # as in a masking policy
    not_searched: list[str] = field(default_factory=list)  # as in a masking policy
    indent: int | None = None  # spaces; None writes one object a line

    @classmethod
    def from_values(cls, values: Mapping[str, Any], people: str) -> FixtureSet:
        """Return the set that a user describes. `people`: the default. SauvegardeError if anything is wrong."""
        unknown = sorted(set(values) - set(_OPTIONS))
        if unknown or not values.get("name") or not values.get("models"):
            raise SauvegardeError(
                f"A fixture set is not right: {values}",
                "Not known: {}.".format(", ".join(unknown)) if unknown else "",
                "A set has a name and models, and may have a file, indent, people, masks, kept_words and not_searched.",
            )
        fixture_set = cls(
            name=values["name"],
            file=values.get("file") or values["name"] + ".json",
            models=list(values["models"]),
            people=values.get("people") or people,
            masks=_masks(values),
            kept_words=list(values.get("kept_words") or ()),
            not_searched=list(values.get("not_searched") or ()),
            indent=values.get("indent"),
        )
        fixture_set._check()
        return fixture_set

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FixtureSet:
        """Return the set that `as_dict` has written."""
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the set as manifests have it: without what it does not say."""
        values: dict[str, Any] = {
            "name": self.name,
            "file": self.file,
            "models": list(self.models),
            "people": self.people,
            "masks": {label: dict(rules) for label, rules in self.masks.items()},
        }
        if self.kept_words:
            values["kept_words"] = list(self.kept_words)
        if self.not_searched:
            values["not_searched"] = list(self.not_searched)
        if self.indent is not None:
            values["indent"] = self.indent
        return values

    def holds(self, model: str) -> bool:
        """Return whether the model belongs to the set."""
        return any(names(label, model) for label in self.models)

    def rules_of(self, model: str) -> dict[str, Any]:
        """Return {field: action} of what the set says about the model (in lower case)."""
        rules: dict[str, Any] = {}
        for label, actions in self.masks.items():
            if label.lower() == model:
                rules.update(actions)
        return rules

    def _check(self) -> None:
        if self.people not in CHOICES:
            raise SauvegardeError(
                f"The fixture set {self.name} cannot have people: {self.people}.",
                fix="Use one of: {}.".format(", ".join(CHOICES)),
            )
        if not _is_inside(self.file) or not self.file.endswith((".json", ".jsonl")):
            raise SauvegardeError(
                f"The file of the fixture set {self.name} cannot be {self.file}.",
                fix="Use a path inside the folder of the sets that ends in .json or .jsonl.",
            )
        if self.indent is not None and (not isinstance(self.indent, int) or self.file.endswith(".jsonl")):
            raise SauvegardeError(
                f"The fixture set {self.name} cannot be indented.",
                fix="Give indent as a number of spaces, for a file that ends in .json.",
            )


def _masks(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    masks = values.get("masks") or {}
    if not isinstance(masks, dict) or not all(isinstance(rules, dict) for rules in masks.values()):
        problems = [str(masks)]
    else:
        problems = [
            f"{label}.{name}: “{action}” is not an action"
            for label, rules in masks.items()
            for name, action in rules.items()
            if not is_action(action)
        ]
    if problems:
        raise SauvegardeError(
            "The masks of the fixture set {} are not right.".format(values["name"]),
            "\n".join(problems),
            "Give them as {application.model: {field: ACTION}}, ACTION one of " + choices() + ".",
        )
    return {label: dict(rules) for label, rules in masks.items()}


def _is_inside(file: str) -> bool:
    parts = file.split("/")
    return not any(part in ("", ".", "..") or part.startswith(".git") for part in parts)
