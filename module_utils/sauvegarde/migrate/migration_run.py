"""One migration on its target, from an archive that was carried here to a proven side database: what the doors call.

As with a restore, a run ends at its safe point: the side database is proven and the live one was not touched. The swap
is the restore's own (`restore.restore_swap`), and so is the way back.
"""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from ..archive import archive_reader, compression, ids
from ..backup import kinds
from ..django import (
    data_dump,
    data_load,
    fixture_fingerprint,
    fixture_stream,
    site,
)
from ..errors import Locked, SauvegardeError
from ..restore import detached_restore, restore_run, restore_state
from ..restore.confirmation import Confirmation
from ..restore.plan_mark import PlanMark, digest
from ..restore.request import RestoreRequest
from ..system.run_as import call_as
from . import difference_examples, migration_plan, target_run

DEFAULTS = {
    "site": {},
    "path": "",
    "directory": "/var/lib/sauvegarde/migrations",
    "server_directory": "/var/lib/postgresql/sauvegarde",
    "connection": {},
    "keeper": "",
    "labels": [],
    "exclude": [],
    "include": [],
    "hidden": "travel",
    "policy": {},
    "unknown": "stop",
    "environment_of_host": "",
    "mark": None,
    "plan_mark": "",
}


def settled(spec):
    """The whole specification of a run from a caller's values.

    site: of the target (site.Site's values). path: the carried archive, '' for a plan only. directory: where runs keep
    their state. server_directory: the restores' folder, for a server. connection: of its keeper. keeper: OS user who
    keeps the database; '' for postgres, or the site's own user with SQLite. labels: models and applications to move,
    [] for the whole site. exclude: models and applications that stay out. include: models that come along though they
    stay out by default (search indexes, unmanaged models). hidden: whether the source was asked for rows
    that a default manager hides (travel) or not (stay). policy: what to do about values that the target does not take
    (load.POLICIES). unknown: 'stop' or 'skip' what the target's code does not know. plan_mark: of the plan that was
    confirmed, '' for whatever the plan is.
    """
    unknown = sorted(set(spec) - set(DEFAULTS))
    if unknown:
        raise SauvegardeError(
            "Unknown migration settings: " + ", ".join(unknown), fix="Known: " + ", ".join(sorted(DEFAULTS))
        )
    found = dict(DEFAULTS, **spec)
    data_load.options({"policy": found["policy"]})  # before anything is made
    if found["path"] and found["mark"] is None:
        choice = [found["labels"], found["exclude"], found["include"]]
        found["mark"] = [found["path"], archive_reader.read_manifest(found["path"])["id"], *choice]
    return found


def make_plan(spec, source):
    """The plan (plan.make's keys)."""
    spec = settled(spec)
    return migration_plan.make(site.site(spec["site"]), spec, source)


def start(spec, confirmation: Confirmation, check=False):
    """Start a run that goes on by itself, or take over the one that is there for the same archive.

    confirmation: that the target is replaced. Returns its state, with `started_now`;
    with `check` {} once it is confirmed.
    """
    spec = settled(spec)
    found = migration_plan.survey(site.site(spec["site"]), spec["labels"], spec["exclude"], include=spec["include"])
    database = found["name"]
    confirmation.require(database)
    _require_confirmed(found, spec)
    if check:
        return {}
    site.modules()  # while what they are read from is still there
    directory = restore_state.folder(spec["directory"])
    for each in restore_state.runs(directory, database):
        if each["status"] == restore_state.RUNNING:
            if each["mark"] == spec["mark"]:
                return dict(each, started_now=False)
            raise Locked(f"Another migration into {database} is running on this host.", "", "Wait for its end.")
    identifier = ids.new_id(directory)
    return detached_restore.launch(directory, identifier, lambda: fill(spec, identifier, found))


def _require_confirmed(found, spec):
    """Raise SauvegardeError if the target or its live database is not that of the plan that was confirmed.

    The source compares its own part where it dumps (migration_source.require_confirmed).
    """
    if not spec["plan_mark"]:
        return
    confirmed = PlanMark.from_text(spec["plan_mark"])
    target, owner = migration_plan.target_of(found, site.site(spec["site"]).user, spec)
    system = call_as(owner, target.system_identifier)
    live = digest(call_as(owner, target.live_facts))
    confirmed.require(replace(confirmed, target=migration_plan.target_digest(found, spec, system), live=live))


