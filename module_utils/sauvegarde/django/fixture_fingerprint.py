"""What a fixture holds, per model: rows and a hash that depends neither on their order nor on how the text looks.

Hashes are taken at the precision of the text: milliseconds in fixtures, microseconds in migrations. References that a
fixture writes as natural keys are compared as such, so a permission is its codename, whatever its number. Lists of
many-to-many fields are sets. Coordinates are compared to 15 digits: how a geometry's text ends them depends on
the version of GEOS.
"""

import contextlib
import decimal
import hashlib
import json
import re

from .fixture_stream import JSON_TEXT

ALGORITHM = "fixture-md5-sum/1"
_MODULUS = 1 << 128
_encode = json.JSONEncoder(sort_keys=True).encode
# A moment with less than a millisecond behind the second: cut to milliseconds, loaded, and written again, it has none.
_WHOLE = (".000Z", ".000")
_MOMENT = re.compile(r"\d\d:\d\d:\d\d\.000Z?\Z")
_MEMBERS = {str: json.encoder.encode_basestring_ascii, int: repr}  # the same as `_encode`, sooner
_NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][+-]?\d+)?")


class Count:
    """Counts a fixture's objects, which it takes one by one."""

    def __init__(self):
        self._rows = {}

    def add(self, entry):
        label = entry["model"].lower()
        self._rows[label] = self._rows.get(label, 0) + 1

    @property
    def counts(self):
        """{model: rows}"""
        return dict(self._rows)


class Fingerprint(Count):
    """Takes a fixture's objects one by one. `many`: {model: names of its many-to-many fields}."""

    def __init__(self, many):
        super().__init__()
        self._many = many
        self._sums, self._names = {}, {}

    def add(self, entry):
        super().add(entry)
        label = entry["model"].lower()
        self._sums[label] = (self._sums.get(label, 0) + self.number(label, entry)) % _MODULUS

    def number(self, label, entry):
        """An object's own hash, as a number."""
        many = self._many.get(label, ())
        parts = [_encode(entry.get("pk"))]
        for name in self._sorted(label, entry["fields"]):
            value = entry["fields"][name]
            kind = type(value)
            if kind is str:
                # Most of what there is: as it is, behind its length.
                if value.startswith("SRID="):
                    value = _NUMBER.sub(_number, value)
                elif value.endswith(_WHOLE) and _MOMENT.search(value):
                    value = value.replace(".000", "")
                parts.append(f"{name}:{len(value)}:{value}")
            elif name in many and kind is list:
                members = sorted([_MEMBERS.get(type(each), _encode)(each) for each in value])
                parts.append("{}=[{}]".format(name, ", ".join(members)))
            elif kind is list or kind is dict:
                parts.append(f"{name}={_encode(value)}")
            else:
                parts.append(f"{name}={value!r}")
        text = "\n".join(parts).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.md5(text).digest(), "big")

    def _sorted(self, label, fields):
        """The fields' names in order; the same for nearly every object of a model."""
        names, known = self._names.get(label, ((), None))
        if fields.keys() != known:
            names = sorted(fields)
            self._names[label] = (names, fields.keys())
        return names

    def result(self):
        """{"algorithm", "tables": {model: {"rows", "hash"}}}, as manifests hold it."""
        return {
            "algorithm": ALGORITHM,
            "tables": {
                label: {"rows": rows, "hash": f"{self._sums[label]:032x}"} for label, rows in sorted(self._rows.items())
            },
        }


class Part(Fingerprint):
    """Takes some models' objects only ({model: names} in `known`), of them the named fields, and none of the objects
    whose keys are in `without` ({model: keys}), or these without some fields where `changed` ({model: [[key, names]]})
    has them. Numbers inside JSON are compared as numbers."""

    def __init__(self, many, known, without, changed=None):
        super().__init__(many)
        self._known = known
        self._without = {label: {_encode(key): None for key in keys} for label, keys in without.items()}
        for label, objects in (changed or {}).items():
            self._without.setdefault(label, {}).update((_encode(key), names) for key, names in objects)
        self.fields = {label: set() for label in known}  # all that the objects had

    def add(self, entry):
        label, fields = entry["model"].lower(), entry["fields"]
        if label not in self._known:
            return
        self.fields[label].update(fields)
        without = self._without.get(label, {}).get(_encode(entry.get("pk")), ())
        if without is not None:
            names = self._known[label]
            kept = {name: plain(value) for name, value in fields.items() if name in names and name not in without}
            super().add(dict(entry, fields=kept))


class Objects(Fingerprint):
    """Takes the objects of a load, of the models in `many` only: of several with one key the last one counts, and what
    the database has besides them can be `keep`t. Holds each object's hash by its key."""

    def __init__(self, many):
        super().__init__(many)
        self._found = {}

    def add(self, entry):
        label = entry["model"].lower()
        if label in self._many:
            self._found.setdefault(label, {})[_encode(entry.get("pk"))] = self.number(label, entry)

    def keep(self, entry):
        """Take an object of the database unless the load overwrites it."""
        if _encode(entry.get("pk")) not in self._found.get(entry["model"].lower(), ()):
            self.add(entry)

    def result(self):
        self._rows = {label: len(found) for label, found in self._found.items()}
        self._sums = {label: sum(found.values()) % _MODULUS for label, found in self._found.items()}
        return super().result()


def _number(match):
    return format(float(match.group()), ".15g")


def plain(value):
    """A fixture's value with equal numbers made the same: to PostgreSQL's jsonb 1.7e18 and -0.0 are whole numbers."""
    kind = type(value)
    if kind is float and value.is_integer():
        return int(decimal.Decimal(repr(value)))
    if kind is dict:
        text = value.get(JSON_TEXT) if len(value) == 1 else None
        if type(text) is str:
            with contextlib.suppress(ValueError):
                return {JSON_TEXT: json.loads(text, parse_float=_digits)}
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if kind is list else value


def _digits(number):
    """The number as text, the same for equal ones."""
    sign, figures, exponent = decimal.Decimal(number).as_tuple()
    text = "".join(map(str, figures))
    short = text.rstrip("0") or "0"
    return "{}{}e{}".format("-" if sign else "", short, exponent + len(text) - len(short) if short != "0" else 0)


def compare(expected, actual):
    """The differences between two fingerprints, as plain dicts with a sentence; empty where they are equal."""
    differences = []
    left, right = expected["tables"], actual["tables"]
    for label in sorted(set(left) | set(right)):
        before, after = left.get(label, _NOTHING), right.get(label, _NOTHING)
        if before == after:
            continue
        if before["rows"] != after["rows"]:
            sentence = "{}: {} rows expected, {} found.".format(label, before["rows"], after["rows"])
        else:
            sentence = "{}: {} rows, but not the same content.".format(label, before["rows"])
        differences.append({"model": label, "expected": before, "actual": after, "sentence": sentence})
    return differences


_NOTHING = {"rows": 0, "hash": "0" * 32}
