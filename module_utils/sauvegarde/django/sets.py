"""Fixture sets: named groups of models, each exported to one file of the site's repository and imported from it.

A file holds one object a line, sorted by model and key, its lists sorted too: unchanged data is an unchanged file, and
a change is a small difference. It is a list of JSON, which stock `loaddata` (and Django Smuggler) reads.
"""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from .. import process
from ..acting import acting_as
from ..errors import SauvegardeError
from . import dump, fixture, load, privacy, private_fields, set_texts
from .proof import ALGORITHM, Fingerprint, Objects, compare
from .site import as_user, describe

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

_OWN = ("auth.permission", "contenttypes.")
# Of a set with masks, as a masking policy has them.
_LISTS = ("kept_words", "not_searched")
# The seven of the seed's site.
SETS = [
    {"name": "contracts", "file": "contracts.json", "models": ["jobs.contract", "jobs.contractvariations"]},
    {"name": "trades", "file": "jobs.json", "models": ["jobs.jobposition", "jobs.jobpositionvariations"]},
    {"name": "places", "file": "places.json", "models": ["jobs.place", "jobs.placevariations"]},
    {"name": "sources", "file": "sources.json", "models": ["jobs.source"]},
    {"name": "technologies", "file": "technos.json", "models": ["jobs.technology", "jobs.technologyvariations"]},
    {"name": "cms", "file": "content.json", "models": ["cms"]},
    {"name": "sites", "file": "sites.json", "models": ["sites.site"]},
]


def checked(sets, people=privacy.PRIVATE):
    """The sets, complete; what is wrong raises.

    `file` is a path inside the sets' folder, by default NAME.json; `indent` the spaces to indent with, by default one
    object a line; `people` says whether a set may hold people's data, by default as the argument `people`; `masks` what
    becomes of single fields (see `privacy`), `kept_words` and `not_searched` as in a masking policy.
    """
    names, files, whole = set(), set(), []
    for each in sets:
        unknown = sorted(set(each) - {"name", "file", "models", "indent", "people", "masks", *_LISTS})
        if unknown or not each.get("name") or not each.get("models"):
            raise SauvegardeError(
                f"A fixture set is not right: {each}",
                "Not known: {}.".format(", ".join(unknown)) if unknown else "",
                "A set has a name and models, and may have a file, indent, people, masks, kept_words and not_searched.",
            )
        made = {
            "name": each["name"],
            "file": each.get("file") or each["name"] + ".json",
            "models": list(each["models"]),
            "people": each.get("people") or people,
            "masks": _masks(each),
        }
        made.update({name: list(each[name]) for name in _LISTS if each.get(name)})
        if made["people"] not in privacy.CHOICES:
            raise SauvegardeError(
                "The fixture set {} cannot have people: {}.".format(made["name"], made["people"]),
                fix="Use one of: {}.".format(", ".join(privacy.CHOICES)),
            )
        if each.get("indent") is not None:
            made["indent"] = each["indent"]
        if made["name"] in names or made["file"] in files:
            raise SauvegardeError(f"Two fixture sets have the name or the file of {made['name']}.", fix="Rename one.")
        if not _is_inside(made["file"]) or not made["file"].endswith((".json", ".jsonl")):
            raise SauvegardeError(
                "The file of the fixture set {} cannot be {}.".format(made["name"], made["file"]),
                fix="Use a path inside the folder of the sets that ends in .json or .jsonl.",
            )
        if "indent" in made and (not isinstance(made["indent"], int) or made["file"].endswith(".jsonl")):
            raise SauvegardeError(
                "The fixture set {} cannot be indented.".format(made["name"]),
                fix="Give indent as a number of spaces, for a file that ends in .json.",
            )
        names.add(made["name"])
        files.add(made["file"])
        whole.append(made)
    return whole


def _masks(each):
    """{label: {field: action}} of the set."""
    masks = each.get("masks") or {}
    if not isinstance(masks, dict) or not all(isinstance(rules, dict) for rules in masks.values()):
        wrong = [str(masks)]
    else:
        wrong = [
            f"{label}.{name}: “{action}” is not an action"
            for label, rules in masks.items()
            for name, action in rules.items()
            if not privacy.is_action(action)
        ]
    if wrong:
        raise SauvegardeError(
            "The masks of the fixture set {} are not right.".format(each["name"]),
            "\n".join(wrong),
            "Give them as {application.model: {field: ACTION}}, ACTION one of " + privacy.choices() + ".",
        )
    return {label: dict(rules) for label, rules in masks.items()}


def _is_inside(file):
    parts = file.split("/")
    return not any(part in ("", ".", "..") or part.startswith(".git") for part in parts)


