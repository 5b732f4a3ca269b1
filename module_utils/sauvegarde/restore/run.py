"""Restore a source into a proven side database, and swap that database in: what the playbooks' modules call.

`fill` ends at a safe point: the side database is proven, and the live database is unchanged. `put_in_place` swaps
them. If a run is killed at any step, the next one reads its state and cleans up or continues.
"""

import contextlib
import hashlib
import shutil
import socket
import tempfile
import time
from pathlib import Path

import psycopg2
from psycopg2 import sql

from .. import archive, character_sets, databases, manifest, omissions, postgres, predefined, process
from ..errors import SauvegardeError
from . import (
    cron_jobs,
    fetch,
    files,
    load,
    load_as,
    losses,
    names,
    plan,
    proof,
    roles,
    room,
    side,
    source,
    split_files,
    state,
    swap,
    waiting,
    words,
)
from .contents import scan

CARRIED = "carried"  # in a run's directory, where playbooks put what they bring from elsewhere

DEFAULTS = {
    "connection": {},
    "path": "",
    "database": "",
    "directory": "/var/lib/postgresql/sauvegarde",
    "mode": "swap",
    "file_database": "",
    "globals": "",
    "globals_roles": "named",
    "missing_roles": "refuse",
    "owner": "",
    "encoding": "",
    "locale": "",
    "jobs": 0,
    "partial": "",
    "accept_losses": [],
}


def settled(spec):
    """Return the caller's values with the defaults of the others; raise for unknown keys and values.

    connection: of the target server (postgres.server). path: the source on this host. database: the target's name.
    directory: where runs keep their state and unpack. mode: 'swap' or 'beside'. file_database: which one of
    a pg_dumpall file, the target's name by default. globals: path of a globals file.
    missing_roles: 'refuse' or 'create'. owner, encoding, locale: in place of the source's. jobs: 0 for one a core.
    globals_roles: 'named' by the source, or 'all' that the globals describe. partial: partial.WORD, where the source
    may hold less than the live database. accept_losses: names of objects that may be missing afterwards
    (losses.name_of), where they cannot be restored.
    """
    unknown = sorted(set(spec) - set(DEFAULTS))
    if unknown:
        raise SauvegardeError(
            "Unknown restore settings: " + ", ".join(unknown), fix="Known: " + ", ".join(sorted(DEFAULTS))
        )
    found = dict(DEFAULTS, **spec)
    for name in ("path", "database"):
        if not found[name]:
            raise SauvegardeError(f"`{name}` is required.")
    for name, allowed in (
        ("mode", ("swap", "beside")),
        ("globals_roles", ("named", "all")),
        ("missing_roles", ("refuse", "create")),
    ):
        if found[name] not in allowed:
            raise SauvegardeError(f"{name} is {found[name]!r}.", fix="Use " + " or ".join(allowed) + ".")
    found["jobs"] = int(found["jobs"]) or archive.default_workers()
    found["accept_losses"] = losses.accepted_names(found["accept_losses"])
    return found


def _maintenance(spec):
    """A connection to the target's maintenance database, as a context manager that closes it."""
    return contextlib.closing(side.maintenance(postgres.server(spec["connection"])))


def _options(spec, found):
    return dict(spec, given=roles.read(_globals(spec, found)), rate=_rate(spec["directory"]))


def _globals(spec, found):
    """Where roles are described: the file that was given, else the source itself where it is a whole cluster's."""
    return spec["globals"] or (spec["path"] if found.section else "")


def _rate(directory):
    """Bytes a second of the newest successful run in this directory; 0 if there is none."""
    for each in state.runs(directory):
        if each.get("rate"):
            return each["rate"]
    return 0


_MARKED = ("mode", "path", "file_database", "globals", "missing_roles", "owner", "encoding", "locale", "globals_roles")


