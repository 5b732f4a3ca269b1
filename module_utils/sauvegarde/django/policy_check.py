"""Check that a masking policy fits the models of a site: each field of each dumped model is classified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import SauvegardeError
from .field_masks import MASKS
from .fixture_stream import NUMBERED
from .policy_actions import (
    ASK,
    DROP,
    EMPTY,
    KEEP,
    Description,
    Models,
    is_mask,
    is_question,
    mask_problem,
    masks_any,
    tree_problem,
)


def described_model(description: Description, label: str) -> Mapping[str, Any]:
    """Return the facts of the model. Raises SauvegardeError for an unknown one: its personal fields are not known."""
    if label not in description:
        raise SauvegardeError(
            f"{label} cannot be masked.",
            "It is no model with a table in the site's database.",
            "Drop the rows that point to it, or empty the field, in the policy.",
        )
    return description[label]


def natural_key_fields(description: Description, field: Mapping[str, Any]) -> Any:
    """Return the natural key ([[label, field], …]) by which the relation is written: a proxy's own, if it has one.

    [] is a computed natural key; None means that the relation is written as a number.
    """
    if "natural_key" in field:
        return field["natural_key"]
    return described_model(description, field["relation"][0])["natural_key"]


class PolicyCheck:
    """Compares the rules of a policy with the description of the models. `dependence`: of the same description."""

    def __init__(self, models: Models, description: Description, dependence: Mapping[tuple[str, str], str]) -> None:
        self._models, self._description, self._dependence = models, description, dependence

    def check(self, labels: Iterable[str]) -> None:
        """Raise SauvegardeError with all problems of the models that will be dumped."""
        problems = [problem for label in labels for problem in self._model_problems(label)]
        if problems:
            raise SauvegardeError(
                "The masking policy does not fit the site's models: nothing was dumped.",
                "\n".join(problems),
                "Classify each of them in the policy: keep, empty, {mask: HOW} (HOW one of "
                + ", ".join(MASKS)
                + "), or drop for a whole model.",
            )

    def _model_problems(self, label: str) -> list[str]:
        rules, facts = self._models.get(label), self._description[label]
        if rules is None:
            return [f"{label}: the model is not in the policy"]
        if rules == DROP:
            return []
        if not isinstance(rules, dict):
            return [f"{label}: neither “drop” nor a list of its fields"]
        problems = {
            name: self._field_problem(label, name, field, rules.get(name)) for name, field in facts["fields"].items()
        }
        return [f"{label}.{name}: {problem}" for name, problem in sorted(problems.items()) if problem]

    def _field_problem(self, label: str, name: str, field: Mapping[str, Any], action: Any) -> str:
        """Return why the field cannot have the action, "" if it can."""
        if action is None:
            return "the field is not in the policy"
        if is_question(action):
            return f"a person must decide: {action[ASK]}" if isinstance(action, dict) else "a person must decide"
        if action != KEEP and field.get("tree"):
            return tree_problem(field)
        if action == EMPTY:
            return _empty_problem(field)
        if action == KEEP:
            return self._relation_problem(field) if field.get("relation") else ""
        if is_mask(action):
            return mask_problem(field, action["mask"], self._dependence.get((label, name), ""))
        return f"“{action}” is not an action"

    def _relation_problem(self, field: Mapping[str, Any]) -> str:
        """Return why a relation cannot be kept: the key or the natural key of its target would leave with it."""
        label = field["relation"][0]
        if self._models.get(label) == DROP:
            return f"it points to {label}, whose rows are dropped: empty it, or drop these rows too"
        if label in NUMBERED:
            return ""
        if label not in self._description:
            return f"it points to {label}, which has no table in this database: empty it, or drop these rows"
        natural = natural_key_fields(self._description, field)
        for other in [label, *(part[0] for part in natural or ())]:
            if not isinstance(self._models.get(other), dict) and other not in NUMBERED:
                return f"it points to {other}, which the policy says nothing about"
        if natural == [] and masks_any(self._models, self._description, label):
            return f"the natural key of {label} is masked in a way that cannot be followed"
        return ""


def _empty_problem(field: Mapping[str, Any]) -> str:
    if field["pk"] or (field["unique"] and not field["null"] and not field.get("many")):
        return "a field that must be unique cannot be empty"
    if field.get("relation") and not field["null"] and not field.get("many"):
        return "a relation that must not be NULL cannot be empty"
    return ""
