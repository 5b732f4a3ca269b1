"""Export fixture sets, named groups of models, to one file each of the site's repository, and import them from there.

A file holds one object a line, sorted by model and key, with sorted lists: unchanged data is an unchanged file, and a
change is a small difference. It is a JSON list, which stock `loaddata` (and Django Smuggler) reads.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SauvegardeError
from ..system import process
from ..system.run_as import call_as, command_prefix
from . import data_dump, data_load, fixture_file, fixture_stream, private_fields, set_privacy
from .fixture_fingerprint import ALGORITHM, Fingerprint, Objects, compare
from .fixture_set import PRIVATE, FixtureSet, names
from .set_texts import PersonalTexts
from .site import Site, describe

__all__ = [
    "ALGORITHM",
    "SETS",
    "bring_in",
    "checked",
    "doubts",
    "export",
    "load_if_needed",
    "private_sentences",
    "put",
    "read",
]

Entry = dict[str, Any]  # an object of a fixture
Values = Mapping[str, Any]  # a set as users and manifests have it

# Created by Django itself on every site, with numbers of its own.
_OWN = ("auth.permission", "contenttypes.")
# The sets of the site for which this project was started.
SETS: list[dict[str, Any]] = [
    {"name": "contracts", "file": "contracts.json", "models": ["jobs.contract", "jobs.contractvariations"]},
    {"name": "trades", "file": "jobs.json", "models": ["jobs.jobposition", "jobs.jobpositionvariations"]},
    {"name": "places", "file": "places.json", "models": ["jobs.place", "jobs.placevariations"]},
    {"name": "sources", "file": "sources.json", "models": ["jobs.source"]},
    {"name": "technologies", "file": "technos.json", "models": ["jobs.technology", "jobs.technologyvariations"]},
    {"name": "cms", "file": "content.json", "models": ["cms"]},
    {"name": "sites", "file": "sites.json", "models": ["sites.site"]},
]


def checked(sets: Iterable[Values], people: str = PRIVATE) -> list[dict[str, Any]]:
    """Return the sets, complete (`FixtureSet.as_dict`). SauvegardeError if anything is wrong.

    `file` is a path inside the sets' folder, by default NAME.json; `indent` the spaces to indent with, by default one
    object a line; `people` says whether a set may hold people's data, by default the argument `people`; `masks` what
    becomes of single fields (see `set_privacy`); `kept_words` and `not_searched` are as in a masking policy.
    """
    taken: set[str] = set()
    files: set[str] = set()
    whole = []
    for values in sets:
        fixture_set = FixtureSet.from_values(values, people)
        if fixture_set.name in taken or fixture_set.file in files:
            raise SauvegardeError(
                f"Two fixture sets have the name or the file of {fixture_set.name}.", fix="Rename one."
            )
        taken.add(fixture_set.name)
        files.add(fixture_set.file)
        whole.append(fixture_set.as_dict())
    return whole


# --- export -----------------------------------------------------------------------------------------------------------


def render(entries: Iterable[Entry], form: str, indent: int | None = None) -> str:
    """Return the text of a set's file; with an indent as stock `dumpdata --indent` writes it."""
    separators = (", ", ": ") if indent is None else (",", ": ")
    lines = [json.dumps(entry, ensure_ascii=False, indent=indent, separators=separators) for entry in entries]
    if form == "jsonl":
        return "".join(line + "\n" for line in lines)
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def place(entry: Mapping[str, Any]) -> tuple[bool, float, str]:
    """Return the sort key of an object inside its model: numbers by value, texts by code points.

    The order is the same on every host, whatever its collation.
    """
    key = entry.get("pk")
    return (
        not isinstance(key, (int, float)),
        key if isinstance(key, (int, float)) else 0,
        json.dumps(entry["fields"] if key is None else key),
    )


def read(site: Site, sets: Iterable[Values], people: str = PRIVATE, key: str = "") -> list[dict[str, Any]]:
    """Return the contents of the sets' files, all from one snapshot. `key`: of the masks, in hexadecimal digits.

    Returns [{"name", "file", "text", "objects", "fingerprint", "many", "private", "doubts"}]: "private" as
    `set_privacy.actions` returns it, "doubts" are sentences about texts that still hold people's data.
    """
    whole = checked(sets, people)
    chosen = [FixtureSet.from_dict(values) for values in whole]
    texts = PersonalTexts(chosen)
    entries: dict[str, list[Entry]] = {}
    many: dict[str, list[str]] = {}

    def take(entry: Entry) -> None:
        texts.add(entry)
        for name in many.get(entry["model"], ()):
            if name in entry["fields"]:
                entry["fields"][name] = sorted(entry["fields"][name], key=json.dumps)
        entries.setdefault(entry["model"], []).append(entry)

    labels = [label for fixture_set in chosen for label in fixture_set.models]
    options = dict(_labels(labels, "jsonl"), sets=whole, key=key)
    report = data_dump.stream(site, options, data_dump.parsed(take), texts.learn, many=many)
    # The models stay in the site's order, so that the target of a reference comes before the reference.
    ordered = {model: sorted(objects, key=place) for model, objects in entries.items()}
    sentences = texts.sentences()
    return [_contents(fixture_set, ordered, many, report, sentences) for fixture_set in chosen]


