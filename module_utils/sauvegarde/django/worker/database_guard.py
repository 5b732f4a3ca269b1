"""Assert on every connection of the site that it leads to the database which the task names.

The name is put into the settings as soon as they are loaded, before any application uses them. Each connection that the
site or the engine opens is then compared with the request, before its first statement and again after the site's own
listeners: `current_database()`, the server's system identifier where it may be read, and the real path of an SQLite
file. A difference ends the process with an error that no code of the site can catch.

While a task works on a side database or on an opened archive (`name`), the site's other databases can only be read,
what its start-up writes is rolled back, and its threads get no connection.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ...errors import SauvegardeError

if TYPE_CHECKING:
    from ..worker_request import WorkerRequest
    from .django_types import Connection

LOCK_SECONDS = 60  # the longest wait for a lock, unless the caller names another one
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_WATCHED = ("ENGINE", "NAME", "HOST", "PORT")
_READ_ONLY = "-c default_transaction_read_only=on"
_IDENTITY = """
SELECT pg_catalog.current_database(), pg_catalog.pg_is_in_recovery(),
       pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_control_system()')::oid, 'EXECUTE')
"""
_SYSTEM = "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()"


@dataclass(frozen=True)
class DatabaseIdentity:
    """Where a connection leads."""

    database: str  # the name on the server, or the file's real path ('' in memory)
    system: str = ""  # the server's system identifier, '' where it cannot be read
    standby: bool = False
    attached: tuple[str, ...] = ()  # further SQLite files


class Guard:
    """The guard of one task. `refuse`: sends the error of a connection that leads elsewhere, and ends the process."""

    def __init__(self, request: WorkerRequest, refuse: Callable[[SauvegardeError], None]) -> None:
        self.alias, self.name, self.system = request.database, request.name, request.system
        self.writes = request.task in ("load", "migrate")
        self.starting = True
        self._task, self._refuse = request.task, refuse
        self._expected: dict[str, dict[str, str]] = {}
        self._first: DatabaseIdentity | None = None  # of the first connection
        self._thread = threading.get_ident()
        self._old_threads: frozenset[int | None] = frozenset()

    # --- before the site starts ---------------------------------------------------------------------------------------

    def settings(self, settings: Any) -> None:
        """Put the name into the settings. Called once they are loaded, before anything uses them."""
        databases = settings.DATABASES
        if self.alias not in databases:
            raise SauvegardeError(
                f"The site's settings have no database {self.alias!r}.",
                "DATABASES has: {}.".format(", ".join(sorted(databases)) or "none"),
                "Correct “database” in the site's description.",
            )
        for values in databases.values():
            if values.get("OPTIONS"):
                # A pool opens connections of its own, in threads of its own.
                values["OPTIONS"] = {key: one for key, one in values["OPTIONS"].items() if key != "pool"}
        target = databases[self.alias]
        if _is_file(target):
            # A start-up may change the working directory.
            target["NAME"] = _typed_as(target["NAME"], Path.cwd() / str(target["NAME"]))
        same = [alias for alias, values in databases.items() if alias == self.alias or _is_same(values, target)]
        for alias in same if self.name else ():
            databases[alias]["NAME"] = _typed_as(databases[alias].get("NAME"), self.name)
            if databases[alias].get("OPTIONS"):
                databases[alias]["OPTIONS"].pop("dbname", None)  # it takes precedence
        for alias in same if self.name else [self.alias]:
            self._expected[alias] = _watched(databases[alias])

    def patch_connections(self, module: Any) -> None:
        """Guard every connection of Django. `module`: django.db.backends.base.base."""
        guard, connect = self, module.BaseDatabaseWrapper.connect

        def guarded(wrapper: Connection) -> None:
            guard.before(wrapper)
            connect(wrapper)
            guard.after(wrapper)

        module.BaseDatabaseWrapper.connect = guarded

    def patch_signals(self, module: Any) -> None:
        """Check before any listener of the site runs. `module`: django.db.backends.signals."""
        module.connection_created.connect(self._created, weak=False, dispatch_uid="sauvegarde")

    def _created(self, connection: Connection, **_: Any) -> None:
        self.check(connection)

    def route(self) -> None:
        """Route what the site's routers would send elsewhere to the named database, if that has the tables, too."""
        from django.db import router

        def routed(choose: Callable[..., Any]) -> Callable[..., Any]:
            def chosen(model: Any, **hints: Any) -> Any:
                return self.alias if router.allow_migrate_model(self.alias, model) else choose(model, **hints)

            return chosen

        if self.name:
            router.db_for_read, router.db_for_write = routed(router.db_for_read), routed(router.db_for_write)

    def started(self) -> None:
        """Close what the start-up opened. What it wrote into a named database is rolled back."""
        from django.db import connections

        for alias in list(connections):
            if hasattr(connections._connections, alias):
                with contextlib.suppress(Exception):
                    connections[alias].close()
                with contextlib.suppress(AttributeError):
                    del connections[alias]
        for alias in self._expected:
            if alias != self.alias:
                connections[alias] = connections[self.alias]  # a second session would wait for the first one's locks
        self._old_threads = frozenset(thread.ident for thread in threading.enumerate()) - {self._thread}
        self.starting = False

    # --- each connection ----------------------------------------------------------------------------------------------

    def before(self, wrapper: Connection) -> None:
        """Check what a connection will be opened with."""
        values = wrapper.settings_dict
        values["AUTOCOMMIT"] = not (self.name and self.starting)
        expected = self._expected.get(wrapper.alias)
        if not self._expected or (expected is not None and _watched(values) != expected):
            self._refuse(
                SauvegardeError(
                    f"The site's code changes which database {wrapper.alias!r} is: nothing was done.",
                    f"Expected: {expected}. Now: {_watched(values)}.",
                    "Set the database in the settings only, not in ready(), manage.py or a listener.",
                )
            )
        if expected is None and self.name:
            self._only_read(wrapper, values)
        elif self.name and self._is_foreign_thread():
            raise _operational("A thread of the site's gets no connection while a side database is worked on.")
        if _is_file(values) and not Path(str(values["NAME"])).exists():
            raise _operational("unable to open database file: {} does not exist".format(values["NAME"]))

    def _is_foreign_thread(self) -> bool:
        current = threading.get_ident()
        if self._task == "migrate" and not self.starting:
            return current in self._old_threads
        return current != self._thread

    def _only_read(self, wrapper: Connection, values: dict[str, Any]) -> None:
        if wrapper.vendor == "postgresql":
            # By an option, not a SET: behind a pooler a SET would stay for others.
            options = values.setdefault("OPTIONS", {})
            current = options.get("options") or os.environ.get("PGOPTIONS", "")
            if _READ_ONLY not in current:
                options["options"] = (current + " " + _READ_ONLY).strip()
        elif wrapper.vendor != "sqlite":
            raise _operational(
                f"The database {wrapper.alias!r} ({wrapper.vendor}) is not opened while a side database is worked on."
            )

    def after(self, wrapper: Connection) -> None:
        """Check an open connection, after the site's own listeners."""
        self.check(wrapper)
        if not self.name or wrapper.alias not in self._expected:
            return
        if self.starting and wrapper.vendor == "sqlite":
            # Outside a transaction, releasing a savepoint of SQLite's would commit it.
            wrapper.connection.execute("BEGIN").close()
        if not self.starting and wrapper.vendor == "postgresql":
            # These sessions end before others use this database.
            with contextlib.closing(wrapper.connection.cursor()) as cursor:
                cursor.execute(timeouts(wrapper, LOCK_SECONDS, "SET SESSION"))

    def check(self, wrapper: Connection) -> None:
        """Assert that an open connection leads to the task's database."""
        if wrapper.alias not in self._expected:
            if self.name and wrapper.vendor == "sqlite":
                wrapper.connection.execute("PRAGMA query_only = ON").close()
            return
        if wrapper.vendor not in ("postgresql", "sqlite"):
            return
        identity = identity_of(wrapper)
        why = self._difference(wrapper, identity)
        if why:
            self._refuse(
                SauvegardeError(
                    f"The site's connection {wrapper.alias!r} leads to another database than the requested one: "
                    "nothing was done.",
                    why,
                    "Find out what in the site chooses its database: an engine of its own, a listener, ATTACH.",
                )
            )
        if self._first is None:
            self._first = identity

    def _difference(self, wrapper: Connection, identity: DatabaseIdentity) -> str:
        """Return what is wrong with where the connection leads, or an empty text."""
        if wrapper.vendor == "sqlite":
            expected = self.name or str(wrapper.settings_dict["NAME"])
            plain = self.name or _is_file(wrapper.settings_dict)
            if plain and identity.database != os.path.realpath(expected):
                return f"Expected: {expected}. Open: {identity.database or 'a database in memory'}."
            if self.name and identity.attached:
                return "Also attached: {}.".format(", ".join(identity.attached))
        elif self.name and identity.database != self.name:
            return f"Expected: {self.name}. Open: {identity.database}."
        elif self.system and identity.system and identity.system != self.system:
            return f"The server's system identifier is {identity.system}; {self.name} is on {self.system}."
        elif self.name and self.writes and identity.standby:
            return f"{identity.database} is open on a standby."
        if self._first is not None:
            same = not (identity.system and self._first.system) or identity.system == self._first.system
            if identity.database != self._first.database or not same:
                return f"Open before: {self._first.database}. Open now: {identity.database}."
        return ""


