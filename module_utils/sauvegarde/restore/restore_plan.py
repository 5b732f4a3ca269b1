"""Plan a restore: report what it would do and all that would stop it, each obstacle with its fix. Changes nothing."""

import calendar
import contextlib
import re
import socket
import time
from dataclasses import asdict
from pathlib import Path

import psycopg2
from psycopg2 import sql

from ..errors import SauvegardeError
from ..postgres import attachments, database_properties, disk_guard, postgres_server, server_versions
from ..system import disk_space
from ..targets import side_database, swap
from ..targets.target_choice import label_of
from . import (
    dump_roles,
    load_role,
    locale_names,
    partial_dump,
    pg_cron,
    predicted_losses,
)
from .dump import loss_names, oids, pg_restore

# Disk space that a restore needs, relative to the size at the source: data, sorts for indexes, and WAL.
ROOM = 1.3
# The size of a database relative to its plain dump, which contains no indexes. An estimate.
GROWTH = 2.0
SECURITY_WORD = "overwrite production"


def need(source, contents=None):
    """Return what the source requires of a target, as plain values.

    An archive of ours has them in its manifest; for a foreign one they come from `contents`, as far as it has them.
    Keys: version_num, version, system_identifier and standby (source server; the last two None where it is unknown),
    database, bytes (on the target's disk), unpacked (beside it while it runs), rows, tables (that have some), made
    (ISO, '' unknown), properties (those it knows), extensions {name: {schema, version}}, raster, roles,
    public_may_create (true where it is unknown).
    """
    if source.manifest is not None:
        manifest = source.manifest
        told = manifest["source"]
        return {
            "version_num": told["server"]["version_num"],
            "version": told["server"]["version"],
            "system_identifier": told["server"]["system_identifier"],
            "standby": told["server"]["standby"],
            "database": told["database"],
            "bytes": told["database_bytes"],
            "unpacked": manifest["bytes"] if source.compression else 0,
            "rows": sum(each["rows"] for each in manifest["fingerprint"]["tables"].values()),
            "tables": sum(1 for each in manifest["fingerprint"]["tables"].values() if each["rows"]),
            "made": manifest["started"],
            "properties": told["properties"],
            "extensions": {
                each["name"]: {"schema": each["schema"], "version": each["version"]} for each in told["extensions"]
            },
            "raster": False,
            "roles": told["roles"],
            "public_may_create": told.get("public_may_create", True),
        }
    return {
        "version_num": version_number(contents.server),
        "version": contents.server,
        "system_identifier": None,
        "standby": None,
        "database": source.section,
        "bytes": int(contents.size * GROWTH),
        "unpacked": contents.size if source.compression and source.form != "plain" else 0,
        "rows": sum(contents.rows.values()),
        "tables": sum(1 for rows in contents.rows.values() if rows) or len(contents.names("TABLE")),
        "made": "",
        "properties": side_database.properties_of_dump(contents.database, version_number(contents.tool)),
        "extensions": {name: {"schema": schema, "version": ""} for name, schema in contents.extensions.items()},
        "raster": contents.raster,
        "roles": sorted(contents.roles),
        "public_may_create": True,
    }


def version_number(text):
    """90610 for '9.6.10', 150018 for '15.18 (Debian …)', 0 where it says nothing."""
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    if not found:
        return 0
    first, second, third = (int(part or 0) for part in found.groups())
    return first * 10000 + (second * 100 + third if first < 10 else second)


def _parts(version):
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def adjusted(wanted, options, live=None):
    """The properties that the restored database gets: what the caller says, else what the source knows of its own, else
    those of the database that is replaced (a swap would lose them), else the server's defaults."""
    found = dict(side_database.DEFAULT_PROPERTIES, role_settings={})
    found.update(live or {})
    found.update(wanted["properties"])
    # Less marks a database whose DROP was cut short; no server takes it.
    found["connection_limit"] = max(-1, found["connection_limit"])
    for key in ("owner", "encoding"):
        if options.get(key):
            found[key] = options[key]
    if options.get("locale"):
        found.update(provider="libc", collate=options["locale"], ctype=options["locale"], locale="", icu_rules=None)
    return found


