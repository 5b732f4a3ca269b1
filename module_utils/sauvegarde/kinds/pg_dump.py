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

from .. import (
    archive,
    character_sets,
    databases,
    fingerprint,
    foreign_keys,
    omissions,
    postgres,
    predefined,
    process,
    summing,
)
from ..errors import LOCKED, SauvegardeError
from ..following import Compressing

FOLDER = "dump"
AFTER = "after.sql"
LOCK_TIMEOUT = postgres.LOCK_TIMEOUT
_ATTEMPTS = 10
_PARALLEL = 3  # attempts in which pg_dump has several workers
_BRIEFLY = 5  # pg_dump's lock timeout in seconds, except in the last attempt
_PAUSE = 0.2  # seconds before the second attempt, longer before each later one
_BLOCKED = "could not obtain lock on relation"  # pg_dump's own words, which are not translated here
# Also pg_dump's words, when it gets no session: the job's own ones may be what the server has too many of.
_NO_SESSION = re.compile(r"connection to (?:server|database)\b.* failed")
_PRIVILEGES = (
    "Give the dump role pg_read_all_data (14 and later), BYPASSRLS where there is row-level security and, for large"
    " objects, ALTER ROLE … SET lo_compat_privileges = on by a superuser; or dump as the owner."
)
# Tables that another session has to itself, or waits for to have.
_TAKEN = """
SELECT DISTINCT n.nspname::text, c.relname::text
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""
# Versions of the rows of the catalogs that pg_dump reads names from; temporary tables come and go.
_CATALOGS = """
WITH lasting AS (SELECT oid, xmin FROM pg_class WHERE relpersistence <> 't')
SELECT md5(string_agg(version, ' ' ORDER BY version)) FROM (
    SELECT concat_ws(' ', 'class', oid, xmin) FROM lasting
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, xmin) FROM pg_attribute
              WHERE attrelid IN (SELECT oid FROM lasting)
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, xmin) FROM pg_constraint
    UNION ALL SELECT concat_ws(' ', 'function', oid, xmin) FROM pg_proc
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, xmin) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'type', oid, xmin) FROM pg_type
              WHERE typrelid = 0 OR typrelid IN (SELECT oid FROM lasting)
) AS each (version)
"""
_CHANGED = (
    "The table {} was changed or locked by others in every attempt, while the dump began: the archive may lack rows"
    " of it that the database had."
)
_NOT_SHARED = (
    "A standby before PostgreSQL 10 lets no other session look through the dump's snapshot: dump from the primary."
)
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
    """pg_dump in an exported snapshot, with zstd behind it and the sums of tables beside it; then the reading back."""
    database = job["database"]
    source, found, warnings = _dump_and_sum(job, stage, facts, notify)
    with stage.writer(AFTER) as target:
        target.write(character_sets.encode(_after(database, source, facts["encoding"]), facts["encoding"]))
    versions = {"pg_dump": facts["dumper"].version, "pg_restore": facts["reader"].version}
    versions.update(archive.tools())
    return {
        "source": source,
        "tools": versions,
        "fingerprint": found,
        "restore_by_hand": by_hand(source, facts["dumper"]),
        "warnings": _warnings(source, facts, warnings) + omissions.without_fingerprint(found),
    }


def _dump_and_sum(job, stage, facts, notify):
    """Fill the stage; returns (source, fingerprint, warnings of the dump itself).

    Where the site's tables change under pg_dump's hands, all begins again with a new snapshot. A statement that wants a
    table to itself after pg_dump's leader has locked it makes parallel workers fail, so later attempts have none. Where
    pg_dump itself gets no session, later attempts open none beside it.
    """
    blocked = crowded = False
    for attempt in range(1, _ATTEMPTS + 1):
        with contextlib.ExitStack() as stack:
            alone = blocked or crowded or attempt > _PARALLEL
            run = _Attempt(stack, job, facts, alone, crowded)
            try:
                warnings = run.dump(stage, notify, attempt < _ATTEMPTS)
            except (_Changed, SauvegardeError) as error:
                why = getattr(error, "why", "")
                blocked, crowded = blocked or _BLOCKED in why, crowded or bool(_NO_SESSION.search(why))
                anew = (
                    _BLOCKED in why
                    or _NO_SESSION.search(why)
                    or isinstance(error, _Changed)
                    or error.exit_code == LOCKED
                    or run.outdated()
                )
                if attempt == _ATTEMPTS or not anew:
                    raise
                _discard(stage)
                notify("again", attempt=attempt + 1)
                stack.close()  # nothing is held while others go first
                time.sleep(_PAUSE * attempt)
                continue
            notify("read_back")
            reading = run.beside.submit(_read_back, stage, facts["reader"])
            found = run.fingerprint()
            found["sequences"] = reading.result()
            return run.source, found, warnings
    raise AssertionError("the last attempt returns or raises")


class _Changed(Exception):
    """Tables changed between the snapshot and pg_dump's locks on them."""


