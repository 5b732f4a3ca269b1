"""Fill the side database: what comes before the data, the data, what comes after.

An object that fails is a loss (`losses`): the load goes on, so that one run finds them all. Any other error stops it.

The session is a superuser's. Where all of the dump belongs to one role that can load it, which `load_as` decides, the
session takes that role (SET ROLE, pg_restore --role) for all but what is there already, like the schema public. Else
everything is loaded as the superuser and given to its owners by the dump's own ALTER … OWNER, and a note says why: so
it is loaded again where a definition turns out to ask for what the role may not do (`Denied`). Plain SQL that names no
owners is loaded as the database's owner.

Between the first two, every function of the dump's that has no search_path of its own is given one, and loses it at the
very end: a dump is restored with an empty search_path, in which a function that calls PostGIS unqualified fails inside
indexes, CHECKs and materialized views.
"""

import os
import re
import tempfile

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from .. import postgres
from ..errors import SauvegardeError
from . import load_as, losses, oids
from . import source as sources
from .contents import DEFINING, QUALIFIED, identifiers, located
from .script import DATA, Copy, Entry, Script, Setting, Sql

# For the load's own sessions: nothing here outlives it. What must be on disk is synced by the last checkpoint.
SESSION = {
    "synchronous_commit": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "row_security": "off",
    "default_transaction_read_only": "off",
    "check_function_bodies": "off",
    "lc_messages": "C",  # whether a privilege was missing is read from an error's words
}


def session(connection):
    """The settings of a loading session on this server. lz4 is several times as fast as pglz where it is built in."""
    settings = dict(SESSION)
    methods = postgres.value(
        connection, "SELECT enumvals FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'"
    )
    if methods and "lz4" in methods:
        settings["default_toast_compression"] = "lz4"
    return settings


class Denied(SauvegardeError):
    """A definition asks for what the role that loads it may not do; a superuser may. `reason`: the server's words."""

    def __init__(self, error, reason):
        super().__init__(error.what, error.why, error.fix, error.exit_code)
        self.reason = reason


def _named(entry):
    """The entry as pg_restore's list names it."""
    return "{} {} {} {}".format(entry.kind, entry.schema or "-", entry.name, entry.owner)