def render(entries, form, indent=None):
    """The text of a set's file; with an indent as stock `dumpdata --indent` writes it."""
    separators = (", ", ": ") if indent is None else (",", ": ")
    lines = [json.dumps(entry, ensure_ascii=False, indent=indent, separators=separators) for entry in entries]
    if form == "jsonl":
        return "".join(line + "\n" for line in lines)
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def place(entry):
    """What a set's objects are sorted by, inside their model: numbers by value, texts by code points.

    The same on every host, whatever its collation.
    """
    key = entry.get("pk")
    number = isinstance(key, (int, float))
    return (not number, key if number else 0, json.dumps(entry["fields"] if key is None else key))


def read(site, sets, people=privacy.PRIVATE, key=""):
    """The sets' texts, all from one snapshot. `key`: the masking's, hexadecimal, where the sets have masks.

    Returns [{"name", "file", "text", "objects", "fingerprint", "many", "private", "doubts"}]: as `privacy.actions`, and
    sentences about texts that hold people's data all the same.
    """
    sets, entries, many = checked(sets, people), {}, {}
    look = set_texts.Look(sets)

    def take(entry):
        look.add(entry)
        for name in many.get(entry["model"], ()):
            if name in entry["fields"]:
                entry["fields"][name] = sorted(entry["fields"][name], key=json.dumps)
        entries.setdefault(entry["model"], []).append(entry)

    labels = [label for each in sets for label in each["models"]]
    options = dict(_labels(labels, "jsonl"), sets=sets, key=key)
    result = dump.stream(site, options, dump.parsed(take), look.learn, many=many)
    found = look.sentences()
    # The models in the site's order, so that what is pointed to comes before what points.
    ordered = {model: sorted(some, key=place) for model, some in entries.items()}
    done = []
    for each in sets:
        models = [model for model in many if any(privacy.names(label, model) for label in each["models"])]
        for label in each["models"]:
            if not any(privacy.names(label, model) for model in many):
                raise SauvegardeError(
                    "The fixture set {} names {}, of which the site has nothing.".format(each["name"], label),
                    fix="Name an application or application.Model of the site.",
                )
        form, _ = fixture.kind_of(each["file"])
        chosen = [entry for model in ordered if model in models for entry in ordered[model]]
        tables = result["fingerprint"]["tables"]
        done.append(
            {
                "name": each["name"],
                "file": each["file"],
                "text": render(chosen, form, each.get("indent")),
                "objects": len(chosen),
                "fingerprint": {"algorithm": ALGORITHM, "tables": {m: tables[m] for m in models if m in tables}},
                "many": {model: many[model] for model in models},
                "doubts": [text for text in found if any(text.startswith(model + ".") for model in models)],
                "private": {model: result["private"][model] for model in models if model in result["private"]},
            }
        )
    return done


def private_sentences(made):
    """What of the sets that `read` gave was emptied, is a number or masked, for people."""
    return privacy.sentences({model: rules for each in made for model, rules in each["private"].items()})


def doubts(made):
    """Sentences about texts of the sets that `read` gave, which hold people's data all the same."""
    return sorted({sentence for each in made for sentence in each["doubts"]})


def export(site, sets, folder, write=True, owner="", texts=False, people=privacy.PRIVATE, key=""):
    """Export the sets into the folder (see `read` and `put`)."""
    return put(read(site, sets, people, key), folder, write, owner, texts)


def put(made, folder, write=True, owner="", texts=False):
    """Write what `read` gave into the folder; a file whose content is the same is not touched.

    Returns `made`, each with "path" and "changed", and with `texts` "before", the text that was there. `write=False`
    only says what would change. `owner`: whose the folder is, where we are root: it is read and written as that user,
    who could have put a link there to what only root may touch.
    """
    files = [[each["file"], each["text"]] for each in made]
    found = acting_as(owner, _put, str(folder), files, write, texts)
    return [dict(each, **more) for each, more in zip(made, found)]


def _put(folder, files, write, texts):
    folder = Path(folder)
    if not folder.is_dir():
        raise SauvegardeError(
            f"The folder for the fixtures does not exist: {folder}", fix="Create it, or correct its path."
        )
    done = []
    for name, _ in files:
        if not (folder / name).parent.is_dir():
            raise SauvegardeError(
                f"The folder for the fixture does not exist: {(folder / name).parent}",
                fix="Create it, or correct the set's file.",
            )
    for name, text in files:
        path, data = folder / name, text.encode("utf-8")
        try:
            before = path.read_bytes() if path.exists() else b""
            changed = before != data
            if changed and write:
                with dump.replaced(path, 0o644) as target:
                    target.write(data)
        except OSError as error:
            raise SauvegardeError(
                f"The fixture cannot be written: {path}", str(error), "Give its folder to the site's user."
            ) from error
        done.append({"path": str(path), "changed": changed})
        if texts:
            done[-1]["before"] = before.decode("utf-8", "replace")
    return done