def mark(spec):
    """Return values that are equal only for the same restore of the same source: a newer file of the same name differs.

    Archives are compared by their manifest, not by time, since the same archive may have been copied here again."""
    path = Path(spec["path"])
    asked = [spec[key] for key in _MARKED]
    asked.append(sorted(losses.accepted_names(spec["accept_losses"])))
    if (path / manifest.NAME).is_file():
        return [*asked, hashlib.sha256((path / manifest.NAME).read_bytes()).hexdigest()]
    status = path.stat()
    return [*asked, status.st_size, status.st_mtime]


def make_plan(spec, said=None):
    """The plan of a restore (plan.make's keys); reads the source whole, writes only below the run's directory.

    Damage and a missing source are obstacles like the others; where nothing can be known of the source, the plan has
    nothing else. said: a confirmation (plan.check_confirmation's words) that was given already, to be looked at too.
    """
    spec = settled(spec)
    server = postgres.server(spec["connection"])
    directory = state.folder(spec["directory"])
    obstacles = []
    try:
        found, contents = source.detect(spec["path"]), None
        with tempfile.TemporaryDirectory(dir=str(directory), prefix=".plan-") as work, _maintenance(spec) as asked:
            number = asked.server_version
            if found.manifest is not None:
                options = _options(spec, found)
                damage = _refusals(source.check, found)
                obstacles += damage
                if not damage:
                    options.update(_definitions(found, work, number))
            else:
                found, ready, tool, contents = source.choose(spec, work, number)
                options = dict(_options(spec, found), **_told(ready, tool, contents))
        made = plan.make(server, spec["database"], found, plan.need(found, contents), options, contents)
    except SauvegardeError as error:
        made = {"obstacles": [error.as_dict()], "warnings": []}
    if said and said["confirm"] and spec["mode"] == "swap":
        obstacles += _refusals(confirm, spec["database"], said)
    return dict(made, obstacles=obstacles + made["obstacles"])


def _told(ready, tool, contents):
    """A plan's options `needs` and `drops_oids` of an archive; {} for plain SQL, whose text says it."""
    if tool is None:
        return {}
    needs = losses.dependencies(ready, tool, contents.encoding)
    return {"needs": needs, "drops_oids": source.drops_oids(ready, tool)}


def _definitions(found, work, number):
    """A plan's options of an archive of ours, from its table of contents alone."""
    try:
        ready = source.definitions(found, work)
        tool = source.reader(ready, number)
        with source.script(ready, tool, "-C", "-s") as stream:
            known = scan(stream)
        return dict(_told(ready, tool, known), definitions=known)
    except SauvegardeError:
        return {}  # no pg_restore here reads it, which is an obstacle of the plan's own


def _refusals(check, *arguments):
    """Run a check and return its error, if it raises one, as a list of obstacles for a plan."""
    try:
        check(*arguments)
    except SauvegardeError as error:
        return [error.as_dict()]
    return []


def confirm(database, said):
    """Refuse unless what was `said` (arguments.CONFIRMATION's values) confirms that `database` is replaced."""
    others = (said[key] for key in ("host", "environment_of_host", "production", "targets"))
    plan.check_confirmation(said["confirm"], database, *others)


def _end_sessions(spec, name):
    """End all sessions in a side database, if the server answers."""
    with contextlib.suppress(SauvegardeError, psycopg2.Error), _maintenance(spec) as connection:
        side.end_sessions(connection, name)


def _end_orphans(spec):
    """End the sessions of children of killed runs: those children wait for the server, and hold the lock."""
    for each in state.runs(spec["directory"], spec["database"]):
        if each["status"] == state.KILLED:
            _end_sessions(spec, each["side"])


