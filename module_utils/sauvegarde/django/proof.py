"""What a fixture holds, per model: rows and a hash that depends neither on their order nor on how the text looks.

Hashes are taken at the precision that fixtures have: milliseconds. References that a fixture writes as natural keys
are compared as such, so a permission is its codename, whatever its number. Lists of many-to-many fields are sets.
Coordinates are compared to 15 digits: how a geometry's text ends them depends on the version of GEOS.
"""

import hashlib
import json
import re

ALGORITHM = "fixture-md5-sum/1"
_MODULUS = 1 << 128
_NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][+-]?\d+)?")


class Fingerprint:
    """Takes a fixture's objects one by one. `many`: {model: names of its many-to-many fields}."""

    def __init__(self, many):
        self._many = many
        self._rows, self._sums = {}, {}

    def add(self, entry):
        label = entry["model"].lower()
        many = self._many.get(label, ())
        parts = [json.dumps(entry.get("pk"))]
        for name, value in sorted(entry["fields"].items()):
            if type(value) is str:
                # Most of what there is: as it is, behind its length.
                if value.startswith("SRID="):
                    value = _NUMBER.sub(_number, value)
                parts.append(f"{name}:{len(value)}:{value}")
            else:
                if name in many and len(value) > 1:
                    value = sorted(value, key=json.dumps)
                parts.append(f"{name}={json.dumps(value, sort_keys=True)}")
        text = "\n".join(parts).encode("utf-8", "surrogatepass")
        number = int.from_bytes(hashlib.md5(text).digest(), "big")
        self._rows[label] = self._rows.get(label, 0) + 1
        self._sums[label] = (self._sums.get(label, 0) + number) % _MODULUS

    @property
    def counts(self):
        return dict(self._rows)

    def result(self):
        """{"algorithm", "tables": {model: {"rows", "hash"}}}, as manifests hold it."""
        return {
            "algorithm": ALGORITHM,
            "tables": {
                label: {"rows": rows, "hash": f"{self._sums[label]:032x}"} for label, rows in sorted(self._rows.items())
            },
        }


def _number(match):
    return format(float(match.group()), ".15g")


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
