"""Remove personal data from the files of fixture sets, unless a set keeps it explicitly.

These files go to git, which never forgets them. A reference to a person is therefore emptied, or, if it must not be
empty, written as the number that stock `dumpdata` writes; e-mail addresses, telephone numbers and tokens are emptied.
A field that allows neither, and a row that is itself a person, is refused until the set's `masks` decide about it: they
keep single fields, empty them, write them as numbers or mask them as a masking policy does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import SauvegardeError
from .dependent_fields import dependence
from .fixture_set import NUMBER, PRIVATE, FixtureSet, choices
from .fixture_stream import NUMBERED
from .name_hints import is_account_data, is_of_people, mask_by_name
from .policy_actions import EMPTY, KEEP, PUBLIC, Description, is_mask, mask_problem, masks_any, parse_key

# The action of a reference to something that the sets mask: it is written as the masked object is.
FOLLOW = "follow"

_OF_PEOPLE = ("password", "username", "first_name", "last_name", "date")
_EMPTIED = ("email", "phone", "token", "name", *_OF_PEOPLE)
# French sites use “nom” for any name.
_ANY_NAME = ("nom",)

Actions = dict[str, dict[str, Any]]  # {label: {field: action}}


def require_key(sets: Iterable[Mapping[str, Any]], key: str) -> None:
    """Raise if the sets (`fixture_sets.checked`) have masks that need a secret key, and the key is not valid."""
    masked = sorted(
        f"{fixture_set.name}: {label}.{name} ({action['mask']})"
        for fixture_set in map(FixtureSet.from_dict, sets)
        for label, rules in fixture_set.masks.items()
        for name, action in rules.items()
        if is_mask(action)
    )
    if not masked:
        return
    if not key:
        raise SauvegardeError(
            "The masks of the fixture sets need a secret key.",
            "\n".join(masked),
            "Give migrate_key in the inventory (key of sauvegarde_fixtures), or the job's key_file: the key of the "
            "masking policy, so that what is masked is the same in sets and in migrations.",
        )
    parse_key(key, "migrate_key or the job's key_file")


def actions(description: Description, sets: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> Actions:
    """Return {label: {field: "empty", "number", {"mask": HOW} or "follow"}} for the models `labels` of the sets
    (`fixture_sets.checked`); all other fields are as stock writes them.

    Raises if a set says too little, or if two sets disagree about a model that both hold.
    """
    site, chosen = _SitePrivacy(description), [FixtureSet.from_dict(values) for values in sets]
    result: Actions = {}
    problems: list[str] = []
    for label in labels:
        by_set: dict[str, dict[str, Any]] = {}
        for fixture_set in chosen:
            if fixture_set.holds(label):
                by_set[fixture_set.name], sentences_of_set = site.rules(label, fixture_set)
                problems += [f"Set {fixture_set.name}: {sentence}" for sentence in sentences_of_set]
        rules = next(iter(by_set.values()), {})
        if any(other != rules for other in by_set.values()):
            problems.append("The sets {} do not agree about {}.".format(", ".join(sorted(by_set)), label))
        if rules:
            result[label] = rules
    problems += _unknown(description, chosen)
    if any(is_mask(action) for rules in result.values() for action in rules.values()):
        problems += site.add_follow(result, labels)
    if problems:
        raise SauvegardeError(
            "The fixture sets would hold people's data, or their masks do not fit the site: nothing was written.",
            "\n".join(problems),
            "Give the set “masks: {application.model: {field: ACTION}}” (ACTION one of "
            + choices()
            + "), name the models without these, or say “people: keep” for a set that may hold people's data.",
        )
    return result


def sentences(chosen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return, for people, what the files do not hold as the database does. `chosen`: as `actions` returns it."""
    return [
        f"{label}.{name} {_sentence(action)} in the sets."
        for label, rules in sorted(chosen.items())
        for name, action in sorted(rules.items())
    ]


_SENTENCES = {EMPTY: "is empty", NUMBER: "is written as a number", FOLLOW: "follows the mask of what it refers to"}