def clean(spec, own=""):
    """Remove side databases and unpacked files that killed and failed runs of this database left. Needs the lock.

    Proven side databases that wait for their swap are kept, and so is everything of the run `own`. Returns the names
    of the databases that were dropped.
    """
    directory = Path(spec["directory"])
    proven = set()
    dropped = []
    for each in state.runs(directory, spec["database"]):
        if each["status"] == state.READY:
            proven.add(each["side"])
        elif each["id"] != own:
            shutil.rmtree(str(directory / each["id"] / "work"), ignore_errors=True)
            # We hold the lock, so a run whose state says that it is running was killed.
            if each["status"] == state.RUNNING:
                state.change(directory, each["id"], status=state.KILLED)
    with _maintenance(spec) as connection:
        for each in swap.kept(connection, spec["database"]):
            kept = each["name"] in proven and not side.is_half_dropped(connection, each["name"])
            if each["kind"] == "restore" and not kept and side.drop(connection, each["name"]):
                dropped.append(each["name"])
    return sorted(dropped)


def fill(spec, identifier=None, held=False):
    """Restore into a side database and prove it. Returns the run's final state, whose status is 'ready'.

    Raises where anything fails: the side database is dropped then, and the state says why. The live database is not
    touched. `identifier` names the run where the caller needs to know it before (a new one by default); `held` says
    that the caller has the lock.
    """
    spec = settled(spec)
    directory = state.folder(spec["directory"])
    if not held:
        _end_orphans(spec)
    with contextlib.ExitStack() as stack:
        if not held:
            stack.enter_context(state.hold(directory, spec["database"]))
        identifier = identifier or archive.new_identifier(directory)
        name = names.side(spec["database"], identifier)
        with state.State(
            directory,
            identifier,
            database=spec["database"],
            side=name,
            mode=spec["mode"],
            path=spec["path"],
            globals=spec["globals"],
            mark=mark(spec) if Path(spec["path"]).exists() else None,
        ) as run:
            try:
                # After the state exists: the caller waits for it, and dropping a large database takes time.
                run.update(step="clean")
                notes = _settle(directory, spec)
                run.update(cleaned=clean(spec, own=identifier))
                with _maintenance(spec) as connection:
                    places = room.places(postgres.value(connection, "SHOW data_directory"))
                with room.guarded(places, lambda: _end_sessions(spec, name)):
                    result = _fill(spec, run, name)
                result["notes"] = notes + result["notes"]
                run.update(status=state.READY, step="ready", **result)
            except BaseException as error:
                run.watch = None
                said = error.as_dict() if isinstance(error, SauvegardeError) else {"what": str(error) or repr(error)}
                # Free the space first: on a full disk the state could not be written.
                with contextlib.suppress(SauvegardeError, psycopg2.Error), _maintenance(spec) as connection:
                    side.drop(connection, name)
                shutil.rmtree(str(run.path / "work"), ignore_errors=True)
                run.update(status=state.FAILED, error=said)
                raise
            shutil.rmtree(str(run.path / "work"), ignore_errors=True)
            return run.values


