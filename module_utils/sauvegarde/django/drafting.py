"""Draft a masking policy from the site's models and from what a sample of their values holds.

What neither a field's name nor its values decide becomes a question, which stops a dump until a person answers it.
"""

import re

from . import serialized
from .dependence import dependence
from .fixture import NUMBERED
from .masking import ASK, DROP, EMPTY, KEEP, NUMBERS, is_personal, masked_any, starting_policy

_SAID = {
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
_HOW = {
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
# What a question says about objects of other models; {} is what was seen.
_OBJECTS = (
    "{}; “scrub” removes e-mail addresses, telephones and names of known people from them, and leaves what else the "
    "policy masks in those models (dates, user names, passwords): empty it, or drop these rows"
)
_MOST = 0.8
# Fields whose values look like keys and are none.
_NO_KEYS = re.compile(r"guid|uuid|hash|checksum|digest|etag|sha\d|md5")
_SCRUB = {"mask": "scrub"}
# The kinds of fields that are known here.
_NUMBERS = ("Auto", "BigAuto", "SmallAuto", "BigInteger", "Boolean", "NullBoolean", "Date", "DateTime", "Decimal")
_NUMBERS += ("Duration", "Float", "Integer", "PositiveBigInteger", "PositiveInteger", "PositiveSmallInteger", "UUID")
_NUMBERS += ("SmallInteger", "Time", "GenericIPAddress", "IPAddress")
_TEXTS = ("Char", "CIChar", "CIEmail", "CIText", "CommaSeparatedInteger", "Slug", "Text", "File", "FilePath", "JSON")
_TEXTS += ("Binary", "Array", "HStore", "SearchVector")
_RANGES = ("IntegerRange", "BigIntegerRange", "DecimalRange", "DateTimeRange", "DateRange", "FloatRange")
_SHAPES = ("Geometry", "Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "Raster")
_SHAPES += ("GeometryCollection",)
_PLAIN = frozenset(name + "Field" for name in _NUMBERS + _TEXTS + _RANGES + _SHAPES)


def draft(description, samples):
    """A policy that classifies every field. `samples`: as `worker_samples.samples` gives them; {} decides by names."""
    policy = starting_policy(description)
    depended = dependence(description)
    for label, rules in policy["models"].items():
        if rules == DROP or label not in samples or label in NUMBERED:
            continue
        for name, action in rules.items():
            field = description[label]["fields"][name]
            if not field.get("relation") and not field.get("tree"):
                why = depended.get((label, name), "")
                found = samples[label].get(name) if samples[label] is not None else None
                if found is not None:
                    found = dict(found, kinds=_counted(name, found))
                rules[name] = _decided(field, action, found, why, samples[label] is None)
                if rules[name] == _SCRUB and _is_named_for_objects(name, field):
                    rules[name] = _ask(_OBJECTS.format("its name says that its values hold " + _SAID["objects"]))
                if rules[name] == _SCRUB and field["type"] == "JSONField" and is_personal(name):
                    rules[name] = _ask("its name says personal data, and which of its texts are is not known")
    _ask_of_computed_keys(policy["models"], description)
    return policy


def _ask_of_computed_keys(models, description):
    """Make a question of each reference by a natural key that is computed from something that is masked."""
    asked = []
    for label, rules in models.items():
        for name, action in rules.items() if isinstance(rules, dict) else ():
            field = description[label]["fields"][name]
            target = field["relation"][0] if field.get("relation") else ""
            if action != KEEP or target in NUMBERED or target not in description:
                continue
            key = field["natural_key"] if "natural_key" in field else description[target]["natural_key"]
            if key == [] and masked_any(models, description, target, set()):
                asked.append((rules, name, target))
    for rules, name, target in asked:
        reason = f"it refers to {target} by a key that is computed, maybe from what is masked there"
        rules[name] = _ask(f"{reason}: keep all of {target}, or empty this field, or drop these rows")


def _counted(name, found):
    """The kinds that count: single words are names, and random texts keys, where that is what the field is for."""
    kinds = dict(found["kinds"])
    if "word" in kinds and kinds["word"][0] + kinds.get("name", [0])[0] < _MOST * found["rows"]:
        del kinds["word"]
    if _NO_KEYS.search(name.lower()):
        kinds.pop("key", None)
    return kinds


def _is_named_for_objects(name, field):
    return field["type"] in ("TextField", "JSONField") and bool(serialized.BY_NAME.search(name.lower()))


def _ask(reason):
    return {ASK: reason}


def _decided(field, action, found, depended, is_unread):
    """The action for one field. `found`: what its values hold, None where they are none of text."""
    if action not in (KEEP, _SCRUB):
        return action
    if field["type"] not in _PLAIN:
        return _ask(f"its values are of the kind {field['type']}, which is not known here")
    holds_text = field.get("text") or field["type"] in ("JSONField", "BinaryField")
    if is_unread and holds_text:
        return _ask("its values could not be read")
    if found is None:
        return action
    if field["type"] in NUMBERS:
        whole = found["kinds"].get("phone", [0])[0]
        return _ask("its numbers have the form of telephones") if whole and whole >= _MOST * found["rows"] else action
    if field["type"] == "BinaryField":
        return _binary(found)
    if not found["kinds"]:
        # Unique values that hold nothing personal are keys of some kind; a mask would break what knows them.
        return KEEP if field.get("alone") and found["rows"] else action
    return _personal(field, action, found, depended)


def _binary(found):
    if not found["rows"]:
        return EMPTY
    if found["kinds"]:
        return _ask(f"its bytes hold {_said(found)}: empty removes them")
    return _ask("what binary values hold is not seen: empty removes them")


def _personal(field, action, found, depended):
    if "objects" in found["kinds"]:
        return _ask(_OBJECTS.format("its values hold " + _said(found)))
    fixed = depended or ("its values are a choice of the code's" if field.get("choices") else "")
    if fixed:
        return _ask(f"its values hold {_said(found)}, and {fixed}")
    for kind, (whole, _) in sorted(found["kinds"].items(), key=lambda item: -item[1][0]):
        if whole >= _MOST * found["rows"]:
            return {"mask": _HOW[kind]}
    if field.get("alone") or field.get("url") or field["type"] in ("FileField", "FilePathField", "SlugField"):
        return _ask(f"its values hold {_said(found)}, which cannot be taken out of them")
    left = {kind: counts for kind, counts in found["kinds"].items() if kind not in _SCRUBBED}
    if left:
        return _ask(f"its values hold {_said(dict(found, kinds=left))}, which “scrub” does not remove")
    return _SCRUB


def _said(found):
    """What was found, for people: kinds and counts, no values."""
    each = sorted(found["kinds"].items())
    return ", ".join(f"{_SAID[kind]} ({sum(counts)} of {found['rows']} values)" for kind, counts in each)