def identity_of(wrapper: Connection) -> DatabaseIdentity:
    """Ask the database itself where an open connection of PostgreSQL or SQLite leads."""
    cursor = wrapper.connection.cursor()
    try:
        if wrapper.vendor == "sqlite":
            cursor.execute("PRAGMA database_list")
            files = {row[1]: row[2] or "" for row in cursor.fetchall()}
            main = files.pop("main", "")
            files.pop("temp", None)
            attached = tuple(sorted(os.path.realpath(path) for path in files.values() if path))
            return DatabaseIdentity(os.path.realpath(main) if main else "", attached=attached)
        cursor.execute(_IDENTITY)
        database, standby, may_ask = cursor.fetchone()
        system = ""
        if may_ask:
            cursor.execute(_SYSTEM)
            system = cursor.fetchone()[0]
        return DatabaseIdentity(database, system, standby)
    finally:
        cursor.close()


def timeouts(wrapper: Connection, lock_seconds: float, how: str = "SET LOCAL") -> str:
    """Return statements by which no timeout of the site's ends the session, and lock waits end after these seconds."""
    names = ["statement_timeout", "idle_in_transaction_session_timeout"]
    names += ["idle_session_timeout"] if wrapper.pg_version >= 140000 else []
    names += ["transaction_timeout"] if wrapper.pg_version >= 170000 else []
    statements = [f"{how} {name} = 0" for name in names]
    return "; ".join([*statements, f"{how} lock_timeout = {int(lock_seconds * 1000)}"])