def make(server, database, source, wanted, options, contents=None):
    """The plan, as plain values. contents: the dump's, where it was read.

    options: mode ('swap' or 'beside'), given (roles.Globals), globals_roles ('named' or 'all'), missing_roles
    ('refuse' or 'create'), owner, encoding, locale (each '' for the source's own), directory (where the run works),
    rate (bytes a second of an earlier run, 0), accept_losses (names), definitions (the Contents of an archive of ours,
    in whose place `contents` is otherwise, as far as they are known), needs (of entry_dependencies),
    drops_oids (of toc_list).
    Keys: source, target, live, kept, extensions ([{name, source, target}], versions, '' unknown or not available),
    space ([{path, needed, free}], bytes), roles_made, lacks (partial.lacks of a file), properties, expected (seconds),
    lost (seconds between the archive and now, None unknown), obstacles and warnings ([{what, why, fix}]), losses
    (loss_ledger.Loss.as_dict). An obstacle that is about an object of the dump names it as `object`; the load
    goes on past it unless it `stops`.
    """
    obstacles, warnings, lacks = [], [], {}

    def stop(what, why, fix):
        obstacles.append({"what": what, "why": why, "fix": fix})

    def warn(what, why="", fix=""):
        warnings.append({"what": what, "why": why, "fix": fix})

    connection = side_database.maintenance(server)
    try:
        target = postgres_server.properties(connection)
        target.update(host=socket.gethostname(), address=server.address, database=database)
        _place(connection, server, stop)
        live = _live(connection, database)
        kept = [each.as_dict() for each in swap.kept(connection, database)]
        properties = adjusted(wanted, options, live and live.pop("properties"))
        given = options["given"]
        for name, role, statement in given.settings:
            if name in (database, wanted["database"]):
                found = re.search(r" SET (.+?) TO (.*);$", statement, re.DOTALL)
                if found:
                    of = properties["role_settings"].setdefault(role, {})
                    setting = found.group(1).strip('"')
                    of[setting] = side_database.stored(setting, found.group(2))

        if target["standby"]:
            stop(
                "The target server is a standby.",
                "A standby accepts no changes except those of its primary.",
                "Restore on its primary, or promote it.",
            )
        if database in (side_database.MAINTENANCE, "template0", "template1"):
            stop(f"{database} cannot be replaced.", "PostgreSQL itself needs it.", "Name another target database.")
        same = wanted["system_identifier"] and wanted["system_identifier"] == target["system_identifier"]
        if options["mode"] == "beside" and live and same and database == wanted["database"]:
            stop(
                f"The target is the archive's own source, {database} on this server.",
                "A restore beside does not replace a database.",
                "Name another target database (restore_target_database), or swap instead.",
            )
        elif options["mode"] == "beside" and live:
            stop(
                f"There already is a database {database}.",
                "A restore beside creates a new database.",
                "Name one that does not exist.",
            )
        _versions(target, wanted, stop)
        for sentence in source.manifest["warnings"] if source.manifest is not None else ():
            warn("Warning of the backup: " + sentence)
        _public(target, wanted, contents, warn)
        if source.manifest is not None:
            tool = source.manifest["tools"]["pg_dump"]
            if not pg_restore.readers(target["version_num"], version_number(tool)):
                why = f"pg_dump {tool} made it."
                obstacles.append(pg_restore.no_reader(source.path, target["version_num"], why).as_dict())
        extensions = _extensions(connection, wanted, stop)
        made = _roles(connection, wanted, properties, options, stop, warn)
        _locale(connection, properties, stop, warn)
        space = _space(connection, wanted, options, stop)
        for sentence in swap.obstacles(connection, database):
            stop(f"{database} cannot be swapped.", sentence, "Then run it again.")
        if live and live["sessions"] and options["mode"] == "swap":
            warn("{} session(s) on {} will be ended by the swap.".format(len(live["sessions"]), database))
        if live and options["mode"] == "swap":
            warnings += attachments.warnings(attachments.read(connection, database), database)
        if not properties["collate"]:
            warn(
                "The dump does not know its database's encoding and locale.",
                "Those of the target server are used.",
                "To use another locale, set restore_locale.",
            )
        for each in source.notes:
            warn(each)
        if contents is not None:
            for what, why in oids.warnings(contents, target["version_num"]):
                warn(what, why)
            if partial_dump.rows_only(contents):
                stop(
                    "The dump holds rows only, and no tables to put them into.",
                    "It was made with --data-only or --section=data.",
                    "Take a dump with the definitions; or load this one by hand (psql, pg_restore) into a database that"
                    " has them, and back that up.",
                )
            if source.manifest is None and live and options["mode"] == "swap":
                lacks, obstacle, warning = partial_dump.look(server, database, contents, options["partial"])
                obstacles += [obstacle] if obstacle else []
                warnings += [warning] if warning else []
            there = set(contents.extensions.values()) - {"public"}
            superusers = load_role.superusers(connection) | dump_roles.superusers(made, given)
            way = load_role.choose(contents, there, superusers, properties["owner"])
            if way.why:
                warn("It will be loaded as the superuser, not as its owner.", f"{way.why[0].upper()}{way.why[1:]}.")
            elif way.role not in superusers | {""}:
                warn(
                    f"It will be loaded as its owner, {way.role}.",
                    "If this role lacks a privilege, the superuser loads it.",
                )
        if options.get("drops_oids"):
            warn(
                "Tables WITH OIDS are restored without OIDs.",
                "PostgreSQL 12 and newer do not support them. If the application refers to rows by OID, restore on"
                " PostgreSQL 11 or older, copy them into a column of their own, and back that up.",
            )
        known = contents or options.get("definitions")
        postponed = ()
        if pg_cron.is_postponed(connection, options["mode"], database, wanted["extensions"], known):
            postponed = pg_cron.NAMES
            warn(**pg_cron.warning(database))
        foreseen = predicted_losses.predict(
            connection, wanted["extensions"], known, options.get("needs", {}), options["accept_losses"], postponed
        )
        obstacles += predicted_losses.obstacles(foreseen, known.extensions if known else ())
        obstacles += loss_names.unknown_names(options["accept_losses"], known) if known else []
        for setting in side_database.unknown_settings(connection, properties):
            warn(f"The setting {setting} is left out.", "PostgreSQL {} does not know it.".format(target["version"]))
    finally:
        connection.close()
    lost = age(wanted["made"])
    return {
        "source": dict(
            {key: wanted[key] for key in ("version", "standby", "database", "bytes", "rows", "made")},
            path=source.path,
            form=source.form,
            id=source.manifest["id"] if source.manifest else "",
            host=source.manifest["host"] if source.manifest else "",
        ),
        "target": target,
        "live": live,
        "kept": kept,
        "extensions": extensions,
        "space": space,
        "roles_made": made,
        "lacks": lacks,
        "properties": properties,
        "expected": round(wanted["bytes"] / (options.get("rate") or RATE) + 5),
        "lost": lost,
        "obstacles": obstacles,
        "warnings": warnings,
        "losses": [loss.as_dict() for loss in foreseen],
    }


