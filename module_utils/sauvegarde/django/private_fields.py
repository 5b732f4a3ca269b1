"""Fill the fields that fixture sets empty or mask with the values of the database, before an import.

Otherwise an import into the site that a set came from would remove the references to people that the export omitted,
and would replace the site's own values with masked ones.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import data_dump, data_load, fixture_stream
from .policy_actions import EMPTY
from .set_privacy import masked_names
from .site import Site

Values = dict[tuple[str, str], dict[str, Any]]  # {(label, key): {field: value}}


@dataclass(frozen=True)
class _PrivateFields:
    """{label: fields}: those that files do not hold as the database does, and those of them that are masked."""

    all: Mapping[str, Sequence[str]]
    masked: Mapping[str, Sequence[str]]

    @classmethod
    def from_actions(cls, private: Mapping[str, Mapping[str, Any]]) -> _PrivateFields:
        masked = {label: masked_names(rules) for label, rules in private.items()}
        fields = {
            label: [name for name, action in rules.items() if action == EMPTY or name in masked[label]]
            for label, rules in private.items()
        }
        return cls({label: names for label, names in fields.items() if names}, masked)


def completed(
    stack: contextlib.ExitStack, site: Site, paths: Sequence[Path], private: Mapping[str, Mapping[str, Any]]
) -> Sequence[Path]:
    """Return the paths of the files, or of completed copies, which `stack` removes.

    `private`: as `set_privacy.actions` returns it.
    """
    fields = _PrivateFields.from_actions(private)
    if not fields.all:
        return paths
    values = _stored_values(site, fields)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    return [
        _copy(stack, path, folder / f"{number}-{path.name.split('.')[0]}.jsonl", fields, values)
        for number, path in enumerate(paths)
    ]


def _stored_values(site: Site, fields: _PrivateFields) -> Values:
    """Return the values of the database's rows that are not empty, and all values of masked fields."""
    stored: Values = {}

    def take(entry: Mapping[str, Any]) -> None:
        label = entry["model"].lower()
        values = {name: entry["fields"][name] for name in fields.all[label] if name in entry["fields"]}
        values = {name: value for name, value in values.items() if name in fields.masked[label] or not _is_empty(value)}
        if values:
            stored[_place(entry)] = values

    options = {"labels": sorted(fields.all), "exclude": [], "format": "jsonl"}
    data_dump.stream(site, options, data_dump.parsed(take), prove=False)
    return stored


def _place(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["model"].lower(), json.dumps(entry.get("pk"))


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {}, "[]", "{}")


def _copy(stack: contextlib.ExitStack, path: Path, copy: Path, fields: _PrivateFields, values: Values) -> Path:
    """Write the objects of the file, completed, to `copy`; return that."""
    source, form, name = data_load.opened(stack, path)
    with copy.open("w", encoding="utf-8", errors="surrogatepass") as target:
        copy.chmod(0o600)
        for entry in fixture_stream.objects(source, form, name):
            for field, value in values.get(_place(entry), {}).items():
                if field in fields.masked[entry["model"].lower()] or _is_empty(entry["fields"].get(field)):
                    entry["fields"][field] = value
            target.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return copy
