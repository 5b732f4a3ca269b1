"""Name the objects, fields and values in which what arrived differs from what was sent.

The archive and the database are read as streams: of each object only a hash by its key is held, and whole objects of
the first few that differ.
"""

import contextlib
import json

from ..django import (
    data_dump,
    data_load,
    fixture_fingerprint,
    fixture_stream,
)

_MOST = 5  # objects that are named
_LONGEST = 60  # characters of a value


def of(where, data, labels, options, many, known, without):
    """Sentences about the first objects that both sides have and that differ.

    `data`: the carried fixture. `labels`: the models that differ. `options`: of the dump that was compared. `many` and
    `known`: {model: names} of many-to-many fields, and of the fields that both sides have. `without`: {model: keys} of
    objects that a policy has mended.
    """
    hashes = fixture_fingerprint.Fingerprint(many)
    sent, different = {}, {}
    mended = {(label, _encode(key)) for label, keys in without.items() for key in keys}

    def part(entry):
        """(model, key), and the entry with the fields that are compared."""
        label = entry["model"].lower()
        fields = {
            name: fixture_fingerprint.plain(value) for name, value in entry["fields"].items() if name in known[label]
        }
        return (label, _encode(entry.get("pk"))), dict(entry, fields=fields)

    def compare(entry):
        key, entry = part(entry)
        if len(different) < _MOST and key in sent and sent[key] != hashes.number(key[0], entry):
            different[key] = entry["fields"]

    for entry in _sent(data, labels):
        key, entry = part(entry)
        if key not in mended:
            sent[key] = hashes.number(key[0], entry)
    data_dump.stream(where, dict(options, labels=list(labels)), data_dump.parsed(compare), prove=False)
    found = []
    for entry in _sent(data, labels) if different else ():
        key, entry = part(entry)
        if key in different:
            found += list(_fields(key, entry["fields"], different[key], many.get(key[0], ())))
    return found


def _encode(key):
    return json.dumps(key, sort_keys=True)


def _sent(data, labels):
    with contextlib.ExitStack() as stack:
        for entry in fixture_stream.objects(*data_load.opened(stack, data)):
            if entry["model"].lower() in labels:
                yield entry


def _fields(key, before, after, many):
    for name in sorted(set(before) | set(after)):
        one, other = before.get(name), after.get(name)
        if name in many and isinstance(one, list) and isinstance(other, list):
            one, other = sorted(one, key=json.dumps), sorted(other, key=json.dumps)
        if json.dumps(one) != json.dumps(other):
            yield "{} {}, {}: sent {}, arrived {}".format(*key, name, _short(one), _short(other))


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