def fill(spec, identifier, found):
    """Fill and prove a side database. Returns the run's final state, whose status is `ready`.

    `found`: the target's survey. Raises where anything fails: the side database is dropped then, and the state says
    why.
    """
    where = site.site(spec["site"])
    directory = restore_state.folder(spec["directory"])
    with restore_state.hold(directory, found["name"]), restore_state.State(
        directory,
        identifier,
        database=found["name"],
        mark=spec["mark"],
        path=spec["path"],
        report=str(directory / identifier / restore_state.NAME),
    ) as run:
        try:
            run.update(status=restore_state.READY, step="ready", **_fill(spec, where, found, run))
        except BaseException as error:
            said = error.as_dict() if isinstance(error, SauvegardeError) else {"what": str(error) or repr(error)}
            run.update(status=restore_state.FAILED, error=said)
            raise
        return run.values


def _fill(spec, where, found, run):
    begun = time.monotonic()
    run.update(step="read")
    manifest = kinds.verify(spec["path"])
    target, keeper = migration_plan.target_of(found, where.user, spec)

    def keep(function, *arguments):
        """As the database's keeper."""
        return call_as(keeper, function, *arguments)

    system = keep(target.system_identifier)
    migration_plan.check_server(found, system)
    with restore_state.hold(keep(target_run.lock_folder, target), found["name"]):
        run.update(step="safety archive")
        safety = keep(target_run.archive_live, target)
        run.update(safety=safety, keeper=keeper, step="create")
        archive = (spec["path"], spec["mark"])
        if spec["labels"]:
            reserved = keep(target_run.copy_live, target, *archive, lambda: _restore_copy(target, safety))
        else:
            reserved = keep(target_run.reserve, target, *archive)
        name = reserved["side"]
        run.update(side=name, side_id=reserved["id"])
        try:
            if not spec["labels"]:
                keep(target.create_side, name)
            beside = where._replace(name=name, system=system)
            run.update(step="schema")
            choice = {"labels": spec["labels"], "exclude": [*data_dump.EXCLUDE, *spec["exclude"]]}
            choice["include"] = spec["include"]
            migrated = site.run(beside, "migrate", choice)
            found = dict(found, selected=_taken(found, migrated["left_out"], manifest))
            others = _others(beside, found) if spec["labels"] else None
            run.update(step="load")
            loaded = _load(spec, beside, found, manifest, run)
            run.update(step="prove")
            progress = _counting(run, _common(found, manifest))
            proven = prove(spec, beside, found, manifest, loaded["touched"], progress, loaded["changed"])
            run.update(step="check", tables=None)
            if others is not None:
                _same(others, _others(beside, found))
            _whole(keep(target.differences, name, found["tables"], _rows(found, manifest, proven)))
            run.update(step="properties")
            finished = keep(target_run.finish, target, name)
            masked = manifest["source"]["masked"]
            keep(target_run.record_end, target, reserved["id"], restore_state.READY, masked, spec["plan_mark"])
        except BaseException as error:
            try:
                keep(target.drop, name)
            except SauvegardeError as failed:
                raise _with_leftover(error, name, failed) from error
            finally:
                with contextlib.suppress(SauvegardeError):
                    keep(target_run.record_end, target, reserved["id"], restore_state.FAILED)
            raise
    return {
        "proof": proven,
        "masked": manifest["source"]["masked"],
        "migrations": migrated["applied"],
        "mended": loaded["mended"],
        "stock": loaded["stock"],
        "accepted": migration_plan.accepted(loaded["problems"]),
        "notes": _notes(proven, finished["skipped"], loaded),
        "archive": {key: manifest[key] for key in ("id", "host", "started", "ended", "bytes")},
        "bytes": finished["bytes"],
        "seconds": round(time.monotonic() - begun, 1),
    }


