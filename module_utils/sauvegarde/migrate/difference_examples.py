"""Name the objects, fields and values in which what arrived differs from what was sent.

The archive and the database are read as streams: of each object only a hash by its key is held, and whole objects of
the first few that differ.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..django import (
    data_dump,
    data_load,
    fixture_fingerprint,
    fixture_stream,
)
from ..django.site import Site

_MOST = 5  # objects that are named
_LONGEST = 60  # characters of a value


def of(
    where: Site,
    data: Path,
    labels: Sequence[str],
    options: Mapping[str, Any],
    many: Mapping[str, Sequence[str]],
    fields_by_model: Mapping[str, Collection[str]],
    without: Mapping[str, Sequence[Any]],
) -> list[str]:
    """Return sentences about the first objects that both sides have and that differ.

    `data`: the carried fixture. `labels`: the models that differ. `options`: of the dump that was compared. `many` and
    `known`: {model: names} of many-to-many fields, and of the fields that both sides have. `without`: {model: keys} of
    objects that a policy has changed.
    """
    hashes = fixture_fingerprint.Fingerprint(many)
    sent: dict[tuple[str, str], int] = {}
    different: dict[tuple[str, str], dict[str, Any]] = {}
    changed = {(label, _encode(key)) for label, keys in without.items() for key in keys}

    def part(entry: dict[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
        """(model, key), and the entry with the fields that are compared."""
        label = entry["model"].lower()
        fields = {
            name: fixture_fingerprint.plain(value)
            for name, value in entry["fields"].items()
            if name in fields_by_model[label]
        }
        return (label, _encode(entry.get("pk"))), dict(entry, fields=fields)

    def compare(entry: dict[str, Any]) -> None:
        key, entry = part(entry)
        if len(different) < _MOST and key in sent and sent[key] != hashes.number(key[0], entry):
            different[key] = entry["fields"]

    for entry in _sent(data, labels):
        key, entry = part(entry)
        if key not in changed:
            sent[key] = hashes.number(key[0], entry)
    data_dump.stream(where, dict(options, labels=list(labels)), data_dump.parsed(compare), prove=False)
    sentences: list[str] = []
    for entry in _sent(data, labels) if different else ():
        key, entry = part(entry)
        if key in different:
            sentences += list(_fields(key, entry["fields"], different[key], many.get(key[0], ())))
    return sentences


def _encode(key: Any) -> str:
    return json.dumps(key, sort_keys=True)


def _sent(data: Path, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        for entry in fixture_stream.objects(*data_load.opened(stack, data)):
            if entry["model"].lower() in labels:
                yield entry


def _fields(
    key: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any], many: Collection[str]
) -> Iterator[str]:
    for name in sorted(set(before) | set(after)):
        one, other = before.get(name), after.get(name)
        if name in many and isinstance(one, list) and isinstance(other, list):
            one, other = sorted(one, key=json.dumps), sorted(other, key=json.dumps)
        if json.dumps(one) != json.dumps(other):
            yield "{} {}, {}: sent {}, arrived {}".format(*key, name, _short(one), _short(other))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
