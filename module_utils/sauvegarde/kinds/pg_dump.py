"""The `pg_dump` kind: one database as a directory archive, with the fingerprint of the very same snapshot.

job: connection (see postgres.Server), database; optional: workers (processes at once; the cores, at most 4),
lock_timeout (seconds to wait for a lock on a table; 60), level (zstd's; 2).
"""

import contextlib
import os
import re
import shlex
import shutil
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
from psycopg2 import sql

from .. import archive, character_sets, databases, fingerprint, foreign_keys, omissions, postgres, process
from ..errors import LOCKED, SauvegardeError
from ..following import Compressing

FOLDER = "dump"
AFTER = "after.sql"
LOCK_TIMEOUT = 60
_UNREADABLE = "pg_restore cannot read the dump whole."


def preflight(job, directory, last):
    """Log in, find a client as new as the server with its reader, room for the archive and its uncompressed form."""
    server = postgres.server(job.get("connection"))
    connection = postgres.connect(server, job["database"])
    try:
        facts = {"server": postgres.properties(connection), "libraries": databases.libraries(connection)}
        facts["encoding"] = postgres.encoding_of(connection)
        facts["dumper"] = postgres.client("pg_dump", facts["server"]["version_num"])
        facts["warnings"] = omissions.find(connection, facts["dumper"])
        facts["extension_sequences"] = omissions.extension_sequences(connection)
        size = postgres.value(connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")
    finally:
        connection.close()
    facts["for_foreign_keys"] = foreign_keys.budget(last if last is not None and last["kind"] == "pg_dump" else None)
    facts["reader"] = postgres.client("pg_restore", facts["dumper"].version_num)
    archive.tools()
    if last is not None and last["kind"] == "pg_dump":
        size = last["stored_bytes"] + last["bytes"]
    archive.require_space(directory, size + size // 10)
    return facts


def dump(job, stage, facts, notify):
    """Snapshot, locks, pg_dump with zstd behind it; then the fingerprint and the reading back side by side."""
    server = postgres.server(job.get("connection"))
    database = job["database"]
    workers = int(job.get("workers") or archive.default_workers())
    wait = float(job.get("lock_timeout", LOCK_TIMEOUT))
    with contextlib.ExitStack() as stack:
        leader = stack.enter_context(contextlib.closing(postgres.connect(server, database)))
        fingerprint.pin(leader)
        snapshot = stack.enter_context(postgres.snapshot(leader))
        _lock(leader, wait)
        with ThreadPoolExecutor(1) as beside:
            described = beside.submit(_source, leader, facts)
            look = foreign_keys.Look(lambda: postgres.connect(server, database), facts["for_foreign_keys"])
            look.start()
            said = _dump(server, database, snapshot, stage, facts, workers, wait, notify)
            source = described.result()
            source["foreign_keys"] = look.result()
        notify("read_back")
        changed = source["spatial_ref_sys"]
        srids = [row["srid"] for row in changed["custom"] + changed["changed"]]
        if not _has_postgis(source):
            srids = None
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(_read_back, stage, facts["reader"])
            sums = fingerprint.take(lambda: postgres.connect(server, database), snapshot, workers, srids=srids)
            sequences = reading.result()
    sums["sequences"] = sequences
    with stage.writer(AFTER) as target:
        target.write(character_sets.encode(_after(database, source, facts["encoding"]), facts["encoding"]))
    versions = {"pg_dump": facts["dumper"].version, "pg_restore": facts["reader"].version}
    versions.update(archive.tools())
    return {
        "source": source,
        "tools": versions,
        "fingerprint": sums,
        "restore_by_hand": by_hand(source, facts["dumper"]),
        "warnings": _warnings(source, facts, said),
    }


def _has_postgis(source):
    return any(extension["name"] == "postgis" for extension in source["extensions"])


def _source(leader, facts):
    try:
        source = databases.describe(leader)
    except psycopg2.Error as error:
        raise postgres.database_error(error, "The database's properties could not be read.") from error
    source.update(server=facts["server"], libraries=facts["libraries"])
    source["extension_sequences"] = facts["extension_sequences"]
    return source


def _lock(leader, wait):
    """Hold every table against changes of its form until the fingerprint is taken, and TRUNCATE with them, which no
    snapshot hides. pg_dump does the same, but lets go when it ends."""
    postgres.execute(leader, "SET lock_timeout TO %s", (int(wait * 1000),))
    for table in fingerprint.tables(leader):
        statement = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(
            postgres.qualified(table.schema, table.name)
        )
        try:
            postgres.execute(leader, statement)
        except psycopg2.Error as error:
            what = f"The table {table.key} could not be locked for reading"
            if error.pgcode == "55P03":
                what += f" within {wait:g} seconds"
            raise postgres.database_error(error, what + ".") from error


def _dump(server, database, snapshot, stage, facts, workers, wait, notify):
    arguments = [
        facts["dumper"].path,
        "--format=directory",
        f"--jobs={workers}",
        "--compress=0",
        f"--encoding={facts['encoding']}",  # its own: whatever bytes there are come back as they were
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={int(wait * 1000)}",
        "--no-password",
        f"--file={stage.path / FOLDER}",
    ]
    if facts["dumper"].version_num >= 100000:
        arguments.append("--no-sync")  # the files are compressed first and synced then
    with Compressing(stage, FOLDER, workers) as work, process.start(
        arguments, env=postgres.environment(server, database)
    ) as tool:
        told = 0
        while tool.running():
            work.turn()
            if time.monotonic() - told > 1:
                told = time.monotonic()
                notify("dumping", files=len(stage.files), bytes=sum(entry["bytes"] for entry in stage.files))
        try:
            said = tool.finish(what=f"The database {database} could not be dumped.").stderr
        except SauvegardeError as error:
            if "lock timeout" in error.why or "55P03" in error.why:
                error.exit_code = LOCKED
            raise
        work.finish()
    notify("dumped", bytes=sum(entry["bytes"] for entry in stage.files))
    return said


def _read_back(stage, reader):
    """Read the dump back from the disk with the server's own reader; returns the sequences' values in it."""
    stage.settle()
    found = read_through(stage.path, stage.files, reader)
    stage.proven(entry["path"] for entry in stage.files)
    return found


def read(path, manifest):
    """Read a published archive whole: every checksum, and pg_restore over all of it. Where no pg_restore is new enough,
    that is an error: install one, or verify elsewhere."""
    number = re.match(r"(\d+)(?:\.(\d+))?", manifest["tools"]["pg_dump"])
    first, second = int(number.group(1)), int(number.group(2) or 0)
    reader = postgres.client("pg_restore", first * 10000 + (second * 100 if first < 10 else second))
    dumped = [entry for entry in manifest["files"] if entry["path"].startswith(FOLDER + "/")]
    archive.read_all(path, [entry for entry in manifest["files"] if entry not in dumped])
    found = read_through(path, dumped, reader)
    if found != manifest["fingerprint"]["sequences"]:
        raise archive.damaged(path, "Its manifest names other sequences, or other values, than its dump.")


def read_through(path, files, reader):
    """pg_restore reads the whole dump while every checksum is taken, and nothing uncompressed comes to the disk but the
    tables of contents. Returns the sequences' values that the dump sets.

    files: the manifest's entries of the dump's folder.
    """
    entries = {_name(entry): entry for entry in files}
    # Beside the archive where it can be, under a name that archive.clean removes after a kill.
    parent = Path(str(path)).parent
    beside = str(parent) if os.access(str(parent), os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix=".partial-read-", dir=beside))
    try:
        index = [entry for name, entry in entries.items() if name.endswith(".toc") or name == "toc.dat"]
        archive.stream(path, index, lambda entry: _into(folder / _name(entry)))
        listing = process.run([reader.path, "--list", str(folder)], what=_UNREADABLE).text
        order = ["toc.dat", *(name for name in _order(folder, listing) if name in entries)]
        _as_tar(path, [entries[name] for name in order], reader)
        archive.read_all(path, [entry for name, entry in entries.items() if name not in order])
        return _sequences(folder, listing, reader)
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


def _as_tar(path, files, reader):
    """Give a dump to pg_restore on its standard input, in one pass with the checksums.

    A directory is the same format as a tar, which every version reads from a pipe when its members come in the order of
    the table of contents. Pipes in the place of a directory's files are refused by the newest minor releases.
    """
    with process.start([reader.path, "--format=tar", "--file=/dev/null"], stdin=process.PIPE) as restorer:
        archive.widen(restorer.stdin)

        def write(chunk):
            view = memoryview(chunk)
            try:
                while view:
                    view = view[os.write(restorer.stdin.fileno(), view) :]
            except BrokenPipeError:
                # With status 0 it has read all that its table of contents names: what follows is padding, or a list.
                restorer.finish(what=_UNREADABLE)

        @contextlib.contextmanager
        def member(entry):
            head = tarfile.TarInfo(_name(entry))
            head.size = entry["bytes"]
            write(head.tobuf(tarfile.GNU_FORMAT))
            yield write
            write(bytes(-head.size % tarfile.BLOCKSIZE))

        archive.stream(path, files, member)
        restorer.stdin.close()
        restorer.finish(what=_UNREADABLE)


def _name(entry):
    return entry["path"].rpartition("/")[2]


@contextlib.contextmanager
def _into(path):
    with path.open("xb") as target:
        yield target.write


def _order(folder, listing):
    """Names of the data files in the order of the table of contents; large objects before their list, as in a tar."""
    for line in listing.splitlines():
        found = re.match(r"(\d+); \d+ \d+ (TABLE DATA|BLOBS) ", line)
        if found is None:
            continue
        if found.group(2) == "TABLE DATA":
            yield f"{found.group(1)}.dat"
        else:
            index = folder / f"blobs_{found.group(1)}.toc"  # one list a group of objects, from 17 on
            index = index if index.exists() else folder / "blobs.toc"
            with index.open() as objects:
                for each in objects:
                    yield each.split()[1]
            yield index.name


_ENCODING = re.compile(rb"^SET client_encoding = '([A-Za-z0-9_]+)';$", re.MULTILINE)
_SETVAL = re.compile(r"^SELECT pg_catalog\.setval\('((?:[^']|'')*)', (-?\d+), (true|false)\);$", re.MULTILINE)


def _sequences(folder, listing, reader):
    """Quoted name to [value, whether it was given out], from the SEQUENCE SET entries of the dump."""
    wanted = [line for line in listing.splitlines() if re.match(r"\d+; \d+ \d+ SEQUENCE SET ", line)]
    if not wanted:
        return {}
    chosen = folder / "sequences.list"
    chosen.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    arguments = [reader.path, f"--use-list={chosen}", "--file=/dev/stdout", str(folder)]
    data = process.run(arguments, what="pg_restore cannot read the sequences.").stdout
    encoding = _ENCODING.search(data)
    text = character_sets.decode(data, encoding.group(1).decode("ascii") if encoding else "UTF8")
    found = {}
    for name, value, called in _SETVAL.findall(text):
        parts = re.findall(r'"((?:[^"]|"")*)"|([^".]+)', name.replace("''", "'"))
        key = postgres.quoted(*(quoted.replace('""', '"') or bare for quoted, bare in parts))
        found[key] = [int(value), called == "true"]
    if len(found) != len(wanted):
        raise SauvegardeError("The dump's sequences could not be read.", f"{len(wanted)} set, {len(found)} understood.")
    return found


def _after(database, source, encoding):
    """SQL to run in the restored database, for what pg_restore may not bring back: the database's own properties
    (before version 11), edited rows of spatial_ref_sys, and sequences of extensions (never)."""
    lines = ["-- What pg_restore does not bring back. Run as a superuser, connected to the restored database."]
    lines.append(f"SET client_encoding TO '{encoding if character_sets.codec(encoding) else 'UTF8'}';")
    lines += [statement + ";" for statement in databases.statements(database, source["properties"])]
    changed = source["spatial_ref_sys"]["changed"]
    if changed:
        schema = next(each["schema"] for each in source["extensions"] if each["name"] == "postgis")
        table = postgres.quoted(schema, "spatial_ref_sys")
        for row in changed:
            values = ", ".join(postgres.literal(row[key]) for key in ("auth_name", "srtext", "proj4text"))
            number = "NULL" if row["auth_srid"] is None else f"{row['auth_srid']:d}"
            lines.append(f"DELETE FROM {table} WHERE srid = {row['srid']:d};")
            lines.append(
                f"INSERT INTO {table} (srid, auth_srid, auth_name, srtext, proj4text)"
                f" VALUES ({row['srid']:d}, {number}, {values});"
            )
    lines += [omissions.advance(each) + ";" for each in source["extension_sequences"]]
    return "\n".join(lines) + "\n"


def by_hand(source, dumper):
    """The shell lines that restore the archive with stock tools, for its local and its plain form.

    The database is made by createdb rather than by `pg_restore --create`, whose words an older server does not know.
    """
    database, values = source["database"], source["properties"]
    target = shlex.quote(postgres.conninfo(database))
    create = [
        "createdb",
        "--template=template0",
        f"--encoding={values['encoding']}",
        f"--lc-collate={values['collate']}",
        f"--lc-ctype={values['ctype']}",
    ]
    if values["provider"] != "libc":
        option = "icu-locale" if values["provider"] == "icu" else "builtin-locale"
        create += [f"--locale-provider={values['provider']}", f"--{option}={values['locale']}"]
    if values.get("icu_rules"):
        create.append(f"--icu-rules={values['icu_rules']}")
    make = " ".join(shlex.quote(word) for word in [*create, "--", database])
    head = [
        f"# As a superuser (postgres), with psql and pg_restore {postgres.major(dumper.version_num)} or later,",
        "# on a cluster that has the roles of the manifest (source.roles) and no database of this name.",
    ]
    # Before 11, pg_dump wrote a CREATE SCHEMA public that later versions of pg_restore run: the list leaves it out.
    lists = dumper.version_num < 110000
    without = 'pg_restore --list {0} | grep -v "^[0-9]*; 2615 [0-9]* SCHEMA - public " > "$work/list"'
    restore = f"pg_restore --exit-on-error --jobs=2 --dbname={target}" + (' --use-list="$work/list"' if lists else "")
    psql = f"psql -X -q -v ON_ERROR_STOP=1 -d {target}"
    return {
        "local": [
            *head,
            "work=$(mktemp -d)",
            f'for file in {FOLDER}/*.zst; do zstd -dq "$file" -o "$work/$(basename "$file" .zst)"; done',
            make,
            *([without.format('"$work"')] if lists else []),
            f'{restore} "$work"',
            f"zstd -dcq {AFTER}.zst | {psql}",
            'rm -r "$work"',
        ],
        "plain": [
            *head,
            make,
            *(["work=$(mktemp -d)", without.format(FOLDER)] if lists else []),
            f"{restore} {FOLDER}",
            f"{psql} -f {AFTER}",
            *(['rm -r "$work"'] if lists else []),
        ],
    }


def _warnings(source, facts, said):
    """Sentences for the manifest. said: what pg_dump wrote on standard error though it ended well."""
    found = facts["warnings"] + foreign_keys.warnings(source["foreign_keys"])
    found += [_prefixed(line) for line in said.splitlines() if line.strip()]
    if source["spatial_ref_sys"]["reference"] is None and _has_postgis(source):
        found.append(
            "PostGIS's own script is not on this host: edited rows of spatial_ref_sys were not told from shipped ones."
        )
    return found


def _prefixed(line):
    """The line as pg_dump's own: some versions begin with their name, continuation lines do not."""
    line = line.strip()
    return line if line.startswith("pg_dump: ") else "pg_dump: " + line
