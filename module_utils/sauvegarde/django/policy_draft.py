"""Draft a masking policy from the models of a site and from a sample of their values.

Where neither the name of a field nor its values decide, the draft asks a question, which stops a dump until a person
answers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import serialized
from .dependent_fields import dependence
from .fixture_stream import NUMBERED
from .name_hints import NUMBERS, is_personal
from .policy_actions import ASK, DROP, EMPTY, KEEP, Description, Models, masks_any
from .starting_policy import starting_policy

_KIND_WORDS = {
    "email": "e-mail addresses",
    "phone": "telephone numbers",
    "ip": "network addresses",
    "name": "names of known people",
    "word": "names of known people",
    "login": "login names",
    "address": "postal addresses",
    "key": "keys or tokens",
    "objects": "whole objects of other models, or lists of their changes",
}
_MASK_OF_KIND = {
    "email": "email",
    "phone": "phone",
    "ip": "ip",
    "name": "name",
    "word": "last_name",
    "login": "username",
    "address": "text",
    "key": "token",
}
# What the mask “scrub” takes out of a text.
_SCRUBBED = ("email", "phone", "name")
# The question about objects of other models; {} is the reason.
_OBJECTS = (
    "{}; “scrub” removes e-mail addresses, telephones and names of known people from them, and leaves what else the "
    "policy masks in those models (dates, user names, passwords): empty it, or drop these rows"
)
# A field is of a kind if so large a part of its values is.
_MOST = 0.8
# Fields whose values look like keys and are not.
_NO_KEYS = re.compile(r"guid|uuid|hash|checksum|digest|etag|sha\d|md5")
_SCRUB = {"mask": "scrub"}
# The types of fields whose values are read here.
_NUMBERS = (
    *("Auto", "BigAuto", "SmallAuto", "BigInteger", "Boolean", "NullBoolean", "Date", "DateTime", "Decimal"),
    *("Duration", "Float", "Integer", "PositiveBigInteger", "PositiveInteger", "PositiveSmallInteger", "UUID"),
    *("SmallInteger", "Time", "GenericIPAddress", "IPAddress"),
)
_TEXTS = (
    *("Char", "CIChar", "CIEmail", "CIText", "CommaSeparatedInteger", "Slug", "Text", "File", "FilePath", "JSON"),
    *("Binary", "Array", "HStore", "SearchVector"),
)
_RANGES = ("IntegerRange", "BigIntegerRange", "DecimalRange", "DateTimeRange", "DateRange", "FloatRange")
_SHAPES = (
    *("Geometry", "Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "Raster"),
    "GeometryCollection",
)
_PLAIN = frozenset(name + "Field" for name in (*_NUMBERS, *_TEXTS, *_RANGES, *_SHAPES))


@dataclass(frozen=True)
class FieldSample:
    """What the sampled values of a field hold."""

    rows: int
    kinds: Mapping[str, tuple[int, int]]  # values that are of the kind as a whole, values that hold it in a text

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FieldSample:
        """Return the sample of a field of `value_samples.samples`."""
        return cls(values["rows"], {kind: (whole, part) for kind, (whole, part) in values["kinds"].items()})

    def counted_for(self, name: str) -> FieldSample:
        """Return the sample with the kinds that count for the field of this name.

        Single words count as names if most values are names; random texts count as keys unless the name says otherwise.
        """
        kinds = dict(self.kinds)
        if "word" in kinds and kinds["word"][0] + kinds.get("name", (0, 0))[0] < _MOST * self.rows:
            del kinds["word"]
        if _NO_KEYS.search(name.lower()):
            kinds.pop("key", None)
        return FieldSample(self.rows, kinds)

    def is_mostly(self, kind: str) -> bool:
        """Return whether most values are of the kind as a whole."""
        return self.kinds[kind][0] >= _MOST * self.rows

    def describe(self) -> str:
        """Return kinds and counts for people, without values."""
        return ", ".join(
            f"{_KIND_WORDS[kind]} ({sum(counts)} of {self.rows} values)" for kind, counts in sorted(self.kinds.items())
        )


def draft(description: Description, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy that classifies every field. `samples`: as `value_samples.samples`; {} decides by names alone."""
    policy = starting_policy(description)
    depended = dependence(description)
    for label, rules in policy["models"].items():
        if rules == DROP or label not in samples or label in NUMBERED:
            continue
        for name, action in rules.items():
            field = description[label]["fields"][name]
            if not field.get("relation") and not field.get("tree"):
                rules[name] = _action(name, field, action, samples[label], depended.get((label, name), ""))
    _ask_of_computed_keys(policy["models"], description)
    return policy


