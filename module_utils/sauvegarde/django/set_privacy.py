"""Decide what of people's data the files of fixture sets hold: nothing, unless a set asks for it.

These files go to git, where anybody may read them for ever. A reference to a person is therefore emptied, or written as
the number that the site's own `dumpdata` writes where it must not be empty; e-mail addresses, telephones and tokens are
emptied. What can be neither, and rows that are people themselves, are refused until the set says what to do.
"""

from typing import Any, Dict, List, Set, Tuple

from ..errors import SauvegardeError
from .fixture_stream import NUMBERED
from .masking import (
    EMPTY,
    KEEP,
    Empty,
    Field,
    is_account_data,
    is_of_people,
    mask_by_name,
)

NUMBER = "number"
ACTIONS = (KEEP, EMPTY, NUMBER)
# Whether a set keeps the people's data that it holds.
PRIVATE = "private"
CHOICES = (PRIVATE, KEEP)

_OF_PEOPLE = ("password", "username", "first_name", "last_name", "date")
_EMPTIED = ("email", "phone", "token", "name", *_OF_PEOPLE)
# “nom” is what French sites call any name.
_ANY_NAME = ("nom",)


def actions(description: Dict[str, Any], sets: List[Dict[str, Any]], labels: List[str]) -> Dict[str, Dict[str, str]]:
    """{label: {field: "empty" or "number"}} for the models `labels` of the sets (`sets.checked`); as stock without.

    Raises where a set says too little, or two sets do not agree about a model that both hold.
    """
    site, found, problems = _Site(description), {}, []
    for label in labels:
        answers = {}
        for each in sets:
            if any(names(name, label) for name in each["models"]):
                rules, wrong = site.rules(label, each)
                problems += ["Set {}: {}".format(each["name"], sentence) for sentence in wrong]
                answers[each["name"]] = rules
        rules = next(iter(answers.values()), {})
        if any(other != rules for other in answers.values()):
            problems.append("The sets {} do not agree about {}.".format(", ".join(sorted(answers)), label))
        if rules:
            found[label] = rules
    problems += _unknown(description, sets)
    if problems:
        raise SauvegardeError(
            "The fixture sets would hold people's data, or their masks do not fit the site: nothing was written.",
            "\n".join(problems),
            "Give the set “masks: {application.model: {field: ACTION}}” (ACTION one of "
            + ", ".join(ACTIONS)
            + "), name the models without these, or say “people: keep” for a set that may hold people's data.",
        )
    return found


def sentences(found: Dict[str, Dict[str, str]]) -> List[str]:
    """What the files do not hold as the database does, for people."""
    said = {EMPTY: "is empty in the sets", NUMBER: "is written as a number in the sets"}
    return [
        f"{label}.{name} {said[action]}."
        for label, rules in sorted(found.items())
        for name, action in sorted(rules.items())
    ]


def names(label: str, model: str) -> bool:
    """Whether a set's label (`app`, `app.Model`, `*`) names the model."""
    label, model = label.lower(), model.lower()
    return label in ("*", model, model.split(".")[0])


class Emptied:
    """The masks of one model's objects in a set; in the place of a `masking.Masking` where they are written."""

    def __init__(self, facts: Dict[str, Any], rules: Dict[str, str]) -> None:
        self.numbers = {name for name, action in rules.items() if action == NUMBER}
        self._masks = {name: _empty(facts["fields"][name]) for name, action in rules.items() if action == EMPTY}

    def mask(self, _label: str, name: str) -> Any:
        return self._masks.get(name)

    def entry(self, entry: Dict[str, Any], _natural_foreign: bool = True) -> Dict[str, Any]:
        fields = {
            name: self._masks[name](value) if name in self._masks else value for name, value in entry["fields"].items()
        }
        return dict(entry, fields=fields)


def _empty(field: Dict[str, Any]) -> Empty:
    facts = Field(field["unique"], field.get("max_length"), field["null"], field.get("empty", ""))
    return Empty(facts, field.get("many", False))


