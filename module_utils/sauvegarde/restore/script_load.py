"""Load plain SQL through the session, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import IO, cast

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import cursor as Cursor

from ..postgres import postgres_server, server_errors
from .deferred_rows import DeferredRows
from .dump import oids
from .dump.byte_stream import CHUNK, Readable
from .dump.entries import ROW_KINDS, Entry, leading_key
from .dump.load_errors import ends_load, explained, server_message
from .dump.loss_names import loss_name
from .dump.sql_script import Copy, Script, Setting, Sql
from .load_session import LoadSession, is_about_event_trigger

# Kinds of entries that come after all rows.
_POST_DATA_KINDS = (
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


def load_script(session: LoadSession, stream: Readable, deferred: DeferredRows, jobs: int = 1) -> None:
    """Load the plain SQL of the stream, then fill its materialized views, `jobs` at a time.

    deferred: takes the rows that are loaded after all others. Event triggers wait for `session.create_event_triggers`.
    """
    _ScriptLoad(session, deferred).run(Script(stream), jobs)


class _ScriptLoad:
    def __init__(self, session: LoadSession, deferred: DeferredRows) -> None:
        self._session, self._deferred = session, deferred
        self._connection = session.connection
        self._tablespaces = session.has_tablespaces()
        names = postgres_server.query(self._connection, "SELECT name FROM pg_catalog.pg_settings")
        self._server_settings = {name for (name,) in names}
        self._merged = {(rows.schema, rows.table) for rows in session.contents.merged}
        self._section = "pre-data"
        self._began = self._data_began = False
        self._failed = False  # the entry at hand, whose further pieces are left out then
        self._event_triggers: list[Sql] = []

    def run(self, script: Script, jobs: int) -> None:
        session = self._session
        session.report(step=self._section)
        session.prepare_for_definitions()
        for piece in script:
            if isinstance(piece, Entry):
                self._begin_entry(piece)
            elif isinstance(piece, Setting):
                self._set(piece)
            elif isinstance(piece, Sql):
                self._sql(piece)
            elif isinstance(piece, Copy):
                self._copy(piece)
        self._end_rows()
        if self._section != "post-data":
            self._begin_data()
            self._end_data()
        session.become("")
        session.keep_violated_constraints()
        postgres_server.execute(self._connection, "SET search_path TO ''")
        session.fill_views(
            [entry for entry in session.contents.entries if entry.kind == "MATERIALIZED VIEW DATA"], jobs
        )
        session.defer_event_triggers(self._create_event_triggers)

    def _begin_entry(self, entry: Entry) -> None:
        self._end_rows()
        self._failed = False
        if not self._began:
            self._began = True
            self._grant(self._session.choice.first)
            self._session.check_role()
        section = _section_of(entry, self._section)
        if section != self._section:
            self._begin_data()
            if section == "post-data":
                self._end_data()
            self._section = section
            self._session.report(step=section)
        self._session.become(self._role_of(entry))

    def _role_of(self, entry: Entry) -> str:
        """Return the role that loads the entry, '' for the superuser."""
        role = self._session.role or (entry.owner if self._session.contents.by_session else "")
        return "" if self._session.is_of_superuser(entry.listed()) else role

    def _begin_data(self) -> None:
        """Do once, after the definitions, what the data needs."""
        if self._data_began:
            return
        self._data_began = True
        self._session.become("")
        # An index is built as the table's owner, which needs USAGE on the schema of what the index calls.
        self._grant({entry for entry, _ in self._session.contents.schema_grants})
        self._session.prepare_for_data()

    def _end_data(self) -> None:
        """Load the rows that waited for all others, then do what waits for all rows."""
        for table in self._deferred.tables:
            self._session.become(self._role_of(table.entry) if table.entry is not None else self._session.role)
            self._run(table.entry, partial(self._load_table, pieces=table.pieces), "data")
        self._deferred.close()
        self._session.become("")
        self._session.finish_data()

    @explained("The restore stopped at the grants on schemas.")
    def _grant(self, entries: Collection[Entry]) -> None:
        """Run those of the entries that are grants on schemas, which a plain dump has only at its end."""
        for entry, text in self._session.contents.schema_grants:
            if entry in entries:
                with self._connection.cursor() as cursor:
                    _execute(cursor, text)

    def _set(self, piece: Setting) -> None:
        if piece.name not in self._server_settings or (piece.name == "default_tablespace" and not self._tablespaces):
            return
        if piece.name == "client_encoding":
            # The driver has to know it too: it encodes what is not bytes.
            self._connection.set_client_encoding(piece.text.split(b"'")[1].decode("ascii"))
        elif piece.name not in self._session.settings:
            self._run(None, partial(_execute, text=piece.text))

    def _sql(self, piece: Sql) -> None:
        entry, text = piece.entry, piece.text
        if entry is None:
            # Before the first entry there are only the session's settings, and what --clean wants dropped.
            if text.startswith(b"SELECT pg_catalog.set_config("):
                self._run(None, partial(_execute, text=text), self._section)
            return
        if is_about_event_trigger(entry):
            self._event_triggers.append(piece)
            return
        if self._failed or entry.kind == "MATERIALIZED VIEW DATA" or self._session.excludes(entry):
            return
        if entry.kind == "TABLE" and not self._session.keeps_oids:
            text = oids.definition(text)
        if entry.kind == "TABLE DATA":
            if entry.key in self._session.computed:
                self._deferred.add(piece)
                return
            self._begin_rows()
        self._failed = self._run(entry, partial(_execute, text=text), self._section)

    def _copy(self, piece: Copy) -> None:
        statement = piece.statement.decode(self._session.contents.encoding, "surrogateescape")
        table = leading_key(statement[len("COPY ") :], piece.entry)
        if table in self._merged:
            return
        if table in self._session.computed:
            self._deferred.add(piece)
        else:
            copy = partial(self._copy_rows, statement=piece.statement, rows=piece.rows)
            self._run(piece.entry, copy, self._section, repeatable=False)

    def _copy_rows(self, cursor: Cursor, statement: bytes, rows: Readable) -> None:
        statement = statement.rstrip().rstrip(b";")
        if not self._session.keeps_oids:
            statement, rows = oids.copy(statement, rows)
        cursor.copy_expert(statement, cast("IO[bytes]", rows), CHUNK)  # it only calls `read`

    def _load_table(self, cursor: Cursor, pieces: Callable[[], Iterable[tuple[bytes, Readable | None]]]) -> None:
        """Load the rows of one table: all of them, or none."""
        cursor.execute("BEGIN")
        for statement, rows in pieces():
            if rows is not None:
                self._copy_rows(cursor, statement, rows)
            else:
                cursor.execute(statement)
        cursor.execute("COMMIT")

    def _create_event_triggers(self) -> None:
        for piece in self._event_triggers:
            self._run(piece.entry, partial(_execute, text=piece.text), self._section)

    # Transactions

    def _in_transaction(self) -> bool:
        return self._connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE

    def _begin_rows(self) -> None:
        """Begin the transaction around the rows of a table that came as INSERTs: all of them are loaded, or none."""
        if not self._in_transaction():
            postgres_server.execute(self._connection, "BEGIN")

    @explained("The restore stopped at the end of a table's rows.")
    def _end_rows(self, failed: bool = False) -> None:
        if self._in_transaction():
            postgres_server.execute(self._connection, "ROLLBACK" if failed else "COMMIT")

    def _run(
        self, entry: Entry | None, action: Callable[[Cursor], None], section: str = "", repeatable: bool = True
    ) -> bool:
        """Do something for an entry (None: for the session). Return whether it failed, which is a loss then.

        repeatable: whether it can be done a second time, which it cannot if it reads a stream.
        """
        repeatable = repeatable and not self._in_transaction()
        try:
            with self._connection.cursor() as cursor:
                action(cursor)
        except psycopg2.Error as error:
            what = f"The restore stopped at {loss_name(entry) if entry else 'its first lines'}."
            if ends_load(error):
                raise server_errors.database_error(error, what) from error
            if repeatable:
                self._end_rows(failed=True)
                if self._run_with_other_paths(action, str(error)):
                    return False
            if entry is None:
                raise server_errors.database_error(error, what) from error
            self._end_rows(failed=True)
            if self._session.acting:
                self._session.record_failure(entry, server_message(str(error)), section, what)
            else:
                self._session.ledger.record(entry, server_message(str(error)))
            return True
        return False

    def _run_with_other_paths(self, action: Callable[[Cursor], None], message: str) -> bool:
        """Do something that failed once more, with other search_paths of functions; return whether it succeeded."""
        return any(helps(message) and self._run_within(paths(), action) for helps, paths in self._session.other_paths())

    @explained("The restore stopped while functions got another search_path.")
    def _run_within(self, paths: AbstractContextManager[None], action: Callable[[Cursor], None]) -> bool:
        role = self._session.acting
        self._session.become("")
        with paths:
            self._session.become(role)
            try:
                with self._connection.cursor() as cursor:
                    action(cursor)
                succeeded = True
            except psycopg2.Error:
                self._end_rows(failed=True)
                succeeded = False
            self._session.become("")
        self._session.become(role)
        return succeeded


def _execute(cursor: Cursor, text: bytes) -> None:
    cursor.execute(text)


def _section_of(entry: Entry, section: str) -> str:
    """Return the section that the load is in after this entry; entries that fit anywhere do not change it."""
    if section == "pre-data" and entry.kind in (*ROW_KINDS, "SEQUENCE SET"):
        return "data"
    if entry.kind in _POST_DATA_KINDS:
        return "post-data"
    return section