def _fill(spec, run, name):
    server = postgres.server(spec["connection"])
    work = run.path / "work"
    work.mkdir(mode=0o700)
    begun = time.monotonic()

    run.update(step="read")
    with _maintenance(spec) as connection:
        number = connection.server_version
    given, ready, tool, contents = source.choose(spec, work, number, lambda done: run.note(bytes_read=done))

    run.update(step="plan")
    wanted = plan.need(given, contents)
    options = dict(_options(spec, given), **_told(ready, tool, contents))
    planned = plan.make(server, spec["database"], given, wanted, options, contents)
    # Obstacles of single objects do not stop here: the load finds these objects together with all others that fail.
    found = [each for each in planned["obstacles"] if not each.get("object") or each["stops"]]
    if found:
        raise SauvegardeError(
            "The restore was not started: " + " ".join(each["what"] for each in found),
            "\n".join(words.of_obstacles({"obstacles": found})) if len(found) > 1 else found[0]["why"],
            "" if len(found) > 1 else found[0]["fix"],
        )
    run.update(expected=planned["expected"], bytes_total=wanted["bytes"], tables_total=wanted["tables"])

    with _maintenance(spec) as connection:
        cron = cron_jobs.is_postponed(connection, spec["mode"], spec["database"], wanted["extensions"], contents)
    postponed = cron_jobs.NAMES if cron else ()
    run.update(scheduled=cron_jobs.keep(contents) if cron else None)

    run.update(step="roles")
    properties = planned["properties"]
    with _maintenance(spec) as connection:
        made = roles.create(connection, planned["roles_made"], options["given"])
        # Recorded at once, so that the caller can drop them however the run ends.
        run.update(roles_made=made)
        postgis = postgres.value(
            connection, "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'postgis'"
        )
    older = wanted["extensions"].get("postgis", {}).get("version", "")
    contents = contents._replace(raster=contents.raster or older.startswith(("1.", "2.")))

    def loaded(because=""):
        """A new side database, filled, as its load.Target."""
        run.update(step="create")
        with _maintenance(spec) as connection:
            side.drop(connection, name)
            side.create(connection, name, properties)
        run.update(step="extensions")
        ledger = losses.Ledger(spec["accept_losses"], contents.texts, postponed)
        wanted_extensions = side.extensions_of(contents, postgis)
        by_extension = side.make_extensions(server, name, wanted_extensions, contents, ledger)
        side.comment_extensions(server, name, contents, ledger)
        if by_extension and "settings" not in wanted["properties"]:
            # If the dump does not record settings, keep the one that postgis_topology made.
            properties["settings"] = dict({"search_path": by_extension}, **properties["settings"])
        side.put_in_force(server, name, properties)
        path = properties["settings"].get("search_path", "")
        run.watch = lambda: _progress(server, name)
        target = load.Target(server, name, contents, properties["owner"], path, run.update, because, ledger)
        try:
            if given.manifest is not None:
                _edited_srids(target.connection, given.manifest)
            # pg_restore would keep the INSERTs of a table before the one that fails, and cannot load rows with OIDs.
            if tool is not None and tool.native and not contents.inserted and not contents.oids:
                target.from_archive(ready, tool, spec["jobs"])
            else:
                with source.script(ready, tool) as stream:
                    target.from_script(stream, waiting.Waiting(work, source.enough(ready, work)), spec["jobs"])
        except BaseException:
            run.watch = None
            target.close()
            raise
        return target

    try:
        target = loaded()
    except load.Denied as error:
        target = loaded(error.reason)
    with contextlib.closing(target):
        target.find_all_losses()
        lost = target.losses.as_list()
        run.update(losses=lost)
        target.losses.judge()
        omissions.advance_sequences(target.connection, *_sequences(given.manifest, lost))
        run.update(step="analyze")
        # vacuumdb, since it analyzes several tables at a time.
        vacuumdb = postgres.client("vacuumdb", number)
        analyzed = process.run(
            [vacuumdb.path, "-d", postgres.conninfo(name), "--analyze-only", "--quiet", "-j", str(spec["jobs"])],
            env=target.environment(PGCLIENTENCODING=character_sets.RAW),
            checked=False,
        )
        if analyzed.status:
            # The restore goes on: autovacuum collects the statistics later.
            said = losses.words(analyzed.stderr).splitlines()
            target.notes.append(
                "not all statistics were collected (run ANALYZE): " + (said[0] if said else "vacuumdb gave no reason")
            )
        notes = target.notes
        run.watch = None
        run.update(step="prove")
        if given.manifest is not None:
            proven = proof.against_manifest(server, name, given.manifest, spec["jobs"], lost)
        else:
            proven = proof.by_counting(target.connection, contents, lost)
        run.update(step="properties")
        # In the database itself, whose encoding its comment and its roles' names are in; before there are event
        # triggers, which may listen to logins.
        with contextlib.closing(postgres.connect(server, name)) as connection:
            target.release()
            target.notes += _put_back_public(connection, given.manifest, contents)
            target.make_event_triggers()
            lost = target.losses.as_list()
            run.update(losses=lost)
            # Now it is certain which of the accepted objects did not fail.
            target.notes += target.losses.judge()
            skipped = side.finish(connection, name, properties)
            size = postgres.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (name,))
    seconds = time.monotonic() - begun
    return {
        "proof": proven,
        "notes": notes + [f"left out: the setting {each}, which this server does not know" for each in skipped],
        "roles_made": made,
        "warned": planned["warnings"],
        "archive": planned["source"],
        "lost": planned["lost"],
        "bytes": size,
        "seconds": round(seconds, 1),
        "rate": round(size / seconds),
    }


