"""Fill the side database: what comes before the data, the data, what comes after.

An object that fails is a loss (`loss_ledger`): the load goes on, so that one run finds them all. Any other error stops
it.

The session is a superuser's. Where all of the dump belongs to one role that can load it, which `load_as` decides, the
session takes that role (SET ROLE, pg_restore --role) for all but what is there already, like the schema public. Else
everything is loaded as the superuser and given to its owners by the dump's own ALTER … OWNER, and a note says why: so
it is loaded again where a definition turns out to ask for what the role may not do (`Denied`). Plain SQL that names no
owners is loaded as the database's owner.

Materialized views are filled after all that; event triggers come last of all, when nothing of ours is left to do in
the database (`make_event_triggers`). What functions call is found as `function_paths` says, rows of extensions' tables
are merged as `extension_rows` says, and CHECKs that may look at other rows wait as `row_checks` says.
"""

import contextlib
import functools
import os
import re
import tempfile

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from ..errors import SauvegardeError, class_of
from ..postgres import client_tools, postgres_server, server_errors, sql_names
from . import (
    check_constraints,
    load_role,
    materialized_views,
)
from .dump import entry_dependencies, loss_ledger, oids
from .dump.entries import ROW_KINDS, TABLE_KINDS, Entry, leading_key, one_line
from .dump.load_errors import ends_load, server_message
from .dump.loss_names import loss_name
from .dump.sql_script import (
    Copy,
    Script,
    Setting,
    Sql,
)
from .dump.toc_list import entries_by_listing, entry_number, entry_of_listing, read_list
from .extension_rows import ExtensionRows
from .function_search_paths import FunctionPaths
from .pg_restore_run import load_entries

# For the load's own sessions: nothing here outlives it. What must be on disk is synced by the last checkpoint.
SESSION = {
    "synchronous_commit": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "event_triggers": "on",
    "row_security": "off",
    "default_transaction_read_only": "off",
    "check_function_bodies": "off",
    "lc_messages": "C",  # whether a privilege was missing is read from an error's words
}


def session(connection):
    """The settings of a loading session on this server. lz4 is several times as fast as pglz where it is built in."""
    known = {name for (name,) in postgres_server.query(connection, "SELECT name FROM pg_catalog.pg_settings")}
    settings = {name: text for name, text in SESSION.items() if name in known}
    methods = postgres_server.value(
        connection, "SELECT enumvals FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'"
    )
    if methods and "lz4" in methods:
        settings["default_toast_compression"] = "lz4"
    return settings


class Denied(SauvegardeError):
    """A definition asks for what the role that loads it may not do; a superuser may. `reason`: the server's words."""

    def __init__(self, error, reason):
        super().__init__(error.what, error.why, error.fix)
        self.exit_code = error.exit_code
        self.reason = reason


def _about_event_trigger(entry):
    """Whether the entry makes an event trigger or says something of one."""
    return entry.kind == "EVENT TRIGGER" or (
        entry.kind in ("COMMENT", "SECURITY LABEL") and entry.name.startswith("EVENT TRIGGER ")
    )


def _in_words(what):
    """Have a method's database errors told as ours, with these words on what stopped."""

    def wrap(method):
        @functools.wraps(method)
        def wrapped(*arguments, **named):
            try:
                return method(*arguments, **named)
            except psycopg2.Error as error:
                raise server_errors.database_error(error, what) from error

        return wrapped

    return wrap