class _Attempt:
    """One snapshot of the database and what looks through it. The leader's session keeps it; it holds no table."""

    def __init__(self, stack, job, facts, alone, crowded):
        workers = int(job.get("workers") or archive.default_workers())
        shared = facts["server"]["version_num"] >= 100000 or not facts["server"]["standby"]
        self._jobs, self._crowded = 1 if alone or not shared else workers, crowded
        self._server, self._database = postgres.server(job.get("connection")), job["database"]
        self._wait, self._facts = float(job.get("lock_timeout", LOCK_TIMEOUT)), facts
        self._leader = stack.enter_context(contextlib.closing(self._connect()))
        fingerprint.pin(self._leader)
        _wait_for_tables(self._leader, self._wait)
        if not shared:
            stack.enter_context(postgres.transaction(self._leader))
            self.beside = stack.enter_context(ThreadPoolExecutor(1))
            self._snapshot, self._application = "", f"sauvegarde pg_dump {os.getpid()}"
            self._sums = summing.NoSums(_NOT_SHARED)
            return
        self._snapshot = stack.enter_context(postgres.snapshot(self._leader))
        self.beside = stack.enter_context(ThreadPoolExecutor(1))
        self._application = f"sauvegarde pg_dump {os.getpid()} {self._snapshot}"
        self._sums = stack.enter_context(
            summing.Summing(self._connect, self._snapshot, workers, self._application, impatient=alone, late=crowded)
        )

    def _connect(self):
        return postgres.connect(self._server, self._database)

    def dump(self, stage, notify, careful):
        """Run pg_dump; returns warnings. careful: raise _Changed rather than publish a table of which the snapshot has
        more rows; otherwise that is a warning."""
        self._described = self.beside.submit(_source, self._leader, self._facts)
        look = foreign_keys.Look(self._connect, self._facts["for_foreign_keys"])
        if not self._crowded:
            look.start()
        environment = postgres.environment(self._server, self._database, self._application)
        # It resets the limits of its sessions by itself, but for idle_session_timeout, which counts no transaction and
        # so cannot end them. Connection poolers refuse the parameter that these options go in.
        del environment["PGOPTIONS"]

        def check():
            if careful and self._sums.stale():
                raise _Changed(", ".join(self._sums.stale()))

        # What has to be waited for longer is waited for by the next attempt, which then holds nothing.
        wait = min(self._wait, _BRIEFLY) if careful else self._wait
        try:
            said = _dump(environment, self._snapshot, stage, self._facts, self._jobs, wait, notify, check)
            self._sums.dumped()
        except BaseException:
            self._sums.close()  # before anything else: nobody waits for what is held beside a dump that has failed
            raise
        finally:
            broken = look.result()
        source, self._tables, self._listed = self._described.result()
        self.source = dict(source, foreign_keys=broken)
        check()
        return process.warnings("pg_dump", said) + [_CHANGED.format(name) for name in self._sums.stale()]

    def outdated(self):
        """Whether the catalogs have changed since the snapshot, which may be why pg_dump failed."""
        with contextlib.suppress(SauvegardeError, psycopg2.Error):
            self._described.exception()  # the leader's session is free after that
            with contextlib.closing(self._connect()) as now:
                fingerprint.pin(now)
                return postgres.query(now, _CATALOGS) != postgres.query(self._leader, _CATALOGS)
        return False

    def fingerprint(self):
        """The manifest's fingerprint, but for the sequences."""
        return dict(self._sums.result(self._tables), algorithm=fingerprint.ALGORITHM, **self._listed)


def _discard(stage):
    """Take back what an attempt has left in the stage."""
    for entry in stage.files:
        stage.discard(entry["path"])
    shutil.rmtree(str(stage.path / FOLDER), ignore_errors=True)


def _has_postgis(source):
    return any(extension["name"] == "postgis" for extension in source["extensions"])


def _source(leader, facts):
    """(source, tables, parts of the fingerprint): what can be said without reading tables of the site, while pg_dump
    runs, so that nothing is asked of this session afterwards."""
    try:
        with postgres.rolled_back(leader):
            source, tables = databases.describe(leader), fingerprint.tables(leader)
            public = predefined.of_public(leader, facts["dumper"])
            listed = {"matviews": fingerprint.matviews(leader)}
            if _has_postgis(source):
                changed = source["spatial_ref_sys"]
                srids = [row["srid"] for row in changed["custom"] + changed["changed"]]
                listed["srids"] = fingerprint.custom_srids(leader, srids)
    except psycopg2.Error as error:
        raise postgres.database_error(error, "The database's properties could not be read.") from error
    source.update(server=facts["server"], libraries=facts["libraries"])
    source["extension_sequences"] = facts["extension_sequences"]
    if public:
        source["schema_public"] = public
    return source, tables, listed