def _restore_copy(target, archive):
    """Restore the live database's archive into a side database, for the named models to be replaced in."""
    return restore_run.fill(RestoreRequest(target, archive, jobs=archive_reader.default_workers()), is_locked=True)


def _with_leftover(error, name, failed):
    """The error of a run whose side database could not be removed, which names that too."""
    left = f"The side database {name} could not be removed and may hold personal data: {failed.what}"
    why = "\n".join(filter(None, [getattr(error, "why", str(error)), left]))
    fix = " ".join(filter(None, [getattr(error, "fix", ""), "Remove the side database."]))
    what = getattr(error, "what", "The migration was stopped.")
    return (type(error) if isinstance(error, SauvegardeError) else SauvegardeError)(what, why, fix)


def _load(spec, where, found, manifest, run):
    """The archive's data, in one transaction, in place of whatever the migrations made."""
    policy = dict(spec["policy"])
    if spec["unknown"] == "skip":
        policy["unknown"] = "skip"
    for kind in ("precision", "nan"):
        policy.setdefault(kind, "stop")  # what a database does not keep is accepted by name
    if not spec["labels"]:
        policy.setdefault("hidden", "drop")  # the side database's only rows are those of its migrations
    values = {"mode": "replace", "policy": policy, "models": _common(found, manifest)}
    # Before the swap nothing is saved or deleted for anybody but this side database, which may never be put in place: a
    # listener that removes a picture would take it from the live site, and one that makes a profile for each user would
    # make those again that the data bring.
    values.update(listeners=False, tell_deletions=False, triggers=False)
    progress = _counting(run, manifest["fingerprint"]["tables"])
    # The archive may hold more than is asked for.
    values["exclude"] = [
        label for label in manifest["source"]["many"] if label in found["models"] and label not in found["selected"]
    ]
    return data_load.load(where, [_data(spec, manifest)], values, progress)


def _counting(run, labels):
    """A function for progress events that shows how many of the models are done, and a step that follows them."""
    run.update(tables=0, tables_total=len(labels))
    done = set()

    def progress(event):
        if "model" in event:
            done.add(event["model"])
            run.note(tables=len(done))
        elif "step" in event:
            run.update(step=event["step"], tables=None)

    return progress


def _taken(found, left_out, manifest):
    """The selected models that the side database has tables for; raises where the archive has rows without a place."""
    tables = manifest["fingerprint"]["tables"]
    # Of a view the rows come from other tables.
    homeless = [
        label for label in found["selected"] if label in tables and left_out.get(label) == fixture_stream.NO_TABLE
    ]
    if homeless:
        raise SauvegardeError(
            "The site's migrations make no table for what the archive holds: the live database was not touched.",
            "\n".join("{}: {} rows".format(label, tables[label]["rows"]) for label in homeless),
            "Exclude these models (migrate_exclude), or let a migration make their tables.",
        )
    return [label for label in found["selected"] if label not in left_out]


def _data(spec, manifest):
    """The carried archive's fixture."""
    return Path(spec["path"]) / (manifest["source"]["file"] + compression.SUFFIX)


def _notes(proven, skipped, loaded):
    """What a person should know of what is not there as it was, one a line."""
    notes = [f"the trigger {each} was off while the new database was filled" for each in loaded["silent"]]
    notes += migration_plan.accepted(loaded["problems"])
    notes += [f"left out: the setting {each}, which this server does not know" for each in skipped]
    for label, fields in sorted(proven["left_out"].items()):
        notes.append("{}: only one side knows {}".format(label, ", ".join(fields)))
    for label, count in sorted(proven["mended"].items()):
        notes.append(f"{label}: {count} mended or left out, as the policy says; all others are proven")
    return notes


def _others(where, found):
    """The fingerprint of the models that are not moved."""
    every = migration_plan.survey(where)["selected"]
    labels = [label for label in every if label not in found["selected"]]
    return data_dump.stream(where, {"labels": labels, "format": "jsonl", "all": True}, lambda piece: None)[
        "fingerprint"
    ]


