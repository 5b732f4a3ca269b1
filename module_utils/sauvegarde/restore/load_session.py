"""Load a dump into a side database in one session: choose its role, and do what comes between the sections.

An object that fails is a loss (`loss_ledger`): the load continues, so that one run finds them all. Any other error
stops it.

The session belongs to a superuser. If all of the dump belongs to one role that can load it (`load_role`), the session
takes that role (SET ROLE, pg_restore --role) for everything except what exists already, like the schema public.
Otherwise the superuser loads everything, the dump's ALTER … OWNER sets the owners, and a note gives the reason. A load
by the role starts again as the superuser if a definition needs a right that the role lacks (`Denied`). Plain SQL that
names no owners is loaded as the database's owner.

`archive_load` and `script_load` load the two forms of a dump. Materialized views are filled after that; event triggers
come last of all, when nothing remains to be done in the database (`create_event_triggers`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from ..errors import SauvegardeError
from ..postgres import client_tools, postgres_server, server_errors, sql_names
from . import check_constraints, load_role, materialized_views
from .dump.contents import Contents
from .dump.entries import TABLE_KINDS, Entry, one_line
from .dump.load_errors import ends_load, explained, server_message
from .dump.loss_ledger import Ledger
from .dump.loss_names import loss_name
from .extension_rows import ExtensionRows
from .function_search_paths import FunctionPaths
from .load_settings import load_settings
from .orphaned_entries import orphaned_entries

_DENIED = re.compile(r"(?:permission denied|must be (?:owner|superuser|able|(?:a )?member)).*")
_NOT_INLINED = "must be marked IMMUTABLE"
_NOT_FOUND = re.compile(r"does not exist.*^CONTEXT: .*function", re.DOTALL | re.MULTILINE)

# (whether it helps against a failure with this message, the block in which it applies)
_OtherPaths = tuple[Callable[[str], bool], Callable[[], contextlib.AbstractContextManager[None]]]


class Denied(SauvegardeError):
    """The role that loads the dump may not do what a definition needs; a superuser may. reason: the server's words."""

    def __init__(self, what: str, why: str, reason: str) -> None:
        super().__init__(what, why)
        self.reason = reason


def is_about_event_trigger(entry: Entry) -> bool:
    """Return whether the entry creates an event trigger or says something of one."""
    return entry.kind == "EVENT TRIGGER" or (
        entry.kind in ("COMMENT", "SECURITY LABEL") and entry.name.startswith("EVENT TRIGGER ")
    )