def _sequences(made, lost):
    """omissions.advance_sequences' `recorded` and `proven` from a manifest, or from None."""
    if made is None:
        return (), ()
    sums = losses.of_fingerprint(made["fingerprint"] or {}, [each["object"] for each in lost])
    return made["source"].get("extension_sequences", ()), sums.get("sequences", ())


def _put_back_public(connection, made, contents):
    """Give the schema public the owner and the comment that are in the manifest; from a dump before 11, whose CREATE
    SCHEMA public is passed over, the owner, unless that is a superuser. Returns notes about what failed."""
    if made is not None:
        public = made["source"].get("schema_public", {})
    else:
        owners = {entry.owner for entry in contents.redundant if entry.kind == "SCHEMA" and entry.owner}
        owners -= load_as.superusers(connection)
        public = {"owner": owners.pop()} if owners else {}
    notes = []
    for statement in predefined.statements(public):
        try:
            postgres.execute(connection, statement)
        except psycopg2.Error as error:
            notes.append(f"left out: {statement} ({losses.words(str(error))})")
    return notes


def _progress(server, name):
    """Bytes and tables so far, for the run's state; {} if the server does not answer."""
    with contextlib.suppress(SauvegardeError, psycopg2.Error), contextlib.closing(
        postgres.connect(server, name)
    ) as connection:
        size, tables = postgres.query(
            connection,
            "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()), count(*)"
            " FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.oid >= 16384"
            " AND pg_catalog.pg_relation_size(c.oid) > 0",
        )[0]
        return {"bytes": size, "tables": tables}
    return {}


def _edited_srids(connection, manifest):
    """Restore the site's changes to rows of spatial_ref_sys that PostGIS ships: dumps do not contain them."""
    changed = manifest["source"]["spatial_ref_sys"]["changed"]
    table = databases.spatial_table(connection)
    if not changed or table is None:
        return
    statement = sql.SQL(
        "INSERT INTO {0} (srid, auth_name, auth_srid, srtext, proj4text)"
        " VALUES (%(srid)s, %(auth_name)s, %(auth_srid)s, %(srtext)s, %(proj4text)s)"
        " ON CONFLICT (srid) DO UPDATE SET auth_name = excluded.auth_name, auth_srid = excluded.auth_srid,"
        " srtext = excluded.srtext, proj4text = excluded.proj4text"
    ).format(postgres.qualified(table[0], "spatial_ref_sys"))
    for row in changed:
        postgres.execute(connection, statement, row)


def ready(spec):
    """The newest proven run of this database whose side database exists and waits for its swap, or None."""
    with _maintenance(spec) as connection:
        for each in state.runs(spec["directory"], spec["database"]):
            waits = each["status"] == state.READY and side.exists(connection, each["side"])
            if waits and not side.is_half_dropped(connection, each["side"]):
                return each
    return None


def _folder(spec):
    """The directory of the runs; for an SQLite file it is beside the file, where the file's owner can write."""
    return Path(files.directory(spec["database"]) if files.is_file(spec["database"]) else spec["directory"])


def _hold(spec):
    """The lock of the database's restores, as a context manager, in the folder of the runs, which it makes."""
    return state.hold(state.folder(_folder(spec)), spec["database"])


def confirm_swap(spec, identifier, said):
    """`confirm`, unless the run put a database beside: that replaces nothing."""
    found = state.load(_folder(spec) / identifier) if identifier else {}
    if found.get("mode") != "beside":
        confirm(spec["database"], said)