def _wait_for_tables(leader, wait):
    """Wait for every table that somebody has to himself or is about to, each alone, before anything else is held.

    What comes between this and pg_dump's locks is left to pg_dump's own limit.
    """
    until = time.monotonic() + wait
    for schema, name in postgres.query(leader, _TAKEN):
        table = postgres.quoted(schema, name)
        left = max(1, int((until - time.monotonic()) * 1000))
        try:
            with postgres.transaction(leader):
                postgres.execute(leader, "SET LOCAL lock_timeout TO %s", (left,))
                postgres.execute(leader, f"LOCK TABLE ONLY {table} IN ACCESS SHARE MODE")
        except psycopg2.Error as error:
            if error.pgcode == "55P03":  # lock_not_available
                what = f"The table {table} could not be locked for reading within {wait:g} seconds."
                raise postgres.database_error(error, what) from error
            if leader.closed:
                raise  # anything else is pg_dump's to say


def _dump(environment, snapshot, stage, facts, jobs, wait, notify, check):
    """Run pg_dump with zstd behind it. check: called again and again meanwhile; what it raises ends the dump."""
    arguments = [
        facts["dumper"].path,
        "--format=directory",
        f"--jobs={jobs}",
        "--compress=0",
        f"--encoding={facts['encoding']}",  # its own: whatever bytes there are come back as they were
        *([f"--snapshot={snapshot}"] if snapshot else []),
        f"--lock-wait-timeout={int(wait * 1000)}",
        "--no-password",
        f"--file={stage.path / FOLDER}",
    ]
    if facts["dumper"].version_num >= 100000:
        arguments.append("--no-sync")  # the files are compressed first and synced then
    with Compressing(stage, FOLDER, max(jobs, 2)) as work, process.start(arguments, env=environment) as tool:
        told = 0
        while tool.running():
            work.turn()
            check()
            if time.monotonic() - told > 1:
                told = time.monotonic()
                notify("dumping", files=len(stage.files), bytes=sum(entry["bytes"] for entry in stage.files))
        try:
            said = tool.finish(what="The database {} could not be dumped.".format(environment["PGDATABASE"])).stderr
        except SauvegardeError as error:
            if "statement timeout" in error.why:  # how --lock-wait-timeout ends its statement
                error.exit_code = LOCKED
                error.fix = "See who holds the table in pg_stat_activity, and run again once it is free."
            if any(words in error.why for words in ("permission denied", "row-level security")):
                error.fix = _PRIVILEGES
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
    # As the source has it; pg_dump writes its literals accordingly.
    doubled = "\nSET standard_conforming_strings = off;\n" in text
    found = {}
    for name, value, called in _SETVAL.findall(text):
        name = name.replace("\\\\", "\\") if doubled else name
        parts = re.findall(r'"((?:[^"]|"")*)"|([^".]+)', name.replace("''", "'"))
        key = postgres.quoted(*(quoted.replace('""', '"') or bare for quoted, bare in parts))
        found[key] = [int(value), called == "true"]
    if len(found) != len(wanted):
        raise SauvegardeError("The dump's sequences could not be read.", f"{len(wanted)} set, {len(found)} understood.")
    return found


def _after(database, source, encoding):
    """SQL to run in the restored database, for what pg_restore may not bring back: the database's own properties
    (before version 11), the schema public's owner and comment (before 15), edited rows of spatial_ref_sys, and
    sequences of extensions (never)."""
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
    lines += [statement + ";" for statement in predefined.statements(source.get("schema_public", {}))]
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
    lists = dumper.version_num < 110000 and source["public_oid"] is not None
    without = f'pg_restore --list {{}} | grep -v "^[0-9]*; 2615 {source["public_oid"]} SCHEMA - public " > "$work/list"'
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


def _warnings(source, facts, warnings):
    """Sentences for the manifest. warnings: of the dump itself."""
    found = facts["warnings"] + predefined.warnings(source.get("schema_public", {}), facts["dumper"])
    found += foreign_keys.warnings(source["foreign_keys"])
    found += warnings
    if source["spatial_ref_sys"]["reference"] is None and _has_postgis(source):
        found.append(
            "PostGIS's own script is not on this host: edited rows of spatial_ref_sys were not told from shipped ones."
        )
    return found