def _sentence(action: Any) -> str:
    if is_mask(action):
        return "is masked ({mask})".format(**action)
    return _SENTENCES[action]


def masked_names(rules: Mapping[str, Any]) -> list[str]:
    """Return the fields of one model (of `actions`) that hold neither the database's values nor nothing in a set."""
    return sorted(name for name, action in rules.items() if action == FOLLOW or is_mask(action))


def without_masked(
    entry: dict[str, Any], chosen: Mapping[str, Mapping[str, Any]], many: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Return the object without the values of masked fields, to compare a set with the database that has them all.

    `chosen`: as `actions` returns it; `many`: {label: names of the many-to-many fields}.
    """
    label = entry["model"].lower()
    masked = masked_names(chosen.get(label, {}))
    if not masked:
        return entry
    blank: dict[str, Any] = {
        name: [] if name in many.get(label, ()) else None for name in masked if name in entry["fields"]
    }
    return dict(entry, fields=dict(entry["fields"], **blank))


class _SitePrivacy:
    """Finds the people in the models of a site."""

    def __init__(self, description: Description) -> None:
        self.models = description
        self._dependence = dependence(description)

    def rules(self, label: str, fixture_set: FixtureSet) -> tuple[dict[str, Any], list[str]]:
        """Return ({field: action}, problems) of one model in one set."""
        fields = self.models[label]["fields"]
        stated = fixture_set.rules_of(label)
        rules = dict(stated)
        problems = []
        for name, action in stated.items():
            problem = self._problem(label, name, action) if name in fields else ""
            if problem:
                problems.append(f"{label}.{name}: {problem}")
        if fixture_set.people == PRIVATE:
            if self._is_people(label) and not stated:
                problems.append(f"{label}: its rows are people")
            for name, field in fields.items():
                if name not in stated and self._leads_to_people(field, name, label):
                    rules[name] = self._default_action(field)
                    if not rules[name]:
                        problems.append(f"{label}.{name}: it leads to people, and can be neither empty nor a number")
        return {name: action for name, action in rules.items() if action not in (KEEP, PUBLIC)}, problems

    def _problem(self, label: str, name: str, action: Any) -> str:
        """Return why the field cannot have the action, "" if it can."""
        field = self.models[label]["fields"][name]
        if is_mask(action):
            if field["pk"]:
                return "a set's rows are recognised by their keys, which it cannot mask"
            return mask_problem(field, action["mask"], self._dependence.get((label, name), ""))
        if action == NUMBER and not field["relation"]:
            return "only a reference can be a number"
        if action == EMPTY and not _may_be_empty(field):
            return "it must not be empty"
        return ""

    def add_follow(self, rules: Actions, labels: Iterable[str]) -> list[str]:
        """Add “follow” to the rules of references to masked fields; return sentences about those that cannot."""
        masks = {
            label: {name: action for name, action in rules.get(label, {}).items() if is_mask(action)}
            for label in self.models
        }
        problems = []
        for label in labels:
            for name, field in self.models[label]["fields"].items():
                action = rules.get(label, {}).get(name, KEEP)
                if not field["relation"] or action == EMPTY or field["relation"][0] in NUMBERED:
                    continue
                if action == NUMBER:
                    if self._is_masked(masks, *field["relation"]):
                        problems.append(f"{label}.{name}: it cannot be a number, since what it refers to is masked")
                    continue
                parts = self._natural_key(field)
                if parts == [] and masks_any(masks, self.models, field["relation"][0]):
                    problems.append(f"{label}.{name}: it refers by a computed key, maybe to what is masked: empty it")
                elif any(self._is_masked(masks, *part) for part in [field["relation"], *(parts or ())]):
                    rules.setdefault(label, {})[name] = FOLLOW
        return problems

    def _natural_key(self, field: Mapping[str, Any]) -> Any:
        """Return the parts of the natural key of a relation's target: [] if it is computed, None if there is none."""
        if "natural_key" in field:
            return field["natural_key"]
        return self.models.get(field["relation"][0], {}).get("natural_key")

    def _field(self, label: str, name: str) -> Mapping[str, Any] | None:
        field: Mapping[str, Any] | None = self.models.get(label, {}).get("fields", {}).get(name)
        return field

    def _is_masked(self, masks: Mapping[str, Mapping[str, Any]], label: str, name: str) -> bool:
        """Return whether the field, or the field that it refers to, has a mask."""
        if name in masks.get(label, {}):
            return True
        field = self._field(label, name)
        if field is None or not field["relation"] or field["relation"] == [label, name]:
            return False
        return self._is_masked(masks, *field["relation"])

    def _default_action(self, field: Mapping[str, Any]) -> str:
        if field["relation"] and not field["null"] and not field["many"]:
            return "" if self._identifies_person(*field["relation"]) else NUMBER
        return EMPTY if _may_be_empty(field) else ""

    def _is_people(self, label: str) -> bool:
        """Return whether the model's rows are people, or belong to one account."""
        facts = self.models.get(label)
        if facts is None:
            return False
        own = any(mask_by_name(field, name, label) in _OF_PEOPLE for name, field in facts["fields"].items())
        return bool(facts.get("user")) or own or is_account_data(label)

    def _leads_to_people(self, field: Mapping[str, Any], name: str, label: str) -> bool:
        """Return whether a fixture's value of the field says who a person is."""
        relation = field["relation"]
        if not relation:
            return _is_personal(field, name, label)
        if field["pk"] or relation[0] in NUMBERED or relation[0] not in self.models:
            return False
        if self._is_people(relation[0]) or self._identifies_person(*relation):
            return True
        parts = self._natural_key(field)
        if parts == []:
            return self._touches_people(relation[0], set())
        return any(self._identifies_person(*part) for part in parts or ())

    def _identifies_person(self, label: str, name: str) -> bool:
        """Return whether the model's field, or the field that it refers to, holds a text that names a person."""
        field = self._field(label, name)
        if field is None:
            return False
        if field["relation"]:
            return field["relation"] != [label, name] and self._identifies_person(*field["relation"])
        if _is_personal(field, name, label):
            return True
        return bool(field.get("text")) and self._is_people(label)

    def _touches_people(self, label: str, seen: set[str]) -> bool:
        """Return whether the model or what it refers to is of people: for a natural key that is computed."""
        if label in seen or label not in self.models:
            return False
        seen.add(label)
        fields = self.models[label]["fields"]
        own = [name for name, field in fields.items() if not field["relation"]]
        if self._is_people(label) or any(self._identifies_person(label, name) for name in own):
            return True
        targets = [field["relation"][0] for field in fields.values() if field["relation"]]
        return any(self._touches_people(target, seen) for target in targets)


def _is_personal(field: Mapping[str, Any], name: str, label: str) -> bool:
    how = mask_by_name(field, name, label)
    return bool(field.get("email")) or (how in _EMPTIED and not is_any_name(name, label))


def is_any_name(name: str, label: str) -> bool:
    """Return whether the field's name suggests people's names, though it holds names of other things."""
    return name in _ANY_NAME and not is_of_people(label)


def _may_be_empty(field: Mapping[str, Any]) -> bool:
    if field["pk"] or field.get("tree"):
        return False
    if field["null"] or field["many"]:
        return True
    return not field["relation"] and not field["unique"]


def _unknown(description: Description, sets: Iterable[FixtureSet]) -> list[str]:
    """Return sentences about masks that name what the set does not hold."""
    problems = []
    for fixture_set in sets:
        for label, rules in fixture_set.masks.items():
            facts = description.get(label.lower())
            if facts is None or not fixture_set.holds(label):
                problems.append(f"Set {fixture_set.name}: its masks name {label}, which it does not hold")
                continue
            problems += [
                f"Set {fixture_set.name}: its masks name {label}.{name}, which is no field of it"
                for name in rules
                if name not in facts["fields"]
            ]
    return problems