class Target:
    """One side database being filled.

    server: a postgres.Server; name: the database; contents: of the dump; owner: whose everything becomes where the
    dump names no owners; told(**state) hears of each step; because: why the superuser is to load it all, '' where the
    dump decides. `role` is whom the dump is loaded as, '' for the superuser.
    `notes` collects what was left out, or done otherwise than it should be, and why. losses: a losses.Ledger.
    """

    def __init__(self, server, name, contents, owner="", search_path="", told=None, because="", ledger=None):
        self.server = server
        self.name = name
        self.contents = contents
        self.search_path = search_path
        self.told = told or (lambda **_: None)
        self.notes = []
        self.losses = ledger if ledger is not None else losses.Ledger((), contents.texts)
        self.connection = postgres.connect(server, name)
        self.settings = session(self.connection)
        for setting, value in sorted(self.settings.items()):
            postgres.execute(self.connection, sql.SQL("SET {} TO %s").format(sql.SQL(setting)), (value,))
        self._keeps_oids = self.connection.server_version < 120000
        self._known = {name for (name,) in postgres.query(self.connection, "SELECT name FROM pg_catalog.pg_settings")}
        self._schemas = {
            name
            for (name,) in postgres.query(
                self.connection, "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname <> 'public'"
            )
        }
        self.absent = self._absent()
        self._altered = []
        self._acting = ""
        self.way = (
            load_as.Way("", because)
            if because
            else load_as.choose(contents, self._schemas, load_as.superusers(self.connection), owner)
        )
        self.role = self.way.role
        self._as_superuser_because(self.way.why)
        self._first = {_named(entry) for entry in self.way.first}
        self._last = {_named(entry) for entry in self.way.last}
        # Rows and values of what the dump does not define are an extension's.
        self._filled = {
            "{} {} {} {}".format(kind, *entry[1:])
            for entry in contents.entries
            for kind, of in (("TABLE DATA", DEFINING), ("SEQUENCE SET", ("SEQUENCE",)))
            if entry.kind in of
        }
        self._dropped = {_named(entry) for entry in contents.entries if self.skips(entry)}

    def close(self):
        self.connection.close()

    # As whom

    def _as_superuser_because(self, why):
        if why:
            self.role = ""
            self.notes.append("not loaded as its owner but as the superuser: " + why)

    def _is_superusers(self, names):
        """Whether an entry, as pg_restore's list names it, is loaded by the superuser, whoever loads the rest."""
        if names in self._first or names in self._last:
            return True
        return names.startswith(("TABLE DATA ", "SEQUENCE SET ")) and names not in self._filled

    def _decide(self):
        """Before the dump's own definitions, and after what is there already: whether its owner may load them."""
        if self.role and not self.contents.unowned:
            self._as_superuser_because(load_as.lacks(self.connection, self.way, self.contents))

    def _failed(self, error, section):
        """The same error, with a way out where a superuser would not have met it.

        Data is what runs the dump's own code, in CHECKs: what that may not do as its owner, it does not do at all.
        """
        denied = re.search("(?:permission denied|must be (?:owner|superuser|able|(?:a )?member)).*", error.why)
        if not self.role or not denied:
            return error
        if section != "data" and not self.contents.unowned:
            return Denied(error, denied.group())
        fix = (
            "The dump is loaded as its owner. Where only a superuser can do what it does, make the owner one while the"
            " restore takes: ALTER ROLE {0} SUPERUSER, then ALTER ROLE {0} NOSUPERUSER."
        ).format(postgres.quoted(self.role))
        return SauvegardeError(error.what, error.why, fix, error.exit_code)

    def _lost(self, entry, why, section, what):
        """Record that an entry failed; raise where a superuser's load, or other rights, would have helped."""
        error = SauvegardeError(what, why)
        told = self._failed(error, section)
        if told is not error:
            raise told
        self.losses.failed(entry, why)

    def _keep_invalid(self):
        """Accepted constraints that rows violate, made NOT VALID where the server can: they hold for new rows."""
        for entry, text in self.losses.can_be_kept_invalid():
            self._become(self.role or (entry.owner if self.contents.by_session else ""))
            statement = re.sub(r";\s*\Z", " NOT VALID;", text)
            try:
                postgres.execute(
                    self.connection, sql.SQL("SET search_path TO {}, pg_catalog").format(sql.Identifier(entry.schema))
                )
                postgres.execute(self.connection, statement)
                self.losses.keep(entry, "NOT VALID")
            except psycopg2.Error:
                continue  # a foreign key of a partitioned table, before 18
        self._become("")
        postgres.execute(self.connection, "SET search_path TO ''")

    def _become(self, role):
        """Have what follows on this connection done as the role, or as the superuser where it is ''."""
        if role != self._acting:
            statement = sql.SQL("SET ROLE {}").format(sql.Identifier(role)) if role else "RESET ROLE"
            postgres.execute(self.connection, statement)
            self._acting = role

    # What is left out

    def _absent(self):
        """Entries about objects that neither the dump nor the extensions made here define."""
        absent = set()
        defined = self.contents.defined()
        for entry, kind, schema, name in self.contents.granted:
            if kind in ("SCHEMA", "LARGE OBJECT") or (schema, name) in defined:
                continue
            if not self._made_by_extension(kind, schema, name):
                absent.add(entry)
                self.notes.append(f"left out: privileges on {kind} {schema}.{name}, which no longer exists")
        for entry in self.contents.entries:
            if entry.kind != "SEQUENCE SET" or (entry.schema, entry.name) in defined:
                continue
            if not self._made_by_extension("SEQUENCE", entry.schema, entry.name):
                absent.add(entry)
                self.notes.append("left out: the value of sequence {}.{}, which no longer exists".format(*entry[1:3]))
        return absent

    def _made_by_extension(self, kind, schema, name):
        if kind in ("TABLE", "SEQUENCE"):
            catalog = "pg_catalog.pg_class WHERE relnamespace = n.oid AND relname = %s"
        elif kind in ("TYPE", "DOMAIN"):
            catalog = "pg_catalog.pg_type WHERE typnamespace = n.oid AND typname = %s"
        else:
            catalog = "pg_catalog.pg_proc WHERE pronamespace = n.oid AND proname = %s"
        statement = "SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname = %s AND EXISTS (SELECT 1 FROM {})"
        return bool(postgres.value(self.connection, statement.format(catalog), (schema, name)))

    def skips(self, entry):
        return entry is not None and (self.contents.passed_over(entry, self._schemas) or entry in self.absent)

    # Between the dump's definitions and its data

    def ready_for_data(self):
        """After the definitions, as the superuser: extensions' rows merged, functions able to find what they call."""
        # Dumps by older clients set a search_path time and again; what is named here must be found under any.
        found = postgres.value(self.connection, "SELECT pg_catalog.current_setting('search_path')")
        postgres.execute(self.connection, "SET search_path TO ''")
        if self.role and not self.contents.unowned:
            self._as_superuser_because(load_as.lacks_of_its_own(self.connection, self.role))
        for rows in self.contents.merged:
            self._merge_or_lose(rows)
        path = self._path()
        # ROUTINE covers procedures too, which came with that word.
        self._alter = "ALTER {} {{}} ".format("ROUTINE" if self.connection.server_version >= 110000 else "FUNCTION")
        for (function,) in postgres.query(
            self.connection,
            "SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p"
            " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
            " JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND l.lanname NOT IN ('c', 'internal')"
            " AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%')"
            " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid)"
            " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass"
            " AND d.objid = p.oid AND d.deptype = 'e')",
        ):
            postgres.execute(self.connection, (self._alter + "SET search_path TO {}").format(function, path))
            self._altered.append(function)
        postgres.execute(self.connection, "SELECT pg_catalog.set_config('search_path', %s, false)", (found,))

    def _path(self):
        """Where functions look for what they call: first as the database's sessions did, then everywhere it can be."""
        first = re.findall(r'"(?:[^"]|"")*"|[^,\s\']+', self.search_path) or ['"$user"', "public"]
        there = [
            postgres.quoted(name)
            for (name,) in postgres.query(
                self.connection,
                "SELECT nspname FROM pg_catalog.pg_namespace n"
                " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
                " ORDER BY EXISTS (SELECT 1 FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid) DESC, nspname",
            )
        ]
        return ", ".join(first + [name for name in there if name not in first])

    def release(self):
        """After everything, ANALYZE included (which calls functions of indexes): the functions as the dump has them."""
        for function in self._altered:
            postgres.execute(self.connection, (self._alter + "RESET search_path").format(function))
        self._altered = []

    def _merge_or_lose(self, rows):
        try:
            self._merge(rows)
        except psycopg2.Error as error:
            if losses.stops(error):
                raise postgres.database_error(
                    error, f"The rows of {rows.schema}.{rows.table} cannot be loaded."
                ) from error
            self.losses.failed(Entry("TABLE DATA", rows.schema, rows.table, ""), losses.words(str(error)))
            postgres.execute(self.connection, "DROP TABLE IF EXISTS pg_temp.sauvegarde_rows")

    def _merge(self, spooled):
        """Add rows to a table that its extension has filled already; where both have a key, the dump's row holds."""
        table = postgres.qualified(spooled.schema, spooled.table)
        found = postgres.query(
            self.connection,
            "SELECT a.attname, coalesce(a.attnum = ANY (i.indkey), false) FROM pg_catalog.pg_attribute a"
            " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary"
            " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
            (spooled.schema, spooled.table),
        )
        if not found:
            why = "There is no such table: neither the dump nor an extension that could be made here defines it."
            self.losses.failed(Entry("TABLE DATA", spooled.schema, spooled.table, ""), why)
            return
        clause = spooled.statement[len("COPY ") + QUALIFIED.match(spooled.statement[len("COPY ") :]).end() :].strip()
        listed = clause[: clause.rindex(" FROM stdin")]
        names = (
            [identifiers(each.strip())[1] for each in _split(listed.strip("()"))] if listed else [n for n, _ in found]
        )
        keys = [name for name, key in found if key]
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in names)
        aside = sql.SQL("pg_temp.sauvegarde_rows")
        postgres.execute(
            self.connection,
            sql.SQL("CREATE TEMPORARY TABLE sauvegarde_rows AS SELECT {} FROM {} LIMIT 0").format(columns, table),
        )
        spooled.rows.seek(0)
        with self.connection.cursor() as cursor:
            cursor.copy_expert(sql.SQL("COPY {} ({}) FROM STDIN").format(aside, columns), spooled.rows)
        insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(table, columns, columns, aside)
        if keys and set(keys) <= set(names):
            others = [name for name in names if name not in keys]
            taken = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
            insert += sql.SQL(" ON CONFLICT ({}) DO ").format(sql.SQL(", ").join(sql.Identifier(name) for name in keys))
            insert += sql.SQL("UPDATE SET ") + taken if others else sql.SQL("NOTHING")
        else:
            insert += sql.SQL(" EXCEPT SELECT {} FROM {}").format(columns, table)
        postgres.execute(self.connection, insert)
        postgres.execute(self.connection, "DROP TABLE pg_temp.sauvegarde_rows")

    # The two ways in

    def from_archive(self, source, tool, jobs):
        """Load an archive with the target's own pg_restore, `jobs` tables and indexes at a time."""
        base = [tool.path, "-d", postgres.conninfo(self.name)]
        if not self._has_tablespaces():
            base.append("--no-tablespaces")
        options = " ".join("-c {}={}".format(*each) for each in sorted(self.settings.items()))
        env = postgres.environment(self.server, self.name, PGOPTIONS=options)
        # A tar archive cannot be read in parallel.
        parallel = ["-j", str(jobs)] if source.form != "tar" else []
        with tempfile.TemporaryDirectory() as folder:

            def load(lines, what, *more, section=""):
                words = losses.restore(
                    [*base, *more],
                    parallel if section in ("data", "post-data") else [],
                    lines,
                    source.path,
                    folder,
                    env,
                    what,
                )
                for number, why in sorted(words.items(), key=lambda each: order[each[0]]):
                    if section:
                        self._lost(entries[number], why, section, what)
                    else:
                        self.losses.failed(entries[number], why)

            first, own, last = [], [], []
            known = losses.by_listing(self.contents, _named)
            entries, order = {}, {}
            for line, names in sources.listing(source, tool, self.contents.encoding):
                number = line.split(b";")[0].decode("ascii")
                entries[number] = known.get(names) or losses.unlisted(names)
                order[number] = len(order)
                if not self._skips_line(names):
                    others = last if names in self._last else first
                    (others if self.way.role and self._is_superusers(names) else own).append(line)
            # Without a section: privileges have none, and count to the one of whatever comes before them in the list.
            if first:
                load(first, "The restore stopped at what is there before the dump.")
            self._decide()
            for section in ("pre-data", "data", "post-data"):
                self.told(step=section)
                if section == "data":
                    self.ready_for_data()
                # pg_restore says it to the server as it is, in the dump's encoding.
                named = os.fsdecode(self.role.encode(self.contents.encoding, "surrogateescape"))
                role = ["--role", named] if self.role else []
                what = f"The restore stopped in the section {section}."
                load(own, what, *role, "--section", section, section=section)
            if last:
                load(last, "The restore stopped at the default privileges of other roles.")
        if self.losses:
            self.losses.learn(losses.dependencies(source, tool, self.contents.encoding))
            self._keep_invalid()

    def _skips_line(self, names):
        if names.startswith(("EXTENSION - ", "COMMENT - EXTENSION ")):
            return True
        # Rows of an extension's own tables are merged.
        return names in self._dropped or (names.startswith("TABLE DATA ") and names not in self._filled)

    def _has_tablespaces(self):
        missing = load_as.missing_tablespaces(self.connection, self.contents)
        if missing:
            self.notes.append(
                "tablespaces that this server lacks, their tables are in its default: " + ", ".join(sorted(missing))
            )
        return not missing

    def from_script(self, stream):
        """Load plain SQL, piece by piece. The stream is what `source.script` gives."""
        script = Script(stream)
        tablespaces = self._has_tablespaces()
        decided = started = lost = False
        section = "pre-data"
        self.told(step=section)
        for piece in script:
            if isinstance(piece, Entry):
                self._settle()
                lost = False
                if not decided:
                    decided = True
                    self._grant(self.way.first)
                    self._decide()
                moved = _section(piece, section)
                if moved != section:
                    section = moved
                    self.told(step=section)
                    if not started:
                        started = True
                        self._between()
                role = self.role or (piece.owner if self.contents.by_session else "")
                self._become("" if self._is_superusers(_named(piece)) else role)
            elif isinstance(piece, Setting):
                self._set(piece, tablespaces)
            elif isinstance(piece, Sql):
                if not lost and not self._skips_sql(piece):
                    text = piece.text
                    if piece.entry is not None and piece.entry.kind == "TABLE" and not self._keeps_oids:
                        text = oids.definition(text)
                    if piece.entry is not None and piece.entry.kind == "TABLE DATA":
                        self._begin()
                    lost = self._run(piece.entry, lambda cursor, text=text: cursor.execute(text), section)
            elif isinstance(piece, Copy) and not self._is_merged(piece):
                statement, rows = piece.statement.rstrip().rstrip(b";"), piece.rows
                if not self._keeps_oids:
                    statement, rows = oids.copy(statement, rows)
                self._run(
                    piece.entry,
                    lambda cursor, rows=rows, text=statement: cursor.copy_expert(text, rows, 1 << 20),
                    section,
                )
        self._settle()
        self._become("")
        self._keep_invalid()
        postgres.execute(self.connection, "SET search_path TO ''")

    def _in_transaction(self):
        return self.connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE

    def _begin(self):
        """Begin the transaction around the rows of a table that came as INSERTs: all of them come in, or none."""
        if not self._in_transaction():
            postgres.execute(self.connection, "BEGIN")

    def _settle(self, failed=False):
        if self._in_transaction():
            postgres.execute(self.connection, "ROLLBACK" if failed else "COMMIT")

    def _between(self):
        self._become("")
        # An index is built as the table's owner, who needs USAGE on the schema of what the index calls.
        self._grant({entry for entry, _ in self.contents.grants})
        self.ready_for_data()

    def _grant(self, entries):
        """Run those of the entries that are grants on schemas, which a plain dump has at its end only."""
        for entry, text in self.contents.grants:
            if entry in entries:
                postgres.execute(self.connection, text)

    def _skips_sql(self, piece):
        if piece.entry is not None:
            return self.skips(piece.entry)
        # Before the first entry there is only the session's set-up, and what --clean wants dropped.
        return not piece.text.startswith(b"SELECT pg_catalog.set_config(")

    def _set(self, piece, tablespaces):
        if piece.name == "default_tablespace" and not tablespaces:
            return
        if piece.name not in self._known:
            return
        if piece.name == "client_encoding":
            # The driver has to know too: it encodes what is not bytes.
            self.connection.set_client_encoding(piece.text.split(b"'")[1].decode("ascii"))
        elif piece.name not in self.settings:
            self._run(None, lambda cursor: cursor.execute(piece.text))

    def _is_merged(self, piece):
        statement = piece.statement.decode(self.contents.encoding, "surrogateescape")
        target = located(statement[len("COPY ") :], piece.entry)
        return any(target == (rows.schema, rows.table) for rows in self.contents.merged)

    def _run(self, entry, action, section=""):
        """Do something for an entry (None: for the session); whether it failed, which is a loss then."""
        try:
            with self.connection.cursor() as cursor:
                action(cursor)
        except psycopg2.Error as error:
            what = "The restore stopped at {}.".format(losses.name_of(entry) if entry else "its first lines")
            if entry is None or losses.stops(error):
                raise postgres.database_error(error, what) from error
            self._settle(failed=True)
            if self._acting:
                self._lost(entry, losses.words(str(error)), section, what)
            else:
                self.losses.failed(entry, losses.words(str(error)))
            return True
        return False


_AFTER = (
    "CONSTRAINT",
    "FK CONSTRAINT",
    "CHECK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "STATISTICS",
    "TRIGGER",
    "EVENT TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "MATERIALIZED VIEW DATA",
)


def _section(entry, section):
    """The section that an entry moves the load to; entries that fit anywhere leave it where it is."""
    if section == "pre-data" and entry.kind in (*DATA, "SEQUENCE SET"):
        return "data"
    if entry.kind in _AFTER:
        return "post-data"
    return section


def _split(listed):
    """Split a list of identifiers at the commas that are not inside quotes."""
    return re.findall(r'(?:"(?:[^"]|"")*"|[^,"])+', listed)
