"""State how a pg_dump archive is restored with stock tools: the shell commands, and the SQL that pg_restore lacks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..postgres import character_sets, client_tools, database_properties, predefined_objects, server_versions, sql_names
from ..postgres.client_tools import Client
from ..postgres.extension_sequences import ExtensionSequence
from .dump_reader import FOLDER

AFTER = "after.sql"
_TIMEOUT = 170000  # from this version on, pg_restore sets transaction_timeout, which older servers do not know
_HEADER_LINES = 40  # more than pg_restore writes before the first object


def after_sql(database: str, source: Mapping[str, Any], encoding: str) -> str:
    """Return SQL to run in the restored database, for what pg_restore may not restore: the database's own properties
    (before version 11), the owner and comment of the schema public (before 15), edited rows of spatial_ref_sys, and
    sequences of extensions (never)."""
    lines = ["-- What pg_restore does not restore. Run as a superuser, connected to the restored database."]
    lines.append(f"SET client_encoding TO '{encoding if character_sets.codec(encoding) else 'UTF8'}';")
    lines += [statement + ";" for statement in database_properties.statements(database, source["properties"])]
    changed = source["spatial_ref_sys"]["changed"]
    if changed:
        schema = next(extension["schema"] for extension in source["extensions"] if extension["name"] == "postgis")
        table = sql_names.quote(schema, "spatial_ref_sys")
        for row in changed:
            values = ", ".join(sql_names.literal(row[key]) for key in ("auth_name", "srtext", "proj4text"))
            number = "NULL" if row["auth_srid"] is None else f"{row['auth_srid']:d}"
            lines.append(f"DELETE FROM {table} WHERE srid = {row['srid']:d};")
            lines.append(
                f"INSERT INTO {table} (srid, auth_srid, auth_name, srtext, proj4text)"
                f" VALUES ({row['srid']:d}, {number}, {values});"
            )
    sequences = map(ExtensionSequence.from_dict, source["extension_sequences"])
    lines += [sequence.advance_statement() + ";" for sequence in sequences]
    lines += [statement + ";" for statement in predefined_objects.statements(source.get("schema_public", {}))]
    return "\n".join(lines) + "\n"


def commands(source: Mapping[str, Any], dumper: Client) -> dict[str, list[str]]:
    """Return the shell lines that restore the archive with stock tools, for its local and its plain form.

    createdb creates the database, because an older server may not understand the statements of `pg_restore --create`.
    """
    target = shlex.quote(client_tools.conninfo(source["database"]))
    create = _createdb(source)
    head = [
        f"# As a superuser (postgres), with psql and pg_restore {server_versions.major(dumper.version_num)} or later,",
        "# on a cluster that has the roles of the manifest (source.roles) and no database of this name.",
    ]
    partial = source.get("partial") or {}
    needs = _needs_of_part(partial, source, target)
    head += [f"# {sentence}" for sentence in _expected_errors(partial)]
    head += [f"# {sentence}" for sentence in _expected_versions(source, dumper)]
    # Before 11, pg_dump wrote a CREATE SCHEMA public that later versions of pg_restore run: the list leaves it out.
    lists = dumper.version_num < 110000 and source["public_oid"] is not None
    without = f'pg_restore --list {{}} | grep -v "^[0-9]*; 2615 {source["public_oid"]} SCHEMA - public " > "$work/list"'
    stops = not (partial.get("unrestorable") or partial.get("foreign_keys"))

    def restore(folder: str) -> str:
        if _sets_unknown_timeout(source, dumper):
            return _restore_through_psql(folder, target, stops)
        words = ["pg_restore", "--exit-on-error" if stops else "", "--jobs=2", f"--dbname={target}"]
        return " ".join(filter(None, [*words, '--use-list="$work/list"' if lists else "", folder]))

    psql = f"psql -X -q -v ON_ERROR_STOP=1 -d {target}"
    return {
        "local": [
            *head,
            "work=$(mktemp -d)",
            f'for file in {FOLDER}/*.zst; do zstd -dq "$file" -o "$work/$(basename "$file" .zst)"; done',
            create,
            *needs,
            *([without.format('"$work"')] if lists else []),
            restore('"$work"'),
            f"zstd -dcq {AFTER}.zst | {psql}",
            'rm -r "$work"',
        ],
        "plain": [
            *head,
            create,
            *needs,
            *(["work=$(mktemp -d)", without.format(FOLDER)] if lists else []),
            restore(FOLDER),
            f"{psql} -f {AFTER}",
            *(['rm -r "$work"'] if lists else []),
        ],
    }


def _sets_unknown_timeout(source: Mapping[str, Any], dumper: Client) -> bool:
    """Return whether the pg_restore that the lines ask for sets what a server of the source's version refuses."""
    return dumper.version_num >= _TIMEOUT > _server_version(source, dumper)