def _typed_as(old: object, new: object) -> str | Path:
    """Return the new name in the old one's type: the site's code may need the path that its settings define."""
    return Path(str(new)) if isinstance(old, Path) else str(new)


def _operational(sentence: str) -> Exception:
    from django.db import OperationalError

    error: Exception = OperationalError(sentence)
    return error


def _watched(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(values.get(name) or "") for name in _WATCHED}


def _family(values: Mapping[str, Any]) -> str:
    engine = str(values.get("ENGINE") or "")
    return "postgresql" if "postg" in engine else engine


def _is_file(values: Mapping[str, Any]) -> bool:
    """Return whether the settings name a file of SQLite by its path."""
    name = str(values.get("NAME") or "")
    lite = "sqlite" in str(values.get("ENGINE")) or "spatialite" in str(values.get("ENGINE"))
    return lite and bool(name) and ":memory:" not in name and not name.startswith("file:")


def _is_same(values: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    """Return whether two databases of the settings are the same, as far as the settings say."""
    if _is_file(target):
        return _is_file(values) and os.path.realpath(str(values["NAME"])) == os.path.realpath(str(target["NAME"]))
    return _family(values) == _family(target) and _address(values) == _address(target)


def _address(values: Mapping[str, Any]) -> tuple[str, str, str]:
    options = values.get("OPTIONS") or {}
    host = str(options.get("host") or values.get("HOST") or "")
    name = str(options.get("dbname") or values.get("NAME") or options.get("service") or "")
    port = str(options.get("port") or values.get("PORT") or "5432")
    return ("" if host in _LOCAL or host.startswith("/") else host), port, name