class _Site:
    """The site's models, seen for the people in them."""

    def __init__(self, description: Dict[str, Any]) -> None:
        self.models = description

    def rules(self, label: str, chosen: Dict[str, Any]) -> Tuple[Dict[str, str], List[str]]:
        """({field: action}, what is wrong) of one model in one set."""
        fields = self.models[label]["fields"]
        said = _said(chosen, label)
        wrong = [f"{label}.{name}: {self._problem(fields[name], action)}" for name, action in said.items()
                 if name in fields and self._problem(fields[name], action)]  # fmt: skip
        found = dict(said)
        if chosen["people"] == PRIVATE:
            if self._is_people(label) and not said:
                wrong.append(f"{label}: its rows are people")
            for name, field in fields.items():
                if name not in said and self._leads_to_people(field, name, label):
                    found[name] = self._action(field)
                    if not found[name]:
                        wrong.append(f"{label}.{name}: it leads to people, and can be neither empty nor a number")
        return {name: action for name, action in found.items() if action != KEEP}, wrong

    def _problem(self, field: Dict[str, Any], action: str) -> str:
        """Why the action cannot be; an empty text where it can."""
        if action == NUMBER and not field["relation"]:
            return "only a reference can be a number"
        if action == EMPTY and not _may_be_empty(field):
            return "it must not be empty"
        return ""

    def _action(self, field: Dict[str, Any]) -> str:
        if field["relation"] and not field["null"] and not field["many"]:
            return "" if self._is_named_by(*field["relation"]) else NUMBER
        return EMPTY if _may_be_empty(field) else ""

    def _is_people(self, label: str) -> bool:
        """Whether the model's rows are people, or what belongs to one account."""
        facts = self.models.get(label)
        if facts is None:
            return False
        own = any(mask_by_name(field, name, label) in _OF_PEOPLE for name, field in facts["fields"].items())
        return bool(facts.get("user")) or own or is_account_data(label)

    def _leads_to_people(self, field: Dict[str, Any], name: str, label: str) -> bool:
        """Whether what a fixture holds for the field says who a person is."""
        relation = field["relation"]
        if not relation:
            return _is_personal(field, name, label)
        if field["pk"] or relation[0] in NUMBERED or relation[0] not in self.models:
            return False
        if self._is_people(relation[0]) or self._is_named_by(*relation):
            return True
        parts = field["natural_key"] if "natural_key" in field else self.models[relation[0]]["natural_key"]
        if parts == []:
            return self._touches_people(relation[0], set())
        return any(self._is_named_by(*part) for part in parts or ())

    def _is_named_by(self, label: str, name: str) -> bool:
        """Whether the model's field holds a text that names a person, itself or where it leads to."""
        field = self.models.get(label, {}).get("fields", {}).get(name)
        if field is None:
            return False
        if field["relation"]:
            return field["relation"] != [label, name] and self._is_named_by(*field["relation"])
        if _is_personal(field, name, label):
            return True
        return bool(field.get("text")) and self._is_people(label)

    def _touches_people(self, label: str, seen: Set[str]) -> bool:
        """Whether the model or what it points to is of people: for a natural key that is computed."""
        if label in seen or label not in self.models:
            return False
        seen.add(label)
        fields = self.models[label]["fields"]
        if self._is_people(label) or any(
            self._is_named_by(label, name) for name, f in fields.items() if not f["relation"]
        ):
            return True
        return any(self._touches_people(f["relation"][0], seen) for f in fields.values() if f["relation"])


def _is_personal(field: Dict[str, Any], name: str, label: str) -> bool:
    how = mask_by_name(field, name, label)
    return bool(field.get("email")) or (how in _EMPTIED and (name not in _ANY_NAME or is_of_people(label)))


def _may_be_empty(field: Dict[str, Any]) -> bool:
    if field["pk"] or field.get("tree"):
        return False
    if field["null"] or field["many"]:
        return True
    return not field["relation"] and not field["unique"]


def _said(chosen: Dict[str, Any], label: str) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for name, rules in chosen["masks"].items():
        if name.lower() == label:
            found.update(rules)
    return found


def _unknown(description: Dict[str, Any], sets: List[Dict[str, Any]]) -> List[str]:
    """Sentences about masks that name what the set does not hold."""
    wrong = []
    for each in sets:
        for label, rules in each["masks"].items():
            facts = description.get(label.lower())
            if facts is None or not any(names(name, label) for name in each["models"]):
                wrong.append("Set {}: its masks name {}, which it does not hold".format(each["name"], label))
                continue
            wrong += [
                "Set {}: its masks name {}.{}, which is no field of it".format(each["name"], label, name)
                for name in rules
                if name not in facts["fields"]
            ]
    return wrong
