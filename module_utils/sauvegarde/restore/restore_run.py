"""Restore a source into a proven side database, and swap that database in: what the playbooks' modules call.

`fill` ends at a safe point: the side database is proven, and the live database is unchanged. `put_in_place` swaps
them. If a run is killed at any step, the next one reads its state and cleans up or continues.
"""

import contextlib
import dataclasses
import hashlib
import shutil
import tempfile
import time
from pathlib import Path

import psycopg2
from psycopg2 import sql

from ..archive import archive_reader, ids, manifest
from ..errors import SauvegardeError
from ..postgres import (
    character_sets,
    client_tools,
    database_names,
    database_properties,
    disk_guard,
    extension_sequences,
    postgres_server,
    sql_names,
)
from ..report import render
from ..system import process
from ..targets import side_database
from ..targets.postgresql_target import PostgresqlTarget
from . import (
    deferred_rows,
    dump_extensions,
    dump_load,
    dump_roles,
    pg_cron,
    recovery,
    restore_plan,
    restore_state,
    verification,
)
from .dump import dump_file, entry_dependencies, loss_ledger, loss_names, pg_restore, toc_list, unpacking
from .dump.content_scan import scan
from .dump.dump_reading import read_dump
from .dump.load_errors import server_message
from .surviving_fingerprint import surviving_fingerprint

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
    (loss_names.loss_name), where they cannot be restored.
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
    found["jobs"] = int(found["jobs"]) or archive_reader.default_workers()
    found["accept_losses"] = loss_names.accepted_names(found["accept_losses"])
    return found


def _maintenance(spec):
    """A connection to the target's maintenance database, as a context manager that closes it."""
    return contextlib.closing(side_database.maintenance(postgres_server.Server.from_values(spec["connection"])))


def _options(spec, found):
    return dict(spec, given=dump_roles.read(_globals(spec, found)), rate=_rate(spec["directory"]))


def _globals(spec, found):
    """Where roles are described: the file that was given, else the source itself where it is a whole cluster's."""
    return spec["globals"] or (spec["path"] if found.section else "")


def _rate(directory):
    """Bytes a second of the newest successful run in this directory; 0 if there is none."""
    for each in restore_state.runs(directory):
        if each.get("rate"):
            return each["rate"]
    return 0


_MARKED = ("mode", "path", "file_database", "globals", "missing_roles", "owner", "encoding", "locale", "globals_roles")


def mark(spec):
    """Return values that are equal only for the same restore of the same source: a newer file of the same name differs.

    Archives are compared by their manifest, not by time, since the same archive may have been copied here again."""
    path = Path(spec["path"])
    asked = [spec[key] for key in _MARKED]
    asked.append(sorted(loss_names.accepted_names(spec["accept_losses"])))
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
    server = postgres_server.Server.from_values(spec["connection"])
    directory = restore_state.folder(spec["directory"])
    obstacles = []
    try:
        found, contents = dump_file.detect(spec["path"]), None
        with tempfile.TemporaryDirectory(dir=str(directory), prefix=".plan-") as work, _maintenance(spec) as asked:
            number = asked.server_version
            if found.manifest is not None:
                options = _options(spec, found)
                damage = _refusals(dump_file.check, found)
                obstacles += damage
                if not damage:
                    options.update(_definitions(found, work, number))
            else:
                dump = read_dump(spec["path"], spec["file_database"] or spec["database"], Path(work), number)
                found, contents = dump.source, dump.contents
                options = dict(_options(spec, found), **_told(dump.prepared, dump.tool, contents))
        made = restore_plan.make(server, spec["database"], found, restore_plan.need(found, contents), options, contents)
    except SauvegardeError as error:
        made = {"obstacles": [error.as_dict()], "warnings": []}
    if said and said["confirm"] and spec["mode"] == "swap":
        obstacles += _refusals(confirm, spec["database"], said)
    return dict(made, obstacles=obstacles + made["obstacles"])


def _told(ready, tool, contents):
    """A plan's options `needs` and `drops_oids` of an archive; {} for plain SQL, whose text says it."""
    if tool is None:
        return {}
    needs = entry_dependencies.dependencies(ready, tool, contents.encoding)
    return {"needs": needs, "drops_oids": toc_list.drops_oids(ready, tool)}


def _definitions(found, work, number):
    """A plan's options of an archive of ours, from its table of contents alone."""
    try:
        ready = unpacking.definitions(found, Path(work))
        tool = pg_restore.reader(ready, number)
        with pg_restore.as_sql(ready, tool, "-C", "-s") as stream:
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
    restore_plan.check_confirmation(said["confirm"], database, *others)


def _target(spec):
    """The target of a restore, always on a server."""
    server = postgres_server.Server.from_values(spec["connection"])
    return PostgresqlTarget(spec["database"], server, Path(spec["directory"]))


