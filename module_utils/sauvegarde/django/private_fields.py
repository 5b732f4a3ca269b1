"""Give the objects of fixture files, where the sets empty a field, what the database has there already.

Otherwise an import into the site that a set came from would take the authors away that its export left out.
"""

import json
import tempfile
from pathlib import Path

from . import data_dump, data_load, fixture_stream
from .masking import EMPTY


def completed(stack, site, paths, private):
    """The paths of the files, or of completed copies. `private`: as `privacy.actions`; `stack`: removes the copies."""
    emptied = {label: [name for name, action in rules.items() if action == EMPTY] for label, rules in private.items()}
    emptied = {label: names for label, names in emptied.items() if names}
    if not emptied:
        return paths
    known = _known(site, emptied)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    return [
        _copy(stack, path, folder / f"{number}-{path.name.split('.')[0]}.jsonl", emptied, known)
        for number, path in enumerate(paths)
    ]


def _known(site, emptied):
    """{(label, key): {field: value}} of the database's rows, of values that are not empty."""
    known = {}

    def take(entry):
        values = {name: entry["fields"].get(name) for name in emptied[entry["model"].lower()]}
        values = {name: value for name, value in values.items() if not _is_empty(value)}
        if values:
            known[_place(entry)] = values

    data_dump.stream(
        site, {"labels": sorted(emptied), "exclude": [], "format": "jsonl"}, data_dump.parsed(take), prove=False
    )
    return known


def _place(entry):
    return entry["model"].lower(), json.dumps(entry.get("pk"))


def _is_empty(value):
    return value is None or value in ("", [], {}, "[]", "{}")


def _copy(stack, path, copy, emptied, known):
    """A file of the objects of another one, completed."""
    source, form, name = data_load.opened(stack, path)
    with copy.open("w", encoding="utf-8", errors="surrogatepass") as target:
        copy.chmod(0o600)
        for entry in fixture_stream.objects(source, form, name):
            for field, value in known.get(_place(entry), {}).items():
                if _is_empty(entry["fields"].get(field)):
                    entry["fields"][field] = value
            target.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return copy