def _contents(
    fixture_set: FixtureSet,
    ordered: Mapping[str, Sequence[Entry]],
    many: Mapping[str, Sequence[str]],
    report: Mapping[str, Any],
    sentences: Sequence[str],
) -> dict[str, Any]:
    """Return what `read` returns of one set. `report`: of the dump."""
    models = [model for model in many if fixture_set.holds(model)]
    for label in fixture_set.models:
        if not any(names(label, model) for model in many):
            raise SauvegardeError(
                f"The fixture set {fixture_set.name} names {label}, of which the site has nothing.",
                fix="Name an application or application.Model of the site.",
            )
    form, _ = fixture_stream.kind_of(fixture_set.file)
    objects = [entry for model in ordered if model in models for entry in ordered[model]]
    tables, private = report["fingerprint"]["tables"], report["private"]
    return {
        "name": fixture_set.name,
        "file": fixture_set.file,
        "text": render(objects, form, fixture_set.indent),
        "objects": len(objects),
        "fingerprint": {
            "algorithm": ALGORITHM,
            "tables": {model: tables[model] for model in models if model in tables},
        },
        "many": {model: many[model] for model in models},
        "doubts": [text for text in sentences if any(text.startswith(model + ".") for model in models)],
        "private": {model: private[model] for model in models if model in private},
    }


def private_sentences(contents: Iterable[Values]) -> list[str]:
    """Return, for people, what is empty, a number or masked in the sets that `read` has returned."""
    return set_privacy.sentences({model: rules for one in contents for model, rules in one["private"].items()})


def doubts(contents: Iterable[Values]) -> list[str]:
    """Return the "doubts" of the sets that `read` has returned."""
    return sorted({sentence for one in contents for sentence in one["doubts"]})


def export(
    site: Site,
    sets: Iterable[Values],
    folder: str | Path,
    write: bool = True,
    owner: str = "",
    texts: bool = False,
    people: str = PRIVATE,
    key: str = "",
) -> list[dict[str, Any]]:
    """Export the sets into the folder (see `read` and `put`)."""
    return put(read(site, sets, people, key), folder, write, owner, texts)


def put(
    contents: Sequence[Values], folder: str | Path, write: bool = True, owner: str = "", texts: bool = False
) -> list[dict[str, Any]]:
    """Write what `read` has returned into the folder; a file whose content is the same is not touched.

    Returns the contents, each with "path" and "changed", and with `texts` also "before", the previous text. Without
    `write` nothing is written. `owner`: the user that the folder belongs to; root reads and writes as that user, since
    the user could have put a link there to a file that only root may touch.
    """
    files = [[one["file"], one["text"]] for one in contents]
    results = call_as(owner, _put, str(folder), files, write, texts)
    return [dict(one, **result) for one, result in zip(contents, results)]


def _put(directory: str, files: Sequence[Sequence[str]], write: bool, texts: bool) -> list[dict[str, Any]]:
    folder = Path(directory)
    if not folder.is_dir():
        raise SauvegardeError(
            f"The folder for the fixtures does not exist: {folder}", fix="Create it, or correct its path."
        )
    for name, _ in files:
        if not (folder / name).parent.is_dir():
            raise SauvegardeError(
                f"The folder for the fixture does not exist: {(folder / name).parent}",
                fix="Create it, or correct the set's file.",
            )
    results = []
    for name, text in files:
        before, changed = _replace_if_changed(folder / name, text.encode("utf-8"), write)
        result = {"path": str(folder / name), "changed": changed}
        results.append(dict(result, before=before.decode("utf-8", "replace")) if texts else result)
    return results


def _replace_if_changed(path: Path, data: bytes, write: bool) -> tuple[bytes, bool]:
    """Return (previous content, whether the new one differs)."""
    try:
        before = path.read_bytes() if path.exists() else b""
        if before != data and write:
            with fixture_file.replaced(path, 0o644) as target:
                target.write(data)
    except OSError as error:
        raise SauvegardeError(
            f"The fixture cannot be written: {path}", str(error), "Give its folder to the site's user."
        ) from error
    return before, before != data


# --- import -----------------------------------------------------------------------------------------------------------


def bring_in(
    site: Site, sets: Iterable[Values], folder: str | Path, values: Values | None = None, people: str = PRIVATE
) -> dict[str, Any]:
    """Load the sets' files, all in one transaction. Returns as `load_if_needed`.

    Root reads them as the site's user, who owns the folder (see `put`). A field that the sets empty keeps its value in
    existing rows.
    """
    whole, folder = checked(sets, people), Path(folder)
    labels = [label for one in whole for label in one["models"]]
    with contextlib.ExitStack() as stack:
        files = [folder / one["file"] for one in whole]
        reader = command_prefix(site.user)
        if reader:
            copies = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
            files = [_read_by(reader, path, copies / f"{number}-{path.name}") for number, path in enumerate(files)]
        return load_if_needed(site, files, values or {}, labels, whole)