def _end_sessions(spec, name):
    """End all sessions in a side database, if the server answers."""
    with contextlib.suppress(SauvegardeError, psycopg2.Error), _maintenance(spec) as connection:
        side_database.end_sessions(connection, name)


def _end_orphans(spec):
    """End the sessions of children of killed runs: those children wait for the server, and hold the lock."""
    for each in restore_state.runs(spec["directory"], spec["database"]):
        if each["status"] == restore_state.KILLED:
            _end_sessions(spec, each["side"])


def fill(spec, identifier=None, held=False):
    """Restore into a side database and prove it. Returns the run's final state, whose status is 'ready'.

    Raises where anything fails: the side database is dropped then, and the state says why. The live database is not
    touched. `identifier` names the run where the caller needs to know it before (a new one by default); `held` says
    that the caller has the lock.
    """
    spec = settled(spec)
    directory = restore_state.folder(spec["directory"])
    if not held:
        _end_orphans(spec)
    with contextlib.ExitStack() as stack:
        if not held:
            stack.enter_context(restore_state.hold(directory, spec["database"]))
        identifier = identifier or ids.new_id(directory)
        name = database_names.side_name(spec["database"], identifier)
        with restore_state.State(
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
                run.update(cleaned=recovery.clean(_target(spec), own=identifier))
                with _maintenance(spec) as connection:
                    places = disk_guard.server_directories(postgres_server.value(connection, "SHOW data_directory"))
                with disk_guard.guard(places, lambda: _end_sessions(spec, name)):
                    result = _fill(spec, run, name)
                run.update(status=restore_state.READY, step="ready", **result)
            except BaseException as error:
                run.watch = None
                said = error.as_dict() if isinstance(error, SauvegardeError) else {"what": str(error) or repr(error)}
                # Free the space first: on a full disk the state could not be written.
                with contextlib.suppress(SauvegardeError, psycopg2.Error), _maintenance(spec) as connection:
                    side_database.drop(connection, name)
                shutil.rmtree(str(run.path / "work"), ignore_errors=True)
                run.update(status=restore_state.FAILED, error=said)
                raise
            shutil.rmtree(str(run.path / "work"), ignore_errors=True)
            return run.values


def _fill(spec, run, name):
    server = postgres_server.Server.from_values(spec["connection"])
    work = run.path / "work"
    work.mkdir(mode=0o700)
    begun = time.monotonic()

    run.update(step="read")
    with _maintenance(spec) as connection:
        number = connection.server_version
    dump = read_dump(
        spec["path"], spec["file_database"] or spec["database"], work, number, lambda done: run.note(bytes_read=done)
    )
    given, ready, tool, contents = dump.source, dump.prepared, dump.tool, dump.contents

    run.update(step="plan")
    wanted = restore_plan.need(given, contents)
    options = dict(_options(spec, given), **_told(ready, tool, contents))
    planned = restore_plan.make(server, spec["database"], given, wanted, options, contents)
    # Obstacles of single objects do not stop here: the load finds these objects together with all others that fail.
    found = [each for each in planned["obstacles"] if not each.get("object") or each["stops"]]
    if found:
        raise SauvegardeError(
            "The restore was not started: " + " ".join(each["what"] for each in found),
            "\n".join(render.of_obstacles({"obstacles": found})) if len(found) > 1 else found[0]["why"],
            "" if len(found) > 1 else found[0]["fix"],
        )
    run.update(expected=planned["expected"], bytes_total=wanted["bytes"], tables_total=wanted["tables"])

    with _maintenance(spec) as connection:
        cron = pg_cron.is_postponed(connection, spec["mode"], spec["database"], wanted["extensions"], contents)
    postponed = pg_cron.NAMES if cron else ()
    run.update(scheduled=pg_cron.keep(contents) if cron else None)

    run.update(step="roles")
    properties = planned["properties"]
    with _maintenance(spec) as connection:
        made = dump_roles.create(connection, planned["roles_made"], options["given"])
        # Recorded at once, so that the caller can drop them however the run ends.
        run.update(roles_made=made)
        postgis = postgres_server.value(
            connection, "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'postgis'"
        )
    older = wanted["extensions"].get("postgis", {}).get("version", "")
    contents = dataclasses.replace(contents, raster=contents.raster or older.startswith(("1.", "2.")))

    def loaded(because=""):
        """A new side database, filled, as its load.Target."""
        run.update(step="create")
        with _maintenance(spec) as connection:
            side_database.drop(connection, name)
            side_database.create(connection, name, properties)
        run.update(step="extensions")
        ledger = loss_ledger.Ledger(spec["accept_losses"], contents.texts, postponed)
        by_extension = dump_extensions.make(server, name, contents, postgis, ledger)
        dump_extensions.comment(server, name, contents, ledger)
        if by_extension and "settings" not in wanted["properties"]:
            # If the dump does not record settings, keep the one that postgis_topology made.
            properties["settings"] = dict({"search_path": by_extension}, **properties["settings"])
        side_database.apply_settings(server, name, properties)
        path = properties["settings"].get("search_path", "")
        run.watch = lambda: _progress(server, name)
        target = dump_load.Target(server, name, contents, properties["owner"], path, run.update, because, ledger)
        try:
            if given.manifest is not None:
                _edited_srids(target.connection, given.manifest)
            # pg_restore would keep the INSERTs of a table before the one that fails, and cannot load rows with OIDs.
            if tool is not None and tool.native and not contents.inserted and not contents.oids:
                target.from_archive(ready, tool, spec["jobs"])
            else:
                with pg_restore.as_sql(ready, tool) as stream:
                    deferred = deferred_rows.DeferredRows(work, unpacking.space_guard(ready, work))
                    target.from_script(stream, deferred, spec["jobs"])
        except BaseException:
            run.watch = None
            target.close()
            raise
        return target

    try:
        target = loaded()
    except dump_load.Denied as error:
        target = loaded(error.reason)
    with contextlib.closing(target):
        target.find_all_losses()
        lost = target.losses.losses()
        run.update(losses=[loss.as_dict() for loss in lost])
        target.losses.check()
        extension_sequences.advance_all(target.connection, *_sequences(given.manifest, lost))
        run.update(step="analyze")
        # vacuumdb, since it analyzes several tables at a time.
        vacuumdb = client_tools.client("vacuumdb", number)
        analyzed = process.run(
            [vacuumdb.path, "-d", client_tools.conninfo(name), "--analyze-only", "--quiet", "-j", str(spec["jobs"])],
            env=target.environment(PGCLIENTENCODING=character_sets.RAW),
            checked=False,
        )
        if analyzed.status:
            # The restore goes on: autovacuum collects the statistics later.
            said = server_message(analyzed.stderr).splitlines()
            target.notes.append(
                "not all statistics were collected (run ANALYZE): " + (said[0] if said else "vacuumdb gave no reason")
            )
        notes = target.notes
        run.watch = None
        run.update(step="prove")
        if given.manifest is not None:
            proven = verification.against_manifest(server, name, given.manifest, spec["jobs"], lost)
        else:
            proven = verification.by_counting(target.connection, contents, lost)
        run.update(step="properties")
        # In the database itself, whose encoding its comment and its roles' names are in; before there are event
        # triggers, which may listen to logins.
        with contextlib.closing(postgres_server.connect(server, name)) as connection:
            target.release()
            target.make_event_triggers()
            lost = target.losses.losses()
            run.update(losses=[loss.as_dict() for loss in lost])
            # Now it is certain which of the accepted objects did not fail.
            target.notes += target.losses.check()
            skipped = side_database.finish(connection, name, properties)
            size = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (name,))
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
    """extension_sequences.advance_all's `recorded` and `proven` from a manifest, or from None."""
    if made is None:
        return (), ()
    sums = surviving_fingerprint(made["fingerprint"] or {}, [loss.object for loss in lost])
    return made["source"].get("extension_sequences", ()), sums.get("sequences", ())


