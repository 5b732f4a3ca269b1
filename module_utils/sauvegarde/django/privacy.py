"""Decide what of people's data the files of fixture sets hold: nothing, unless a set asks for it.

These files go to git, where anybody may read them for ever. A reference to a person is therefore emptied, or written as
the number that the site's own `dumpdata` writes where it must not be empty; e-mail addresses, telephones and tokens are
emptied. What can be neither, and rows that are people themselves, are refused until the set says what to do: its
`masks` keep single fields, empty them, make numbers of them or mask them as a masking policy does.
"""

from typing import Any, Dict, List, Set, Tuple

from ..errors import SauvegardeError
from .dependence import dependence
from .fixture import NUMBERED
from .masking import (
    EMPTY,
    KEEP,
    MASKS,
    PUBLIC,
    is_account_data,
    is_mask,
    is_of_people,
    mask_by_name,
    mask_problem,
    masked_any,
    secret,
)

NUMBER = "number"
ACTIONS = (KEEP, PUBLIC, EMPTY, NUMBER)
# Of a reference to what the sets mask: it is written as the masked object is.
FOLLOW = "follow"
# Whether a set keeps the people's data that it holds.
PRIVATE = "private"
CHOICES = (PRIVATE, KEEP)

_OF_PEOPLE = ("password", "username", "first_name", "last_name", "date")
_EMPTIED = ("email", "phone", "token", "name", *_OF_PEOPLE)
# “nom” is what French sites call any name.
_ANY_NAME = ("nom",)


def choices() -> str:
    """The actions that a set may give a field, for people."""
    return ", ".join(ACTIONS) + ", {mask: HOW} (HOW one of " + ", ".join(MASKS) + ")"


def is_action(action: Any) -> bool:
    """Whether a set may give the action to a field."""
    return (isinstance(action, str) and action in ACTIONS) or is_mask(action)