def _read_by(reader: Sequence[str], path: Path, copy: Path) -> Path:
    """Copy the file with the rights of another user; return the copy."""
    with copy.open("wb") as target:
        process.run([*reader, "cat", "--", str(path)], stdout=target, what=f"The fixture cannot be read: {path}")
    return copy


def load_if_needed(
    site: Site,
    paths: Iterable[str | Path],
    values: Values,
    labels: Sequence[str] | None = None,
    sets: Sequence[Values] | None = None,
) -> dict[str, Any]:
    """Load fixtures unless the database holds just what they do.

    `labels`: the models that they cover, by default those that they name. `sets`: those that the files belong to: what
    they empty or mask is neither compared nor loaded into rows that exist. Returns {"changed", "loaded",
    "differences"}: "loaded" as `data_load.load` (None if nothing had to be done), the differences of the database,
    before and after.
    """
    values = dict(values)
    with contextlib.ExitStack() as stack:
        files = [_regular(stack, Path(path)) for path in paths]
        # Only Django can read other formats: whether they change anything shows after the load.
        readable = all(fixture_stream.kind_of(path.name)[0] in ("json", "jsonl") for path in files)
        if labels is None:
            labels = _comparable(site, files) if readable else ["*"]
        before = _fingerprint(site, labels, sets)
        private, many = before.get("private", {}), before["many"]
        if readable:
            expected = _scanned(files, Fingerprint(many), private, many).result()
            if not compare(expected, before["fingerprint"]):
                return {"changed": False, "loaded": None, "differences": []}
        if values.get("mode") == "replace" and readable:
            # Also empties a model that has no row left in the files.
            values["models"] = sorted(many)
        loaded = data_load.load(site, private_fields.completed(stack, site, files, private), values)
        if not values.get("check_only"):
            after = _fingerprint(site, labels, sets)["fingerprint"]
        elif readable:
            after = _expected(site, files, labels, before, values.get("mode") == "replace", sets)
        else:
            return {"changed": True, "loaded": loaded, "differences": []}
        differences = compare(before["fingerprint"], after)
        return {"changed": bool(differences), "loaded": loaded, "differences": differences}


def _regular(stack: contextlib.ExitStack, path: Path) -> Path:
    """Return the path of a file that can be read twice: a pipe is copied first."""
    if path.is_file() or not path.exists():
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    with path.open("rb") as source, (folder / path.name).open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return folder / path.name


def _comparable(site: Site, paths: Iterable[Path]) -> list[str]:
    """Return the models that the files name, without those that the site does not have or numbers in its own way."""
    models = describe(site)["models"]
    counts = _scanned(paths, Fingerprint({}), {}, {}).counts
    return [label for label in sorted(counts) if label in models and not label.startswith(_OWN)]


def _scanned(
    paths: Iterable[Path], fingerprint: Fingerprint, private: Mapping[str, Any], many: Mapping[str, Sequence[str]]
) -> Fingerprint:
    """Return the fingerprint after it has taken all objects of the files, without what is masked (`set_privacy`)."""
    with contextlib.ExitStack() as stack:
        for path in paths:
            source, form, name = data_load.opened(stack, path)
            for entry in fixture_stream.objects(source, form, name):
                fingerprint.add(set_privacy.without_masked(entry, private, many))
    return fingerprint


def _expected(
    site: Site,
    paths: Iterable[Path],
    labels: Sequence[str],
    before: Mapping[str, Any],
    replaces: bool,
    sets: Sequence[Values] | None,
) -> dict[str, Any]:
    """Return the fingerprint that a load would leave: a merge keeps what the files do not have."""
    private, many = before.get("private", {}), before["many"]
    objects = Objects(many)
    _scanned(paths, objects, private, many)

    def keep(entry: Entry) -> None:
        objects.keep(set_privacy.without_masked(entry, private, many))

    if not replaces and labels:
        options = dict(_labels(labels, "jsonl"), sets=sets, compared=True)
        data_dump.stream(site, options, data_dump.parsed(keep), prove=False)
    return objects.result()


def _fingerprint(site: Site, labels: Sequence[str], sets: Sequence[Values] | None) -> dict[str, Any]:
    """Return the report of a dump whose data is discarded."""
    if not labels:
        return {"many": {}, "fingerprint": Fingerprint({}).result()}
    return data_dump.stream(site, dict(_labels(labels, "json"), sets=sets, compared=True), lambda piece: None)


def _labels(labels: Sequence[str], form: str) -> dict[str, Any]:
    """Return the options of a dump of sets; `*` among them is the whole site without what every site creates itself."""
    if "*" in labels:
        return {"format": form}
    return {"labels": labels, "exclude": [], "format": form}