def _ask_of_computed_keys(models: Models, description: Description) -> None:
    """Make a question of each reference by a natural key that is computed from something that is masked."""
    questions = []
    for label, rules in models.items():
        for name, action in rules.items() if isinstance(rules, dict) else ():
            field = description[label]["fields"][name]
            target = field["relation"][0] if field.get("relation") else ""
            if action != KEEP or target in NUMBERED or target not in description:
                continue
            key = field["natural_key"] if "natural_key" in field else description[target]["natural_key"]
            if key == [] and masks_any(models, description, target):
                questions.append((rules, name, target))
    for rules, name, target in questions:
        reason = f"it refers to {target} by a key that is computed, maybe from what is masked there"
        rules[name] = _ask(f"{reason}: keep all of {target}, or empty this field, or drop these rows")


def _ask(reason: str) -> dict[str, str]:
    return {ASK: reason}


def _action(name: str, field: Mapping[str, Any], action: Any, samples: Mapping[str, Any] | None, reason: str) -> Any:
    """Return the action for one field.

    `action`: that of the starting policy; `samples`: of the model, None if its rows could not be read; `reason`: why
    other rows depend on the field, or "".
    """
    values = None if samples is None else samples.get(name)
    sample = None if values is None else FieldSample.from_dict(values).counted_for(name)
    action = _action_by_values(field, action, sample, reason, samples is None)
    if action == _SCRUB and field["type"] in ("TextField", "JSONField") and serialized.BY_NAME.search(name.lower()):
        return _ask(_OBJECTS.format("its name says that its values hold " + _KIND_WORDS["objects"]))
    if action == _SCRUB and field["type"] == "JSONField" and is_personal(name):
        return _ask("its name says personal data, and which of its texts are is not known")
    return action


def _action_by_values(
    field: Mapping[str, Any], action: Any, sample: FieldSample | None, reason: str, is_unread: bool
) -> Any:
    """Return the action that the values suggest. `sample`: None if none of them holds text."""
    if action not in (KEEP, _SCRUB):
        return action
    if field["type"] not in _PLAIN:
        return _ask(f"its values are of the kind {field['type']}, which is not known here")
    if is_unread and (field.get("text") or field["type"] in ("JSONField", "BinaryField")):
        return _ask("its values could not be read")
    if sample is None:
        return action
    if field["type"] in NUMBERS:
        is_phone = sample.kinds.get("phone", (0, 0))[0] and sample.is_mostly("phone")
        return _ask("its numbers have the form of telephones") if is_phone else action
    if field["type"] == "BinaryField":
        return _binary_action(sample)
    if not sample.kinds:
        # Unique values without personal data are keys of some kind; a mask would break what refers to them.
        return KEEP if field.get("alone") and sample.rows else action
    return _personal_action(field, sample, reason)


def _binary_action(sample: FieldSample) -> Any:
    if not sample.rows:
        return EMPTY
    if sample.kinds:
        return _ask(f"its bytes hold {sample.describe()}: empty removes them")
    return _ask("what binary values hold is not seen: empty removes them")


def _personal_action(field: Mapping[str, Any], sample: FieldSample, reason: str) -> Any:
    if "objects" in sample.kinds:
        return _ask(_OBJECTS.format("its values hold " + sample.describe()))
    fixed = reason or ("its values are a choice of the code's" if field.get("choices") else "")
    if fixed:
        return _ask(f"its values hold {sample.describe()}, and {fixed}")
    for kind in sorted(sample.kinds, key=lambda kind: -sample.kinds[kind][0]):
        if sample.is_mostly(kind):
            return {"mask": _MASK_OF_KIND[kind]}
    if field.get("alone") or field.get("url") or field["type"] in ("FileField", "FilePathField", "SlugField"):
        return _ask(f"its values hold {sample.describe()}, which cannot be taken out of them")
    others = {kind: counts for kind, counts in sample.kinds.items() if kind not in _SCRUBBED}
    if others:
        return _ask(f"its values hold {FieldSample(sample.rows, others).describe()}, which “scrub” does not remove")
    return _SCRUB