def put_in_place(spec, identifier, fence=swap.FENCE, check=False):
    """Swap the proven side database of a run in (or give it its own name, beside). Returns swap.into_place's result.

    check: only say which run would be swapped in. The absolute path of an SQLite file is a database too.
    """
    directory = _folder(spec)
    if check:
        return {"side": _proven(directory, spec, identifier)["side"]}
    with _hold(spec):
        _settle(directory, spec)
        found = _proven(directory, spec, identifier)
        label = _label(directory, spec)
        before = files.before if files.is_file(spec["database"]) else names.before
        state.change(directory, identifier, swapped_at=label, swap={"kept": before(spec["database"], label)})
        try:
            if files.is_file(spec["database"]):
                result = files.into_place(spec["database"], found["side"], label)
            else:
                server = postgres.server(spec["connection"])
                result = swap.into_place(server, spec["database"], found["side"], label, fence)
                result["notes"] += _make_cron_jobs(spec, found)
        except SauvegardeError:
            # The error does not say which: a server that ends during COMMIT may have swapped. Without an answer here
            # the next command settles it.
            with contextlib.suppress(SauvegardeError, psycopg2.Error):
                _settle(directory, spec)
            raise
        state.change(directory, identifier, status=state.SWAPPED, swap=result)
        _forget_copies(directory, found["path"], found.get("globals"))
        return dict(result, host=socket.gethostname(), lines=words.of_swap(found, result))


def _proven(directory, spec, identifier):
    """The state of a run whose side database can be put in place; refuses where it cannot."""
    found = state.load(directory / identifier)
    found.update(_settled(spec, found))
    if found.get("status") != state.READY or found["database"] != spec["database"]:
        raise SauvegardeError(
            f"The run {identifier} has no proven side database of {spec['database']}, so nothing can be swapped in.",
            "Its state is " + (found["status"] if found else "missing") + ".",
            "Run the restore again.",
        )
    if found["mode"] == "beside":
        with _maintenance(spec) as connection:
            if side.exists(connection, spec["database"]):
                raise SauvegardeError(f"There already is a database {spec['database']}.", fix="Name another.")
    return found


def _forget_copies(directory, *used):
    """Remove the copies that were brought here for a restore that is done, and those that no restore came for in a day;
    never anything that lies elsewhere, nor what another database's restore reads or may be started from again."""
    places = [directory / place for place in (CARRIED, fetch.PLACE)]
    needed = _with_parts(
        (
            path
            for each in state.runs(directory)
            if each["status"] in (state.RUNNING, state.READY)
            for path in (each["path"], each.get("globals"))
        ),
        places,
    )
    used = _with_parts(used, places)
    for place in places:
        for copy in place.glob("*"):
            old = copy.stat().st_mtime < time.time() - 86400
            if str(copy) not in needed and (old or str(copy) in used):
                if copy.is_dir():
                    shutil.rmtree(str(copy), ignore_errors=True)
                else:
                    copy.unlink()


def _with_parts(paths, places):
    """The paths as a set, of split files in the places those of all parts. Elsewhere nothing is looked at: another user
    may have brought it."""
    found = set(filter(None, paths))
    for each in [Path(path) for path in found]:
        if each.parent in places:
            with contextlib.suppress(OSError, SauvegardeError):
                found.update(str(part) for part in split_files.parts(each)[0])
    return found


def _label(directory, spec):
    """Return an id for this swap that is greater than those of all kept databases and of all swaps before it, whatever
    the clock says: going back chooses the newest."""
    others = [each["id"] for each in list_kept(spec)]
    others += [each.get("swapped_at", "") for each in state.runs(directory, spec["database"])]
    return archive.new_identifier(directory, others=others)


def _settled(spec, found):
    """Return the changes to the state of a run that ended during its swap: if the side database is gone, the swap
    happened."""
    if found.get("status") != state.READY or not found.get("swapped_at"):
        return {}
    if files.is_file(spec["database"]):
        waits = Path(found["side"]).exists()
    else:
        with _maintenance(spec) as connection:
            waits = side.exists(connection, found["side"])
    return {"swapped_at": ""} if waits else {"status": state.SWAPPED}