def _progress(server, name):
    """Bytes and tables so far, for the run's state; {} if the server does not answer."""
    with contextlib.suppress(SauvegardeError, psycopg2.Error), contextlib.closing(
        postgres_server.connect(server, name)
    ) as connection:
        size, tables = postgres_server.query(
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
    table = database_properties.spatial_table(connection)
    if not changed or table is None:
        return
    statement = sql.SQL(
        "INSERT INTO {0} (srid, auth_name, auth_srid, srtext, proj4text)"
        " VALUES (%(srid)s, %(auth_name)s, %(auth_srid)s, %(srtext)s, %(proj4text)s)"
        " ON CONFLICT (srid) DO UPDATE SET auth_name = excluded.auth_name, auth_srid = excluded.auth_srid,"
        " srtext = excluded.srtext, proj4text = excluded.proj4text"
    ).format(sql_names.identifier(table[0], "spatial_ref_sys"))
    for row in changed:
        postgres_server.execute(connection, statement, row)


def ready(spec):
    """The newest proven run of this database whose side database exists and waits for its swap, or None."""
    with _maintenance(spec) as connection:
        for each in restore_state.runs(spec["directory"], spec["database"]):
            waits = each["status"] == restore_state.READY and side_database.exists(connection, each["side"])
            if waits and not side_database.is_half_dropped(connection, each["side"]):
                return each
    return None