def _rows(found, manifest, proven):
    """{table: rows} that the side database must hold: of every model that is moved, the empty ones too."""
    moved = [label for label in _common(found, manifest) if label in found["table_of"]]
    return {found["table_of"][label]: proven["models"].get(label, {"rows": 0})["rows"] for label in moved}


def _whole(wrong):
    if wrong:
        raise SauvegardeError(
            "The side database is not what was proven: the live database was not touched.",
            "\n".join(wrong),
            "Find out what in the site (a listener, a trigger, a database engine of its own) writes elsewhere.",
        )


def _same(before, after):
    differences = fixture_fingerprint.compare(before, after)
    if differences:
        raise SauvegardeError(
            "Models that were not to be moved have changed: the live database was not touched.",
            "\n".join(each["sentence"] for each in differences),
            "Find out what the site does when these models are loaded (a trigger, a cascade); name them too.",
        )


def _common(found, manifest):
    """The models that both sides have, empty ones and those that masking drops included: what is replaced."""
    return [label for label in found["selected"] if label in manifest["source"]["many"]]


def prove(spec, where, found, manifest, touched, progress=None, changed=None):
    """Compare what is in the database with what the archive says was sent, per model; raises where they differ.

    A model that differs is compared once more over the fields that both sides know and without the objects that the
    policy has mended (`touched`: {model: keys}), which are listed; those in `changed` ({model: [[key, fields]]}) lack
    these fields only. Returns {"by", "rows", "models": {label: {"rows", "hash"}}, "left_out": {label: fields},
    "mended": {label: objects}}.
    """
    options = manifest["source"]["options"]
    values = {key: options[key] for key in ("natural_foreign", "natural_primary") if key in options}
    # The side database must hold just what was sent, whatever a manager shows of it.
    values.update(all=True, exact=True)
    labels = _common(found, manifest)
    options = dict(values, labels=labels, format="jsonl")
    arrived = data_dump.stream(where, options, lambda piece: None, progress)["fingerprint"]
    tables = manifest["fingerprint"]["tables"]
    sent = {"tables": {label: tables[label] for label in tables if label in labels}}
    left_out = {}
    differences = fixture_fingerprint.compare(sent, arrived)
    if differences:
        values.update(labels=[each["model"] for each in differences], format="jsonl")
        differences, left_out = _in_common(spec, where, found, manifest, values, touched, changed)
    if differences:
        equal = [each["model"] for each in differences if each["expected"]["rows"] == each["actual"]["rows"]]
        known = {label: found["models"][label]["fields"] for label in equal}
        options = {key: value for key, value in values.items() if key != "labels"}
        many = manifest["source"]["many"]
        named = (
            difference_examples.of(where, _data(spec, manifest), equal, options, many, known, touched) if equal else []
        )
        raise SauvegardeError(
            "What arrived is not what was sent: the live database was not touched.",
            "\n".join([each["sentence"] for each in differences] + named),
            "Compare the code of both sites: a field that is written or read in its own way differs.",
        )
    return {
        "by": fixture_fingerprint.ALGORITHM,
        "rows": sum(each["rows"] for each in arrived["tables"].values()),
        "models": arrived["tables"],
        "left_out": left_out,
        "mended": {label: len(keys) for label, keys in touched.items()},
    }


def _in_common(spec, where, found, manifest, values, touched, changed):
    """(differences, {label: fields of one side only}) of the models that `values` names, over what both sides have."""
    known = {label: found["models"][label]["fields"] for label in values["labels"]}
    sent = fixture_fingerprint.Part(manifest["source"]["many"], known, touched, changed)
    with contextlib.ExitStack() as stack:
        for entry in fixture_stream.objects(*data_load.opened(stack, _data(spec, manifest))):
            sent.add(entry)
    many = {}
    arrived = fixture_fingerprint.Part(many, sent.fields, touched, changed)
    data_dump.stream(where, values, data_dump.parsed(arrived.add), prove=False, many=many)
    left_out = {label: sorted(sent.fields[label] ^ fields) for label, fields in arrived.fields.items() if fields}
    differences = fixture_fingerprint.compare(sent.result(), arrived.result())
    return differences, {label: fields for label, fields in left_out.items() if fields}