def _server_version(source: Mapping[str, Any], dumper: Client) -> int:
    server: Mapping[str, int] = source.get("server") or {}
    return server.get("version_num", dumper.version_num)


def _expected_versions(source: Mapping[str, Any], dumper: Client) -> list[str]:
    if dumper.version_num < _TIMEOUT and _server_version(source, dumper) < _TIMEOUT:
        return ["On a server before 17, use a pg_restore before 17: later ones stop at a setting that it lacks."]
    return []


def _restore_through_psql(folder: str, target: str, stops: bool) -> str:
    """Return the line that restores as SQL, without the setting that an older server refuses. It has no workers."""
    without = f"sed '1,{_HEADER_LINES}{{/^SET transaction_timeout = 0;$/d}}'"
    stop = "-v ON_ERROR_STOP=1 " if stops else ""
    return f"pg_restore --file=- {folder} | {without} | psql -X -q {stop}-d {target} > /dev/null"


def _needs_of_part(partial: Mapping[str, Any], source: Mapping[str, Any], target: str) -> list[str]:
    """Return the shell lines that create what a partial dump needs and does not hold."""
    lines = []
    for schema in partial.get("schemas", ()):
        owner = sql_names.quote(schema["owner"])
        lines.append(f"CREATE SCHEMA IF NOT EXISTS {sql_names.quote(schema['name'])} AUTHORIZATION {owner}")
    for extension in source["extensions"]:
        if extension["name"] in partial.get("extensions", ()):
            schema, name = sql_names.quote(extension["schema"]), sql_names.quote(extension["name"])
            lines.append(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            lines.append(f"CREATE EXTENSION IF NOT EXISTS {name} WITH SCHEMA {schema} CASCADE")
    psql = f"psql -X -q -v ON_ERROR_STOP=1 -d {target}"
    return [f"{psql} -c {shlex.quote(line)}" for line in lines]


def _expected_errors(partial: Mapping[str, Any]) -> list[str]:
    objects = [entry["object"] for entry in partial.get("unrestorable", ())] + list(partial.get("foreign_keys", ()))
    if not objects:
        return []
    names = ", ".join(" ".join(name.split()) for name in objects)
    return [f"The dump is a part of its database: pg_restore reports errors for {names}."]


def _createdb(source: Mapping[str, Any]) -> str:
    values = source["properties"]
    words = [
        "createdb",
        "--template=template0",
        f"--encoding={values['encoding']}",
        f"--lc-collate={values['collate']}",
        f"--lc-ctype={values['ctype']}",
    ]
    if values["provider"] != "libc":
        option = "icu-locale" if values["provider"] == "icu" else "builtin-locale"
        words += [f"--locale-provider={values['provider']}", f"--{option}={values['locale']}"]
    if values.get("icu_rules"):
        words.append(f"--icu-rules={values['icu_rules']}")
    return " ".join(shlex.quote(word) for word in [*words, "--", source["database"]])