# Bytes of a finished database that a restore makes in a second, until this host has measured its own.
RATE = 40 * 1024 * 1024


def age(moment):
    """Seconds since an ISO time in UTC, None where there is none."""
    if not moment:
        return None
    return max(0, int(time.time() - calendar.timegm(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S"))))


def _live(connection, database):
    if not side_database.exists(connection, database):
        return None
    return {
        "bytes": postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (database,)),
        "sessions": [asdict(session) for session in swap.sessions(connection, database)],
        "properties": database_properties.properties(connection, database),
    }


def _place(connection, server, stop):
    """Stop unless the server runs on this host: the confirmation names this host, and free space is checked here."""
    address = postgres_server.value(connection, "SELECT pg_catalog.host(pg_catalog.inet_server_addr())")
    if address is None:
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            stop(
                "The target's server is not on this host.",
                f"{server.address} is {address}, which is not an address of {socket.gethostname()}.",
                "Name the host that the server runs on as the target (restore_target).",
            )


def _versions(target, wanted, stop):
    same = server_versions.major(wanted["version_num"]) == server_versions.major(target["version_num"])
    if not same and wanted["version_num"] > target["version_num"]:
        stop(
            "The target's server is older than the archive's.",
            "The archive is of PostgreSQL {}, the target runs {}.".format(wanted["version"], target["version"]),
            "Restore on PostgreSQL {} or newer.".format(server_versions.major(wanted["version_num"])),
        )


def _public(target, wanted, contents, warn):
    """Say that PUBLIC may no longer create in the schema public, which new databases do not allow from version 15 on:
    the privileges that came with older ones are in no dump."""
    if not 0 < wanted["version_num"] < 150000 <= target["version_num"] or not wanted["public_may_create"]:
        return
    entries = contents.entries if contents is not None else ()
    if not any(entry.kind == "ACL" and entry.name in ("public", "SCHEMA public") for entry in entries):
        warn(
            "Only the database's owner may create objects in the schema public.",
            "At the source every role can; new databases of PostgreSQL 15 and newer do not allow it.",
            "If an application needs it: GRANT CREATE ON SCHEMA public TO its role.",
        )


def _extensions(connection, wanted, stop):
    """The plan's `extensions`."""
    available = dict(
        postgres_server.query(connection, "SELECT name, default_version FROM pg_catalog.pg_available_extensions")
    )
    needed = dict(wanted["extensions"])
    postgis = available.get("postgis", "")
    source = needed.get("postgis", {}).get("version", "")
    if postgis and source and _parts(postgis) < _parts(source):
        stop(
            "The target's PostGIS is older than the archive's.",
            f"The archive holds PostGIS {source}, the target has {postgis}.",
            f"Install PostGIS {'.'.join(map(str, _parts(source)))} or newer on the target.",
        )
    split = _parts(postgis) >= (3,) if postgis else False
    if split and (wanted["raster"] or (source and _parts(source) < (3,))) and "postgis_raster" not in available:
        stop(
            "The extension postgis_raster is not available on the target.",
            "PostGIS 2 held raster itself.",
            "Install PostGIS's raster package.",
        )
    return [
        {"name": name, "source": needed[name]["version"], "target": available.get(name, "")} for name in sorted(needed)
    ]


def _roles(connection, wanted, properties, options, stop, warn):
    """Return the names of the roles that the restore will create: those that the archive names, as the globals file
    describes them or plain ones, and all others of the globals file if the options say so."""
    there = dump_roles.existing(connection)
    named = set(wanted["roles"]) | {properties["owner"]} | set(properties["role_settings"])
    named |= {grant["grantee"] for grant in properties["acl"] or () if grant["grantee"]}
    given = options["given"]
    described = dump_roles.needed(given, named)
    others = [name for name in given.roles if name not in there and name not in described]
    of_globals = [name for name in given.roles if name not in there and name in described]
    if options["globals_roles"] == "all":
        of_globals = [name for name in given.roles if name not in there]
    elif others:
        warn(
            "Roles of the globals file that the archive does not name are not created: "
            + ", ".join(sorted(others))
            + ".",
            "They may include login roles that are members of a role of the archive.",
            "To create all of them: restore_globals_roles=all.",
        )
    missing = sorted(named - there - set(of_globals) - {""})
    if missing and options["missing_roles"] == "refuse":
        stop(
            "Roles are missing on the target: " + ", ".join(missing) + ".",
            "The archive's objects and grants name them.",
            "Give the globals file of the source (pg_dumpall --globals-only), make them with the postgresql role,"
            " or ask for them to be made without login (restore_missing_roles: create).",
        )
        return of_globals
    return of_globals + missing


def _locale(connection, properties, stop, warn):
    """Ask the server for the locale of the database; where it has it under another name only, use that one."""
    if not properties["collate"] or properties["provider"] == "builtin":
        return
    error = _refused_locale(connection, properties)
    if error is None:
        return
    available = locale_names.available(connection)
    encoding = properties["encoding"] or _own_encoding(connection)
    renamed = {
        key: locale_names.find(properties[key], encoding, available) or properties[key]
        for key in ("collate", "ctype")
        if properties[key]
    }
    changed = sorted({(properties[key], name) for key, name in renamed.items() if properties[key] != name})
    if changed and _refused_locale(connection, dict(properties, **renamed)) is None:
        for source, here in changed:
            warn(f"The locale {source} is called {here} here.", "The restored database gets it by that name.")
        properties.update(renamed)
        return
    names = ", ".join(locale_names.similar(properties["collate"], available)) or "none of that language"
    stop(
        "The target lacks the locale {}.".format(properties["collate"]),
        str(error),
        "Generate it and restart the server (one generated since its start is unknown to it), or name another locale"
        f" (restore_locale; the target has {names}), with its encoding where that differs (restore_encoding).",
    )


def _own_encoding(connection):
    return postgres_server.value(
        connection,
        "SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database"
        " WHERE datname = pg_catalog.current_database()",
    )


def _refused_locale(connection, properties):
    """The server's error about a database's locale, or None where it takes it. A locale is asked of the server itself:
    one generated since it started is unknown to it until it restarts.
    """
    if properties["encoding"] in ("", _own_encoding(connection)):
        probe = "CREATE COLLATION pg_temp.sauvegarde_probe (LC_COLLATE = {}, LC_CTYPE = {})"
    else:
        # A collation is of its database's encoding; this asks for the locale alone.
        probe = "SET LOCAL lc_monetary TO {}; SET LOCAL lc_monetary TO {}"
    try:
        postgres_server.execute(connection, "BEGIN")
        postgres_server.execute(
            connection,
            sql.SQL(probe).format(
                sql.Literal(properties["collate"]), sql.Literal(properties["ctype"] or properties["collate"])
            ),
        )
    except psycopg2.Error as error:
        return error
    finally:
        postgres_server.execute(connection, "ROLLBACK")
    return None


def _space(connection, wanted, options, stop):
    """The plan's `space`, one of each file system."""
    needed = {}
    folder = postgres_server.value(connection, "SHOW data_directory")
    for path, size in ((folder, int(wanted["bytes"] * ROOM)), (options["directory"], wanted["unpacked"])):
        there = Path(path)
        while not there.exists():
            there = there.parent
        found = needed.setdefault(there.stat().st_dev, [str(there), 0])
        found[1] += size + (disk_guard.reserve(there) if path == folder else 0)
    found = [{"path": path, "needed": size, "free": disk_space.free_bytes(path)} for path, size in needed.values()]
    for each in found:
        if each["free"] < each["needed"]:
            stop(
                "There is too little space on {path}.".format(**each),
                "The restore needs about {} MiB, {} MiB are free.".format(
                    each["needed"] // 2**20 + 1, each["free"] // 2**20
                ),
                "Free space there (kept databases are listed in the plan), or restore elsewhere.",
            )
    return found


def check_confirmation(said, database, host, environment="", word="", targets=1, variable="restore"):
    """Refuse unless `said` names what will be replaced, `DATABASE@HOST`; over production, `word` must be its own too.

    `targets`: how many the playbook was given at once; each must be named, so only one passes with one name. Of an
    SQLite file its name counts, without the folder. `variable`: what the playbook's own begin with.
    """
    database = label_of(database)
    expected = f"{database}@{host}"
    named = [said.strip()] + [each.strip() for each in said.split(",")]  # the name itself may have a comma
    if expected not in named and any(each.startswith(f"{database}@") for each in named):
        raise SauvegardeError(
            f"This is {host}, another host than was confirmed.",
            f"Said: {said!r}.",
            f"Look at the plan; if {expected} is what is to be replaced: {variable}_confirm={expected}",
        )
    if expected not in named or len(set(named[1:])) < targets:
        raise SauvegardeError(
            f"The replacement of {expected} was not confirmed.",
            f"Said: {said!r}." if said else "Nothing was said.",
            f"Look at the plan; if that is what is to be replaced: {variable}_confirm={expected}",
        )
    if environment == "production" and word != SECURITY_WORD:
        raise SauvegardeError(
            f"{host} is production, and replacing its data asks for its own word.",
            f"Said: {word!r}." if word else "It was not said.",
            f"-e \"{variable}_production='{SECURITY_WORD}'\"",
        )