class LoadSession:
    """One side database while it is filled.

    server, name: of the side database. owner: the role to own everything if the dump names no owners. search_path: of
    the database, as the server stores it. report: called with the state of the load (`step`). superuser_because: why
    the superuser is to load everything, '' to let the dump decide.

    role: the role that loads the dump, '' for the superuser. notes: sentences on what was left out, or done in another
    way than it should be. computed: keys of tables that are loaded after all others, known when the data begins.
    """

    def __init__(
        self,
        server: postgres_server.Server,
        name: str,
        contents: Contents,
        ledger: Ledger,
        owner: str = "",
        search_path: str = "",
        report: Callable[..., object] = lambda **_: None,
        superuser_because: str = "",
    ) -> None:
        self.server, self.name = server, name
        self.contents, self.ledger, self.report = contents, ledger, report
        self.notes: list[str] = []
        self.computed: set[tuple[str, str]] = set()
        self.connection = postgres_server.connect(server, name)
        self.settings = load_settings(self.connection)
        self._apply_settings(self.connection)
        self.keeps_oids = self.connection.server_version < 120000
        self.acting = ""
        self._suspended: list[check_constraints.Check] = []
        self._event_triggers: Callable[[], object] = lambda: None
        self._schemas = {one_line(schema) for schema in self._existing_schemas()}
        self._orphans = orphaned_entries(self.connection, contents)
        self.notes += self._orphans.values()
        schemas = sorted(entry.name for entry in contents.entries if entry.kind == "SCHEMA")
        self.paths = FunctionPaths(self.connection, search_path, [*contents.extensions.values(), "public"], schemas)
        self._extension_rows = ExtensionRows(self.connection, contents.merged)
        if superuser_because:
            self.choice = load_role.RoleChoice("", superuser_because)
        else:
            self.choice = load_role.choose(contents, self._schemas, load_role.superusers(self.connection), owner)
        self.role = self.choice.role
        self._use_superuser(self.choice.why)
        self._of_superuser = {entry.listed() for entry in (*self.choice.first, *self.choice.last)}
        # Rows and values of what the dump does not define belong to an extension.
        self.own_data = {
            entry.listed(kind)
            for entry in contents.entries
            for kind, kinds in (("TABLE DATA", TABLE_KINDS), ("SEQUENCE SET", ("SEQUENCE",)))
            if entry.kind in kinds
        }

    def close(self) -> None:
        self.connection.close()

    def _existing_schemas(self) -> Iterable[str]:
        statement = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname <> 'public'"
        return [schema for (schema,) in postgres_server.query(self.connection, statement)]

    def _apply_settings(self, connection: Connection) -> None:
        for setting, value in sorted(self.settings.items()):
            postgres_server.execute(connection, sql.SQL("SET {} TO %s").format(sql.SQL(setting)), (value,))

    def connect(self) -> Connection:
        """Return one more connection with the settings of the load."""
        connection = postgres_server.connect(self.server, self.name)
        self._apply_settings(connection)
        return connection

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a program that works on the database with the settings of the load."""
        options = " ".join(f"-c {name}={value}" for name, value in sorted(self.settings.items()))
        return client_tools.environment(self.server, self.name, PGOPTIONS=options, **more)

    # Roles

    def _use_superuser(self, why: str) -> None:
        """Let the superuser load what follows, if there is a reason."""
        if why:
            self.role = ""
            self.notes.append("not loaded as its owner but as the superuser: " + why)

    def is_of_superuser(self, listed: str) -> bool:
        """Return whether the superuser loads an entry in any case. listed: how pg_restore's list names it."""
        if listed in self._of_superuser:
            return True
        return listed.startswith(("TABLE DATA ", "SEQUENCE SET ")) and listed not in self.own_data

    def check_role(self) -> None:
        """Decide whether the role may load the dump's definitions, after everything that exists before them."""
        if self.role and not self.contents.unowned:
            self._use_superuser(load_role.why_not(self.connection, self.choice, self.contents))

    @explained("The restore stopped at a change of roles.")
    def become(self, role: str) -> None:
        """Let the role, or the superuser if it is '', do what follows on this connection."""
        if role != self.acting:
            statement = sql.SQL("SET ROLE {}").format(sql.Identifier(role)) if role else "RESET ROLE"
            postgres_server.execute(self.connection, statement)
            self.acting = role

    def record_failure(self, entry: Entry, why: str, section: str, what: str) -> None:
        """Record an entry that failed as a loss; raise if other privileges would have helped.

        what: what happened, for an error. The rows of a table run the dump's own code, in CHECKs: they are never loaded
        again as a superuser.
        """
        denied = _DENIED.search(why)
        if self.role and denied:
            if section != "data" and not self.contents.unowned:
                raise Denied(what, why, denied.group())
            role = sql_names.quote(self.role)
            raise SauvegardeError(
                what,
                why,
                "The dump is loaded as its owner. If only a superuser can do what it does, make the owner one during"
                f" the restore: ALTER ROLE {role} SUPERUSER, then ALTER ROLE {role} NOSUPERUSER.",
            )
        self.ledger.record(entry, why)

    def excludes(self, entry: Entry) -> bool:
        """Return whether the entry is not loaded (see `contents`)."""
        return self.contents.excludes(entry, self._schemas) or entry in self._orphans

    def has_tablespaces(self) -> bool:
        """Return whether the server has all tablespaces of the dump; note those that it lacks."""
        missing = load_role.missing_tablespaces(self.connection, self.contents)
        if missing:
            self.notes.append(
                "tablespaces that this server lacks, their tables are in its default: " + ", ".join(sorted(missing))
            )
        return not missing

    def other_paths(self) -> list[_OtherPaths]:
        """Return the other search_paths of functions under which an entry that failed can be tried again.

        Each has a function that says, by the server's message, whether they may help, and one that applies them.
        """
        paths: list[_OtherPaths] = [(lambda why: _NOT_INLINED in why, self.paths.withheld)]
        if self.paths.can_widen:
            paths.append((lambda why: bool(_NOT_FOUND.search(why)), self.paths.widened))
        return paths

    # Between the sections

    @explained("The restore stopped before the dump's definitions.")
    def prepare_for_definitions(self) -> None:
        """As the superuser: give functions their search_path, and extensions the rows that definitions may need."""
        self.paths.give()
        self._extension_rows.merge()

    @contextlib.contextmanager
    def _empty_search_path(self) -> Iterator[None]:
        """Use an empty search_path in the block; dumps by older clients keep setting others."""
        search_path = postgres_server.value(self.connection, "SELECT pg_catalog.current_setting('search_path')")
        postgres_server.execute(self.connection, "SET search_path TO ''")
        yield
        statement = "SELECT pg_catalog.set_config('search_path', %s, false)"
        postgres_server.execute(self.connection, statement, (search_path,))

    @explained("The restore stopped between the dump's definitions and its data.")
    def prepare_for_data(self) -> None:
        """As the superuser, after the definitions: merge extensions' rows, suspend CHECKs that read other rows."""
        with self._empty_search_path():
            if self.role and not self.contents.unowned:
                self._use_superuser(load_role.why_not_own_objects(self.connection, self.role))
            self._extension_rows.merge()
            self._suspended = check_constraints.suspend(self.connection)
            tables = check_constraints.computed_tables(self.connection)
            self.computed = {(one_line(schema), one_line(name)) for schema, name in tables}
            self._take_text_search_configuration()

    def _take_text_search_configuration(self) -> None:
        """Use the database's text search configuration in this session, too; the dump may just have created it."""
        configurations = postgres_server.query(
            self.connection,
            "SELECT pg_catalog.substr(s, 28) FROM pg_catalog.pg_db_role_setting r, pg_catalog.unnest(r.setconfig) s"
            " WHERE r.setrole = 0 AND s LIKE 'default_text_search_config=%' AND r.setdatabase ="
            " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        )
        postgres_server.execute(self.connection, f"SET search_path TO {self.paths.own()}")
        for (name,) in configurations:
            with contextlib.suppress(psycopg2.Error):
                postgres_server.execute(self.connection, "SET default_text_search_config TO %s", (name,))

    @explained("The restore stopped after the dump's data.")
    def finish_data(self) -> None:
        """As the superuser: do what had to wait for all rows."""
        with self._empty_search_path():
            for (schema, table), why in self._extension_rows.merge():
                self.ledger.record(Entry("TABLE DATA", schema, table), why)
            check_constraints.resume(self.connection, self._suspended)
            self.become(self.role)
            notes = check_constraints.violations(self.connection, self._suspended)
            if self.paths.can_widen and any("does not exist" in note for note in notes):
                self.become("")
                self.paths.widen()
                self.become(self.role)
                notes = check_constraints.violations(self.connection, self._suspended)
            self.notes += notes
            self.become("")

    def keep_violated_constraints(self) -> None:
        """Add accepted constraints that rows violate as NOT VALID, if the server can: they hold for new rows."""
        for entry, text in self.ledger.accepted_violated_constraints():
            self.become(self.role or (entry.owner if self.contents.by_session else ""))
            statement = re.sub(r";\s*\Z", " NOT VALID;", text)
            try:
                postgres_server.execute(
                    self.connection, sql.SQL("SET search_path TO {}, pg_catalog").format(sql.Identifier(entry.schema))
                )
                postgres_server.execute(self.connection, statement)
                self.ledger.keep(entry, "NOT VALID")
            except psycopg2.Error:
                continue  # a foreign key of a partitioned table, before 18
        self.become("")
        postgres_server.execute(self.connection, "SET search_path TO ''")

    @explained("The restore stopped while materialized views were filled.")
    def fill_views(self, entries: Iterable[Entry], jobs: int) -> None:
        """Fill materialized views, `jobs` at a time. entries: of the kind MATERIALIZED VIEW DATA."""
        views = {entry.key: entry for entry in entries}
        for key, error in materialized_views.fill(self.connect, self.connection, list(views), self.paths, jobs):
            entry = views[one_line(key[0]), one_line(key[1])]
            if ends_load(error):
                raise server_errors.database_error(error, f"The restore stopped at {loss_name(entry)}.") from error
            self.ledger.record(entry, server_message(str(error)))

    @explained("The restore stopped while functions were put back as they were.")
    def release_functions(self) -> None:
        """Put all functions back as they were; after ANALYZE and the proof, which run functions."""
        self.paths.release()

    # Event triggers

    def defer_event_triggers(self, create: Callable[[], object]) -> None:
        """Take the action that creates the event triggers."""
        self._event_triggers = create

    def create_event_triggers(self) -> None:
        """Create the event triggers, last of all, since they run at every definition and may forbid it."""
        create, self._event_triggers = self._event_triggers, lambda: None
        create()

    def find_all_losses(self) -> None:
        """If the losses so far stop the restore, create the event triggers now, so that their losses are known, too."""
        if not all(loss.accepted for loss in self.ledger.losses()):
            self.create_event_triggers()