def bring_in(site, sets, folder, values=None, people=privacy.PRIVATE):
    """Load the sets' files, all in one transaction. Returns as `load_if_needed`.

    Where we are root, they are read as the site's user, whose the folder is (see `put`). A field that the sets empty
    stays as it is in rows that are there already.
    """
    sets, folder = checked(sets, people), Path(str(folder))
    labels = [label for each in sets for label in each["models"]]
    with contextlib.ExitStack() as stack:
        files = [folder / each["file"] for each in sets]
        reader = as_user(site.user)
        if reader:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
            files = [_read_by(reader, path, place / f"{number}-{path.name}") for number, path in enumerate(files)]
        return load_if_needed(site, files, values or {}, labels, sets)


def _read_by(reader, path, copy):
    """A copy that another user has read, where that user may."""
    with copy.open("wb") as target:
        process.run([*reader, "cat", "--", str(path)], stdout=target, what=f"The fixture cannot be read: {path}")
    return copy


def load_if_needed(site, paths, values, labels=None, sets=None):
    """Load fixtures where the database does not hold just what they do.

    `labels`: the models that they cover, by default those that they name. `sets`: those that the files are of: what
    they empty or mask is neither compared nor loaded into rows that are there. Returns {"changed", "loaded",
    "differences"}: `loaded` as `load.load` (None where nothing was to be done), the differences of the database, before
    and after.
    """
    values = dict(values)
    with contextlib.ExitStack() as stack:
        paths = [_regular(stack, path) for path in paths]
        # Only Django can read the others: whether they change anything is seen when they are in.
        readable = all(fixture.kind_of(path.name)[0] in ("json", "jsonl") for path in paths)
        if labels is None:
            labels = _comparable(site, paths) if readable else ["*"]
        before = _fingerprint(site, labels, sets)
        private = before.get("private", {})
        wanted = _scanned(paths, Fingerprint(before["many"]), private, before["many"]).result() if readable else None
        if wanted is not None and not compare(wanted, before["fingerprint"]):
            return {"changed": False, "loaded": None, "differences": []}
        wholes = private_fields.completed(stack, site, paths, private)
        if values.get("mode") == "replace" and readable:
            # So that a model whose last row is gone is emptied too.
            values["models"] = sorted(before["many"])
        loaded = load.load(site, wholes, values)
        if values.get("check_only"):
            if not readable:
                return {"changed": True, "loaded": loaded, "differences": []}
            after = _after(site, paths, labels, before, values.get("mode") == "replace", sets)
            differences = compare(before["fingerprint"], after)
            return {"changed": bool(differences), "loaded": loaded, "differences": differences}
        differences = compare(before["fingerprint"], _fingerprint(site, labels, sets)["fingerprint"])
        return {"changed": bool(differences), "loaded": loaded, "differences": differences}


def _regular(stack, path):
    """The path, or a copy's: a pipe can be read only once."""
    path = Path(str(path))
    if path.is_file() or not path.exists():
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    with path.open("rb") as source, (folder / path.name).open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return folder / path.name


def _comparable(site, paths):
    """The models that the files name, but for those that the site does not know or numbers in its own way."""
    known = describe(site)["models"]
    named = _scanned(paths, Fingerprint({})).counts
    return [label for label in sorted(named) if label in known and not label.startswith(_OWN)]


def _scanned(paths, fingerprint, private=None, many=None):
    """The fingerprint, having taken all objects of the files, without what is masked (see `privacy`)."""
    with contextlib.ExitStack() as stack:
        for path in paths:
            source, form, name = load.opened(stack, path)
            for entry in fixture.objects(source, form, name):
                fingerprint.add(privacy.without_masked(entry, private or {}, many or {}))
    return fingerprint


def _after(site, paths, labels, before, replace, sets):
    """The fingerprint that a load would leave: a merge keeps what the files do not have."""
    private, many = before.get("private", {}), before["many"]
    brought = _scanned(paths, Objects(many), private, many)

    def keep(entry):
        brought.keep(privacy.without_masked(entry, private, many))

    if not replace and labels:
        dump.stream(site, dict(_labels(labels, "jsonl"), sets=sets, compared=True), dump.parsed(keep), prove=False)
    return brought.result()


def _fingerprint(site, labels, sets):
    if not labels:
        return {"many": {}, "fingerprint": Fingerprint({}).result()}
    return dump.stream(site, dict(_labels(labels, "json"), sets=sets, compared=True), _nowhere)


def _labels(labels, form):
    """The options of a dump of sets; `*` among them is the whole site but for what every site makes itself."""
    if "*" in labels:
        return {"format": form}
    return {"labels": labels, "exclude": [], "format": form}


def _nowhere(_piece):
    """A dump that is only looked at."""
