"""What a fixture holds, per model: rows and a hash that depends neither on their order nor on how the text looks.

Hashes are taken at the precision that fixtures have: milliseconds. References that a fixture writes as natural keys
are compared as such, so a permission is its codename, whatever its number. Lists of many-to-many fields are sets.
"""

import hashlib
import json

ALGORITHM = "fixture-md5-sum/1"
_MODULUS = 1 << 128


class Fingerprint:
    """Takes a fixture's objects one by one. `many`: {model: names of its many-to-many fields}."""

    def __init__(self, many):
        self._many = many
        self._rows, self._sums = {}, {}

    def add(self, entry):
        label = entry["model"].lower()
        fields = entry["fields"]
        for name in self._many.get(label, ()):
            if len(fields.get(name) or ()) > 1:
                fields = dict(fields)
                fields[name] = sorted(fields[name], key=json.dumps)
        text = json.dumps([entry.get("pk"), fields], sort_keys=True, ensure_ascii=False)
        number = int.from_bytes(hashlib.md5(text.encode("utf-8", "surrogatepass")).digest(), "big")
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
