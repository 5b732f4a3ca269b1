"""Compute what a fixture holds, per model: the row count and a hash that does not depend on order or layout.

Hashes are taken at the precision of the text: milliseconds in fixtures, microseconds in migrations. References that a
fixture writes as natural keys are compared as such, so a permission is its codename, whatever its number. Lists of
many-to-many fields are sets. Coordinates are compared to 15 digits: how a geometry's text ends them depends on
the version of GEOS.
"""

from __future__ import annotations

import contextlib
import decimal
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Callable

from .fixture_stream import JSON_TEXT

ALGORITHM = "fixture-md5-sum/1"
_MODULUS = 1 << 128
_NOTHING = {"rows": 0, "hash": "0" * 32}
_encode = json.JSONEncoder(sort_keys=True).encode
# A moment with less than a millisecond behind its second has none after it was cut, loaded and written again.
_WHOLE = (".000Z", ".000")
_MOMENT = re.compile(r"\d\d:\d\d:\d\d\.000Z?\Z")
_MEMBERS: dict[type, Callable[[Any], str]] = {
    str: json.encoder.encode_basestring_ascii,
    int: repr,
}  # the same as `_encode`, faster
_NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][+-]?\d+)?")


Entry = dict[str, Any]  # one object of a fixture


class Count:
    """Counts a fixture's objects, which are added one by one."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        label = entry["model"].lower()
        self._rows[label] = self._rows.get(label, 0) + 1

    @property
    def counts(self) -> dict[str, int]:
        """{model: number of rows}"""
        return dict(self._rows)


class Fingerprint(Count):
    """The fingerprint of objects that are added one by one. `many`: {model: names of its many-to-many fields}."""

    def __init__(self, many: Mapping[str, Collection[str]]) -> None:
        super().__init__()
        self._many = many
        self._sums: dict[str, int] = {}
        self._names: dict[str, tuple[list[str], Any]] = {}

    def add(self, entry: Entry) -> None:
        super().add(entry)
        label = entry["model"].lower()
        self._sums[label] = (self._sums.get(label, 0) + self.number(label, entry)) % _MODULUS

    def number(self, label: str, entry: Entry) -> int:
        """Return an object's own hash, as a number."""
        many = self._many.get(label, ())
        parts = [_encode(entry.get("pk"))]
        for name in self._sorted(label, entry["fields"]):
            value = entry["fields"][name]
            kind = type(value)
            if kind is str:
                # Most values are texts: written as they are, behind their length.
                if value.startswith("SRID="):
                    value = _NUMBER.sub(_number, value)
                elif value.endswith(_WHOLE) and _MOMENT.search(value):
                    value = value.replace(".000", "")
                parts.append(f"{name}:{len(value)}:{value}")
            elif name in many and kind is list:
                members = sorted([_MEMBERS.get(type(member), _encode)(member) for member in value])
                parts.append("{}=[{}]".format(name, ", ".join(members)))
            elif kind is list or kind is dict:
                parts.append(f"{name}={_encode(value)}")
            else:
                parts.append(f"{name}={value!r}")
        text = "\n".join(parts).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.md5(text).digest(), "big")

    def _sorted(self, label: str, fields: Entry) -> list[str]:
        """Return the fields' names in order. They are the same for nearly every object of a model."""
        names, keys = self._names.get(label, ([], None))
        if fields.keys() != keys:
            names = sorted(fields)
            self._names[label] = (names, fields.keys())
        return names

    def result(self) -> dict[str, Any]:
        """Return {"algorithm", "tables": {model: {"rows", "hash"}}}, as manifests hold it."""
        return {
            "algorithm": ALGORITHM,
            "tables": {
                label: {"rows": rows, "hash": f"{self._sums[label]:032x}"} for label, rows in sorted(self._rows.items())
            },
        }


class Part(Fingerprint):
    """The fingerprint of a part of the objects.

    `counted`: {model: names of the fields that count}, of the models that count. `without`: {model: keys of the objects
    that do not count}. `changed`: {model: [[key, names of the fields that do not count]]}, which overrides `without`.
    Numbers inside JSON are compared as numbers. `fields`: {model: names of all fields that its objects had}.
    """

    def __init__(
        self,
        many: Mapping[str, Collection[str]],
        counted: Mapping[str, Collection[str]],
        without: Mapping[str, Iterable[Any]],
        changed: Mapping[str, Iterable[Iterable[Any]]] | None = None,
    ) -> None:
        super().__init__(many)
        self._counted = counted
        self._without: dict[str, dict[str, Collection[str] | None]] = {
            label: {_encode(key): None for key in keys} for label, keys in without.items()
        }
        for label, objects in (changed or {}).items():
            self._without.setdefault(label, {}).update((_encode(key), names) for key, names in objects)
        self.fields: dict[str, set[str]] = {label: set() for label in counted}

    def add(self, entry: Entry) -> None:
        label, fields = entry["model"].lower(), entry["fields"]
        if label not in self._counted:
            return
        self.fields[label].update(fields)
        without = self._without.get(label, {}).get(_encode(entry.get("pk")), ())
        if without is not None:
            names = self._counted[label]
            kept = {name: plain(value) for name, value in fields.items() if name in names and name not in without}
            super().add(dict(entry, fields=kept))


class Objects(Fingerprint):
    """The fingerprint that a database will have after a load, of the models in `many` only.

    Of several objects with one key the last one counts. What the database has besides is added by `keep`. Holds the
    hash of each object by its key.
    """

    def __init__(self, many: Mapping[str, Collection[str]]) -> None:
        super().__init__(many)
        self._hashes: dict[str, dict[str, int]] = {}

    def add(self, entry: Entry) -> None:
        label = entry["model"].lower()
        if label in self._many:
            self._hashes.setdefault(label, {})[_encode(entry.get("pk"))] = self.number(label, entry)

    def keep(self, entry: Entry) -> None:
        """Add an object of the database, unless the load overwrites it."""
        if _encode(entry.get("pk")) not in self._hashes.get(entry["model"].lower(), ()):
            self.add(entry)

    def result(self) -> dict[str, Any]:
        self._rows = {label: len(hashes) for label, hashes in self._hashes.items()}
        self._sums = {label: sum(hashes.values()) % _MODULUS for label, hashes in self._hashes.items()}
        return super().result()


def _number(match: re.Match[str]) -> str:
    return format(float(match.group()), ".15g")


def plain(value: Any) -> Any:
    """Return a fixture's value with equal numbers written alike: PostgreSQL's jsonb has 1.7e18 as a whole number."""
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


def _digits(number: str) -> str:
    """Return the number as a text that is the same for equal numbers."""
    sign, figures, exponent = decimal.Decimal(number).as_tuple()
    text = "".join(map(str, figures))
    short = text.rstrip("0") or "0"
    return "{}{}e{}".format("-" if sign else "", short, int(exponent) + len(text) - len(short) if short != "0" else 0)


def compare(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the differences between two fingerprints, as plain dicts with a sentence."""
    differences: list[dict[str, Any]] = []
    expected_tables, actual_tables = expected["tables"], actual["tables"]
    for label in sorted({*expected_tables, *actual_tables}):
        before, after = expected_tables.get(label, _NOTHING), actual_tables.get(label, _NOTHING)
        if before == after:
            continue
        if before["rows"] != after["rows"]:
            sentence = "{}: {} rows expected, {} found.".format(label, before["rows"], after["rows"])
        else:
            sentence = "{}: {} rows, but not the same content.".format(label, before["rows"])
        differences.append({"model": label, "expected": before, "actual": after, "sentence": sentence})
    return differences