class Target:
    """One side database being filled.

    server: a postgres.Server; name: the database; contents: of the dump; owner: whose everything becomes where the
    dump names no owners; told(**state) hears of each step; because: why the superuser is to load it all, '' where the
    dump decides. `role` is whom the dump is loaded as, '' for the superuser.
    `notes` collects what was left out, or done otherwise than it should be, and why. losses: a loss_ledger.Ledger.
    """

    def __init__(self, server, name, contents, owner="", search_path="", told=None, because="", ledger=None):
        self.server = server
        self.name = name
        self.contents = contents
        self.search_path = search_path
        self.told = told or (lambda **_: None)
        self.notes = []
        self.losses = ledger if ledger is not None else loss_ledger.Ledger((), contents.texts)
        self.connection = postgres_server.connect(server, name)
        self.settings = session(self.connection)
        self._set_up(self.connection)
        self._keeps_oids = self.connection.server_version < 120000
        self._known = {
            name for (name,) in postgres_server.query(self.connection, "SELECT name FROM pg_catalog.pg_settings")
        }
        self._schemas = {
            one_line(name)
            for (name,) in postgres_server.query(
                self.connection, "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname <> 'public'"
            )
        }
        self.absent = self._absent()
        self._acting = ""
        made = [entry.name for entry in contents.entries if entry.kind == "SCHEMA"]
        near = [*contents.extensions.values(), "public"]
        self._paths = FunctionPaths(self.connection, search_path, near, sorted(made))
        self._extension_rows = ExtensionRows(self.connection, contents)
        self._suspended, self._computed = [], set()
        self._late = lambda: None
        self.way = (
            load_role.Way("", because)
            if because
            else load_role.choose(contents, self._schemas, load_role.superusers(self.connection), owner)
        )
        self.role = self.way.role
        self._as_superuser_because(self.way.why)
        self._first = {entry.listed() for entry in self.way.first}
        self._last = {entry.listed() for entry in self.way.last}
        # Rows and values of what the dump does not define are an extension's.
        self._filled = {
            entry.listed(kind)
            for entry in contents.entries
            for kind, of in (("TABLE DATA", TABLE_KINDS), ("SEQUENCE SET", ("SEQUENCE",)))
            if entry.kind in of
        }
        self._dropped = {entry.listed() for entry in contents.entries if self.skips(entry)}
        self._events = {entry.listed() for entry in contents.entries if _about_event_trigger(entry)}

    def close(self):
        self.connection.close()

    def _set_up(self, connection):
        for setting, value in sorted(self.settings.items()):
            postgres_server.execute(connection, sql.SQL("SET {} TO %s").format(sql.SQL(setting)), (value,))

    def _connect(self):
        """One more session with the load's settings."""
        connection = postgres_server.connect(self.server, self.name)
        self._set_up(connection)
        return connection

    def environment(self, **more):
        """The environment of a program that works on the database with the load's settings."""
        options = " ".join("-c {}={}".format(*each) for each in sorted(self.settings.items()))
        return client_tools.environment(self.server, self.name, PGOPTIONS=options, **more)

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
            self._as_superuser_because(load_role.lacks(self.connection, self.way, self.contents))

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
        ).format(sql_names.quote(self.role))
        return class_of(error.exit_code)(error.what, error.why, fix)

    def _lost(self, entry, why, section, what):
        """Record that an entry failed; raise where a superuser's load, or other rights, would have helped."""
        error = SauvegardeError(what, why)
        told = self._failed(error, section)
        if told is not error:
            raise told
        self.losses.record(entry, why)

    def _keep_invalid(self):
        """Accepted constraints that rows violate, made NOT VALID where the server can: they hold for new rows."""
        for entry, text in self.losses.accepted_violated_constraints():
            self._become(self.role or (entry.owner if self.contents.by_session else ""))
            statement = re.sub(r";\s*\Z", " NOT VALID;", text)
            try:
                postgres_server.execute(
                    self.connection, sql.SQL("SET search_path TO {}, pg_catalog").format(sql.Identifier(entry.schema))
                )
                postgres_server.execute(self.connection, statement)
                self.losses.keep(entry, "NOT VALID")
            except psycopg2.Error:
                continue  # a foreign key of a partitioned table, before 18
        self._become("")
        postgres_server.execute(self.connection, "SET search_path TO ''")

    @_in_words("The restore stopped at a change of roles.")
    def _become(self, role):
        """Have what follows on this connection done as the role, or as the superuser where it is ''."""
        if role != self._acting:
            statement = sql.SQL("SET ROLE {}").format(sql.Identifier(role)) if role else "RESET ROLE"
            postgres_server.execute(self.connection, statement)
            self._acting = role

    # What is left out

    def _absent(self):
        """Entries about objects that neither the dump nor the extensions made here define."""
        absent = set()
        defined = self.contents.defined()
        for each in self.contents.privileged_objects:
            entry, kind, schema, name = each.entry, each.kind, each.schema, each.name
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
                self.notes.append("left out: the value of sequence {}.{}, which no longer exists".format(*entry.key))
        return absent

    def _made_by_extension(self, kind, schema, name):
        if kind in ("TABLE", "SEQUENCE"):
            catalog = "pg_catalog.pg_class WHERE relnamespace = n.oid AND relname = %s"
        elif kind in ("TYPE", "DOMAIN"):
            catalog = "pg_catalog.pg_type WHERE typnamespace = n.oid AND typname = %s"
        else:
            catalog = "pg_catalog.pg_proc WHERE pronamespace = n.oid AND proname = %s"
        statement = "SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname = %s AND EXISTS (SELECT 1 FROM {})"
        return bool(postgres_server.value(self.connection, statement.format(catalog), (schema, name)))

    def skips(self, entry):
        return entry is not None and (self.contents.excludes(entry, self._schemas) or entry in self.absent)

    # Between the sections

    @_in_words("The restore stopped before the dump's definitions.")
    def before_definitions(self):
        """As the superuser: functions able to find what they call, and what extensions need to know."""
        self._paths.give()
        self._extension_rows.merge()

    @_in_words("The restore stopped between the dump's definitions and its data.")
    def ready_for_data(self):
        """After the definitions, as the superuser: extensions' rows merged, CHECKs that look elsewhere suspended."""
        # Dumps by older clients set a search_path time and again; what is named here must be found under any.
        found = postgres_server.value(self.connection, "SELECT pg_catalog.current_setting('search_path')")
        postgres_server.execute(self.connection, "SET search_path TO ''")
        if self.role and not self.contents.unowned:
            self._as_superuser_because(load_role.lacks_of_its_own(self.connection, self.role))
        self._extension_rows.merge()
        self._suspended = check_constraints.suspend(self.connection)
        # As the dump's comments have them.
        self._computed = {
            (one_line(schema), one_line(name)) for schema, name in check_constraints.computed(self.connection)
        }
        self._take_settings()
        postgres_server.execute(self.connection, "SELECT pg_catalog.set_config('search_path', %s, false)", (found,))

    def _take_settings(self):
        """Take the database's text search configuration, which the dump may just have made, for this session, too."""
        found = postgres_server.query(
            self.connection,
            "SELECT pg_catalog.substr(s, 28) FROM pg_catalog.pg_db_role_setting r, pg_catalog.unnest(r.setconfig) s"
            " WHERE r.setrole = 0 AND s LIKE 'default_text_search_config=%' AND r.setdatabase ="
            " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        )
        postgres_server.execute(self.connection, f"SET search_path TO {self._paths.own()}")
        for (value,) in found:
            with contextlib.suppress(psycopg2.Error):
                postgres_server.execute(self.connection, "SET default_text_search_config TO %s", (value,))

    @_in_words("The restore stopped after the dump's data.")
    def _after_data(self):
        """As the superuser, under an empty search_path: what had to wait for all rows."""
        found = postgres_server.value(self.connection, "SELECT pg_catalog.current_setting('search_path')")
        postgres_server.execute(self.connection, "SET search_path TO ''")
        for (schema, table), why in self._extension_rows.merge():
            self.losses.record(Entry("TABLE DATA", schema, table, ""), why)
        check_constraints.resume(self.connection, self._suspended)
        self._become(self.role)
        notes = check_constraints.violated(self.connection, self._suspended)
        if self._paths.can_widen and any("does not exist" in each for each in notes):
            self._become("")
            self._paths.widen()
            self._become(self.role)
            notes = check_constraints.violated(self.connection, self._suspended)
        self.notes += notes
        self._become("")
        postgres_server.execute(self.connection, "SELECT pg_catalog.set_config('search_path', %s, false)", (found,))

    @_in_words("The restore stopped while materialized views were filled.")
    def _fill_views(self, entries, jobs):
        """After everything but event triggers: materialized views, `entries` of kind MATERIALIZED VIEW DATA."""
        wanted = {(entry.schema, entry.name): entry for entry in entries}
        for view, error in materialized_views.fill(self._connect, self.connection, list(wanted), self._paths, jobs):
            entry = wanted[one_line(view[0]), one_line(view[1])]
            if ends_load(error):
                what = f"The restore stopped at {loss_name(entry)}."
                raise server_errors.database_error(error, what) from error
            self.losses.record(entry, server_message(str(error)))

    @_in_words("The restore stopped while functions were put back as they were.")
    def release(self):
        """After everything, ANALYZE and the proof included, which look into functions: all functions as they were."""
        self._paths.release()

    def make_event_triggers(self):
        """Last of all, since they hear of every definition and may forbid it."""
        late, self._late = self._late, lambda: None
        late()

    def find_all_losses(self):
        """Where what is lost so far stops the restore, see at once which event triggers are lost, too."""
        if not all(loss.accepted for loss in self.losses.losses()):
            self.make_event_triggers()

    # The two ways in

    def from_archive(self, source, tool, jobs):
        """Load an archive with the target's own pg_restore, `jobs` tables and indexes at a time."""
        base = [tool.path, "-d", client_tools.conninfo(self.name)]
        if not self._has_tablespaces():
            base.append("--no-tablespaces")
        # A tar archive cannot be read in parallel.
        parallel = ["-j", str(jobs)] if source.form != "tar" else []
        first, own, last, late, views = [], [], [], [], []
        known = entries_by_listing(self.contents)
        entries, order = {}, {}
        for listed in read_list(source, tool, self.contents.encoding):
            line, names, number = listed.line, listed.listed, listed.number
            entries[number] = known.get(names) or entry_of_listing(names)
            order[number] = len(order)
            if names in self._events:
                late.append(line)
            elif names.startswith("MATERIALIZED VIEW DATA "):
                views.append(entries[number])
            elif not self._skips_line(names):
                others = last if names in self._last else first
                (others if self.way.role and self._is_superusers(names) else own).append((line, names))

        def attempt(lines, what, parallel, more):
            with tempfile.TemporaryDirectory() as folder:
                return load_entries([*base, *more], parallel, lines, source.path, folder, self.environment(), what)

        def load(lines, what, *more, section=""):
            words = attempt(lines, what, parallel if section in ("data", "post-data") else [], more)
            for helps, paths in self._other_paths():
                if any(helps(why) for why in words.values()):
                    failed = [line for line in lines if entry_number(line) in words]
                    with paths():
                        words = attempt(failed, what, [], more)
            for number, why in sorted(words.items(), key=lambda each: order[each[0]]):
                if section:
                    self._lost(entries[number], why, section, what)
                else:
                    self.losses.record(entries[number], why)

        self.before_definitions()
        # Without a section: privileges have none, and count to the one of whatever comes before them in the list.
        if first:
            load([line for line, _ in first], "The restore stopped at what is there before the dump.")
        self._decide()
        for section in ("pre-data", "data", "post-data"):
            self.told(step=section)
            if section == "data":
                self.ready_for_data()
            # pg_restore says it to the server as it is, in the dump's encoding.
            named = os.fsdecode(self.role.encode(self.contents.encoding, "surrogateescape"))
            role = ["--role", named] if self.role else []
            what = f"The restore stopped in the section {section}."
            computed = self._of_computed() if section == "data" else set()
            for lines in (
                [line for line, names in own if names not in computed],
                [line for line, names in own if names in computed],
            ):
                if lines:
                    load(lines, what, *role, "--section", section, section=section)
            if section == "data":
                self._after_data()
        if last:
            load([line for line, _ in last], "The restore stopped at the default privileges of other roles.")
        if self.losses:
            self.losses.add_dependencies(entry_dependencies.dependencies(source, tool, self.contents.encoding))
            self._keep_invalid()
        self._fill_views(views, jobs)
        if late:
            self._late = lambda: load(late, "The restore stopped at the event triggers.")

    def _of_computed(self):
        """The rows, as pg_restore's list names them, that are loaded after all others."""
        return {
            entry.listed("TABLE DATA")
            for entry in self.contents.entries
            if entry.kind == "TABLE" and (entry.schema, entry.name) in self._computed
        }

    def _skips_line(self, names):
        if names.startswith(("EXTENSION - ", "COMMENT - EXTENSION ")):
            return True
        # Rows of an extension's own tables are merged.
        return names in self._dropped or (names.startswith("TABLE DATA ") and names not in self._filled)

    def _has_tablespaces(self):
        missing = load_role.missing_tablespaces(self.connection, self.contents)
        if missing:
            self.notes.append(
                "tablespaces that this server lacks, their tables are in its default: " + ", ".join(sorted(missing))
            )
        return not missing

    def from_script(self, stream, deferred, jobs=1):
        """Load plain SQL, piece by piece; `jobs` materialized views at a time. The stream is `source.script`'s;
        deferred: DeferredRows, for the rows that are loaded after all others."""
        script = Script(stream)
        tablespaces = self._has_tablespaces()
        decided = started = lost = False
        section = "pre-data"
        late = []
        self.told(step=section)
        self.before_definitions()
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
                    if not started:
                        started = True
                        self._between()
                    if moved == "post-data":
                        self._end_data(deferred)
                    section = moved
                    self.told(step=section)
                self._become(self._loads(piece))
            elif isinstance(piece, Setting):
                self._set(piece, tablespaces)
            elif isinstance(piece, Sql):
                if piece.entry is not None and _about_event_trigger(piece.entry):
                    late.append(piece)
                elif not lost and not self._skips_sql(piece):
                    text = piece.text
                    if piece.entry is not None and piece.entry.kind == "TABLE" and not self._keeps_oids:
                        text = oids.definition(text)
                    if piece.entry is not None and piece.entry.kind == "TABLE DATA":
                        if piece.entry.key in self._computed:
                            deferred.add(piece)
                            continue
                        self._begin()
                    lost = self._run(piece.entry, lambda cursor, text=text: cursor.execute(text), section)
            elif isinstance(piece, Copy) and not self._is_merged(piece):
                if self._filled_by(piece) in self._computed:
                    deferred.add(piece)
                else:
                    self._run(
                        piece.entry,
                        lambda cursor, piece=piece: self._copy(cursor, piece.statement, piece.rows),
                        section,
                        again=False,
                    )
        self._settle()
        if section != "post-data":
            if not started:
                self._between()
            self._end_data(deferred)
        self._become("")
        self._keep_invalid()
        postgres_server.execute(self.connection, "SET search_path TO ''")
        views = [entry for entry in self.contents.entries if entry.kind == "MATERIALIZED VIEW DATA"]
        self._fill_views(views, jobs)
        self._late = lambda: [
            self._run(piece.entry, lambda cursor, text=piece.text: cursor.execute(text), section) for piece in late
        ]

    def _loads(self, entry):
        """The role that loads the entry, '' for the superuser."""
        role = self.role or (entry.owner if self.contents.by_session else "")
        return "" if self._is_superusers(entry.listed()) else role

    def _end_data(self, deferred):
        """Load the rows that waited for all others, then do what waits for all rows."""
        for table in deferred.tables:
            self._become(self._loads(table.entry) if table.entry is not None else self.role)
            self._run(table.entry, lambda cursor, table=table: self._load_table(cursor, table.pieces()), "data")
        deferred.close()
        self._become("")
        self._after_data()

    def _load_table(self, cursor, pieces):
        """Load the rows of one table: all of them come in, or none."""
        cursor.execute("BEGIN")
        for statement, rows in pieces:
            if rows is not None:
                self._copy(cursor, statement, rows)
            else:
                cursor.execute(statement)
        cursor.execute("COMMIT")

    def _copy(self, cursor, statement, rows):
        statement = statement.rstrip().rstrip(b";")
        if not self._keeps_oids:
            statement, rows = oids.copy(statement, rows)
        cursor.copy_expert(statement, rows, 1 << 20)

    def _in_transaction(self):
        return self.connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE

    def _begin(self):
        """Begin the transaction around the rows of a table that came as INSERTs: all of them come in, or none."""
        if not self._in_transaction():
            postgres_server.execute(self.connection, "BEGIN")

    @_in_words("The restore stopped at the end of a table's rows.")
    def _settle(self, failed=False):
        if self._in_transaction():
            postgres_server.execute(self.connection, "ROLLBACK" if failed else "COMMIT")

    def _between(self):
        self._become("")
        # An index is built as the table's owner, who needs USAGE on the schema of what the index calls.
        self._grant({entry for entry, _ in self.contents.schema_grants})
        self.ready_for_data()

    @_in_words("The restore stopped at the grants on schemas.")
    def _grant(self, entries):
        """Run those of the entries that are grants on schemas, which a plain dump has at its end only."""
        for entry, text in self.contents.schema_grants:
            if entry in entries:
                postgres_server.execute(self.connection, text)

    def _skips_sql(self, piece):
        if piece.entry is not None:
            return piece.entry.kind == "MATERIALIZED VIEW DATA" or self.skips(piece.entry)
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

    def _filled_by(self, piece):
        """(schema, name) of the table that a Copy fills, as entries have them."""
        statement = piece.statement.decode(self.contents.encoding, "surrogateescape")
        return leading_key(statement[len("COPY ") :], piece.entry)

    def _is_merged(self, piece):
        target = self._filled_by(piece)
        return any(target == (rows.schema, rows.table) for rows in self.contents.merged)

    def _run(self, entry, action, section="", again=True):
        """Do something for an entry (None: for the session); whether it failed, which is a loss then.

        again: whether it can be done a second time, which it cannot where it has read what is gone.
        """
        again = again and not self._in_transaction()
        try:
            with self.connection.cursor() as cursor:
                action(cursor)
        except psycopg2.Error as error:
            if again and not ends_load(error):
                self._settle(failed=True)
                if self._run_with_other_paths(action, str(error)):
                    return False
            what = "The restore stopped at {}.".format(loss_name(entry) if entry else "its first lines")
            if entry is None or ends_load(error):
                raise server_errors.database_error(error, what) from error
            self._settle(failed=True)
            if self._acting:
                self._lost(entry, server_message(str(error)), section, what)
            else:
                self.losses.record(entry, server_message(str(error)))
            return True
        return False

    def _other_paths(self):
        """(whether it helps where something failed with these words, the functions' other paths for a block)."""
        found = [(_is_not_inlined, self._paths.withheld)]
        if self._paths.can_widen:
            found.append((_is_not_found, self._paths.widened))
        return found

    def _run_with_other_paths(self, action, why):
        """Do something that failed once more, with other paths of functions; whether it succeeded."""
        return any(helps(why) and self._run_within(paths(), action) for helps, paths in self._other_paths())

    @_in_words("The restore stopped while functions got another search_path.")
    def _run_within(self, paths, action):
        role = self._acting
        self._become("")
        with paths:
            self._become(role)
            try:
                with self.connection.cursor() as cursor:
                    action(cursor)
                done = True
            except psycopg2.Error:
                self._settle(failed=True)
                done = False
            self._become("")
        self._become(role)
        return done


def _is_not_inlined(why):
    """Whether an index needs a function inlined, by the server's words."""
    return "must be marked IMMUTABLE" in why


def _is_not_found(why):
    """Whether a function lacks something that it names, by the server's words."""
    return bool(_NOT_FOUND.search(why))


_NOT_FOUND = re.compile(r"does not exist.*^CONTEXT: .*function", re.DOTALL | re.MULTILINE)
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
    if section == "pre-data" and entry.kind in (*ROW_KINDS, "SEQUENCE SET"):
        return "data"
    if entry.kind in _AFTER:
        return "post-data"
    return section