def require_key(sets: List[Dict[str, Any]], key: str) -> None:
    """Raise where the sets (`sets.checked`) have masks that need a secret key, and the key is not right."""
    masked = sorted(
        "{}: {}.{} ({})".format(each["name"], label, name, action["mask"])
        for each in sets
        for label, rules in each["masks"].items()
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
    secret(key, "migrate_key or the job's key_file")


def actions(description: Dict[str, Any], sets: List[Dict[str, Any]], labels: List[str]) -> Dict[str, Dict[str, Any]]:
    """{label: {field: "empty", "number", {"mask": HOW} or "follow"}} for the models `labels` of the sets
    (`sets.checked`); all else is as stock writes it.

    Raises where a set says too little, or two sets do not agree about a model that both hold.
    """
    site, found, problems = _Site(description), {}, []  # type: Any, Dict[str, Dict[str, Any]], List[str]
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
    if any(is_mask(action) for rules in found.values() for action in rules.values()):
        problems += site.follow(found, labels)
    if problems:
        raise SauvegardeError(
            "The fixture sets would hold people's data, or their masks do not fit the site: nothing was written.",
            "\n".join(problems),
            "Give the set “masks: {application.model: {field: ACTION}}” (ACTION one of "
            + choices()
            + "), name the models without these, or say “people: keep” for a set that may hold people's data.",
        )
    return found


def sentences(found: Dict[str, Dict[str, Any]]) -> List[str]:
    """What the files do not hold as the database does, for people."""
    return [
        f"{label}.{name} {_sentence(action)} in the sets."
        for label, rules in sorted(found.items())
        for name, action in sorted(rules.items())
    ]


_SENTENCES = {EMPTY: "is empty", NUMBER: "is written as a number", FOLLOW: "follows the mask of what it refers to"}


def _sentence(action: Any) -> str:
    if is_mask(action):
        return "is masked ({mask})".format(**action)
    return _SENTENCES[action]


def masked_names(rules: Dict[str, Any]) -> List[str]:
    """The fields of one model (of `actions`) whose values in a set are not those of the database, nor empty."""
    return sorted(name for name, action in rules.items() if action == FOLLOW or is_mask(action))


def without_masked(entry: Dict[str, Any], found: Dict[str, Dict[str, Any]], many: Dict[str, Any]) -> Dict[str, Any]:
    """The object without the values of masked fields, for a comparison of a set with the database that has them all.

    `found`: as `actions`; `many`: {label: names of the many-to-many fields}.
    """
    label = entry["model"].lower()
    masked = masked_names(found.get(label, {}))
    if not masked:
        return entry
    blank = {name: [] if name in many.get(label, ()) else None for name in masked if name in entry["fields"]}
    return dict(entry, fields=dict(entry["fields"], **blank))


def names(label: str, model: str) -> bool:
    """Whether a set's label (`app`, `app.Model`, `*`) names the model."""
    label, model = label.lower(), model.lower()
    return label in ("*", model, model.split(".")[0])


class _Site:
    """The site's models, seen for the people in them."""

    def __init__(self, description: Dict[str, Any]) -> None:
        self.models = description
        self._dependence = dependence(description)

    def rules(self, label: str, chosen: Dict[str, Any]) -> Tuple[Dict[str, Any], List[str]]:
        """({field: action}, what is wrong) of one model in one set."""
        fields = self.models[label]["fields"]
        said = _said(chosen, label)
        problems = {
            name: self._problem(fields[name], action, self._dependence.get((label, name), ""))
            for name, action in said.items()
            if name in fields
        }
        wrong = [f"{label}.{name}: {problem}" for name, problem in problems.items() if problem]
        found = dict(said)
        if chosen["people"] == PRIVATE:
            if self._is_people(label) and not said:
                wrong.append(f"{label}: its rows are people")
            for name, field in fields.items():
                if name not in said and self._leads_to_people(field, name, label):
                    found[name] = self._action(field)
                    if not found[name]:
                        wrong.append(f"{label}.{name}: it leads to people, and can be neither empty nor a number")
        return {name: action for name, action in found.items() if action not in (KEEP, PUBLIC)}, wrong

    def _problem(self, field: Dict[str, Any], action: Any, depended: str) -> str:
        """Why the action cannot be; an empty text where it can. `depended`: why other rows depend on the field."""
        if is_mask(action):
            if field["pk"]:
                return "a set's rows are recognised by their keys, which it cannot mask"
            return mask_problem(field, action["mask"], depended)
        if action == NUMBER and not field["relation"]:
            return "only a reference can be a number"
        if action == EMPTY and not _may_be_empty(field):
            return "it must not be empty"
        return ""

    def follow(self, found: Dict[str, Dict[str, Any]], labels: List[str]) -> List[str]:
        """Add “follow” to `found` for references to what it masks; returns sentences about those that cannot."""
        wrong, masks = [], {}
        for label in self.models:
            masks[label] = {name: action for name, action in found.get(label, {}).items() if is_mask(action)}
        for label in labels:
            for name, field in self.models[label]["fields"].items():
                action = found.get(label, {}).get(name, KEEP)
                if not field["relation"] or action == EMPTY or field["relation"][0] in NUMBERED:
                    continue
                if action == NUMBER:
                    if self._is_masked(masks, *field["relation"]):
                        wrong.append(f"{label}.{name}: it cannot be a number, since what it refers to is masked")
                    continue
                parts = self._natural(field)
                if parts == [] and masked_any(masks, self.models, field["relation"][0], set()):
                    wrong.append(f"{label}.{name}: it refers by a computed key, maybe to what is masked: empty it")
                elif any(self._is_masked(masks, *part) for part in [field["relation"], *(parts or ())]):
                    found.setdefault(label, {})[name] = FOLLOW
        return wrong

    def _natural(self, field: Dict[str, Any]) -> Any:
        """The parts of the natural key by which a relation is written; [] of one that is computed, None without."""
        if "natural_key" in field:
            return field["natural_key"]
        return self.models.get(field["relation"][0], {}).get("natural_key")

    def _is_masked(self, masks: Dict[str, Dict[str, Any]], label: str, name: str) -> bool:
        """Whether the field has a mask, itself or where it leads to."""
        if name in masks.get(label, {}):
            return True
        field = self.models.get(label, {}).get("fields", {}).get(name)
        relation = field["relation"] if field else None
        return bool(relation) and relation != [label, name] and self._is_masked(masks, *relation)

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
        parts = self._natural(field)
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
    return bool(field.get("email")) or (how in _EMPTIED and not is_any_name(name, label))


def is_any_name(name: str, label: str) -> bool:
    """Whether the model's field has a name that a person's name may have, but holds those of other things."""
    return name in _ANY_NAME and not is_of_people(label)


def _may_be_empty(field: Dict[str, Any]) -> bool:
    if field["pk"] or field.get("tree"):
        return False
    if field["null"] or field["many"]:
        return True
    return not field["relation"] and not field["unique"]


def _said(chosen: Dict[str, Any], label: str) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
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