def _settle(directory, spec):
    """Record for runs that ended during their swap whether it happened, and finish what comes after a swap. Returns
    notes about the latter. Needs the lock."""
    notes = []
    for each in state.runs(directory, spec["database"]):
        changes = _settled(spec, each)
        if changes.get("status") == state.SWAPPED:
            # Before it is recorded: if this is killed, too, the next command does it.
            notes += _make_cron_jobs(spec, each)
        if changes:
            state.change(directory, each["id"], **changes)
    return notes


def _make_cron_jobs(spec, found):
    """Make pg_cron and the jobs that a run postponed in the database that it swapped in; nothing where it is there.
    Returns notes."""
    if found.get("scheduled") is None or files.is_file(spec["database"]):
        return []
    origin = found.get("archive", {}).get("database", "")
    return cron_jobs.make(postgres.server(spec["connection"]), spec["database"], found["scheduled"], origin)


def give_up(directory, spec):
    """Mark proven migrations that were not swapped in as killed, to be cleaned up: the next one has newer data."""
    _settle(directory, spec)
    for each in state.runs(directory, spec["database"]):
        if each["status"] == state.READY and each.get("migration"):
            state.change(directory, each["id"], status=state.KILLED)


def put_back(spec, wanted="", check=False):
    """Swap a kept database back in: the newest, or the one named `wanted`. Returns swap.back's result.

    check: only say which one.
    """
    is_file = files.is_file(spec["database"])
    server = None if is_file else postgres.server(spec["connection"])

    def chosen():
        return files.chosen(spec["database"], wanted) if is_file else swap.chosen(server, spec["database"], wanted)

    if check:
        return {"restored": chosen()}
    directory = _folder(spec)
    with _hold(spec):
        _settle(directory, spec)
        label = _label(directory, spec)
        if is_file:
            result = files.back(spec["database"], label, chosen())
        else:
            result = swap.back(server, spec["database"], label, chosen())
        _went_back(directory, spec["database"], label, result)
        return result


def _went_back(directory, database, label, result):
    """Record in the run whose swap was undone, and in those after it, that its database is not live, and under which
    name it is kept now: a later call may put it back in place."""
    aside = result["kept"]
    live = state.swapped(directory, database)
    while live:
        state.change(directory, live["id"], status=state.BACK, aside=aside)
        aside = live["swap"]["kept"]
        live = state.swapped(directory, database) if aside != result["restored"] else {}
    for each in state.runs(directory, database):
        if each["status"] == state.BACK and each.get("aside") == result["restored"]:
            state.change(directory, each["id"], status=state.SWAPPED, swapped_at=label, swap=result)


def list_kept(spec):
    """What restores left beside the database, or beside all where the specification names none: swap.kept's list."""
    if files.is_file(spec["database"]):
        return files.kept(spec["database"])
    with _maintenance(spec) as connection:
        return swap.kept(connection, spec["database"])


def losses_of_live(spec):
    """What live databases were restored without: [{database, id, objects}], of the swaps that hold."""
    directory = Path(spec["directory"])
    if not directory.is_dir():
        return []
    found = []
    for database in sorted({each["database"] for each in state.runs(directory)}):
        live = state.swapped(directory, database)
        if live.get("losses") and spec["database"] in ("", database):
            objects = [each["object"] for each in live["losses"]]
            found.append({"database": database, "id": live["id"], "objects": objects})
    return found


def remove_kept(spec, name, check=False):
    """Drop a kept database by its whole name; whether it was there. check: only say."""
    if check:
        return name in [each["name"] for each in list_kept(spec)]
    with _hold(spec):
        if files.is_file(spec["database"]):
            return files.remove(spec["database"], name)
        return swap.remove(postgres.server(spec["connection"]), spec["database"], name)
