"""Give the objects of fixture files, where the sets empty or mask a field, what the database has there already.

Otherwise an import into the site that a set came from would take the authors away that its export left out, and put
masked values in the place of its own.
"""

import json
import tempfile
from pathlib import Path

from . import dump, fixture, load
from .masking import EMPTY
from .privacy import masked_names


def completed(stack, site, paths, private):
    """The paths of the files, or of completed copies. `private`: as `privacy.actions`; `stack`: removes the copies."""
    masked = {label: masked_names(rules) for label, rules in private.items()}
    left = {
        label: [name for name, action in rules.items() if action == EMPTY or name in masked[label]]
        for label, rules in private.items()
    }
    left = {label: names for label, names in left.items() if names}
    if not left:
        return paths
    known = _known(site, left, masked)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    return [
        _copy(stack, path, folder / f"{number}-{path.name.split('.')[0]}.jsonl", masked, known)
        for number, path in enumerate(paths)
    ]


def _known(site, left, masked):
    """{(label, key): {field: value}} of the database's rows: values that are not empty, and all of masked fields."""
    known = {}

    def take(entry):
        label = entry["model"].lower()
        values = {name: entry["fields"][name] for name in left[label] if name in entry["fields"]}
        values = {name: value for name, value in values.items() if name in masked[label] or not _is_empty(value)}
        if values:
            known[_place(entry)] = values

    dump.stream(site, {"labels": sorted(left), "exclude": [], "format": "jsonl"}, dump.parsed(take), prove=False)
    return known


def _place(entry):
    return entry["model"].lower(), json.dumps(entry.get("pk"))


def _is_empty(value):
    return value is None or value in ("", [], {}, "[]", "{}")


def _copy(stack, path, copy, masked, known):
    """A file of the objects of another one, completed."""
    source, form, name = load.opened(stack, path)
    with copy.open("w", encoding="utf-8", errors="surrogatepass") as target:
        copy.chmod(0o600)
        for entry in fixture.objects(source, form, name):
            for field, value in known.get(_place(entry), {}).items():
                if field in masked[entry["model"].lower()] or _is_empty(entry["fields"].get(field)):
                    entry["fields"][field] = value
            target.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return copy
