"""Inside the site: names the database before the site starts, and asserts on every connection that it is that one.

The name is put into the settings as soon as they are loaded, so before any application is. Each connection that the
site or the engine opens is then compared, before its first statement and again behind the site's own listeners, with
what the task was told: `current_database()`, the server's system identifier where it may be read, and the real path of
an SQLite file. A difference ends the process with an error that no code of the site can catch.

While a task works on a side database or on an opened archive (`name`), the site's other databases can only be read,
what its start-up writes is rolled back, and its threads get no connection.
"""

import contextlib
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple

from ...errors import SauvegardeError

LOCK_SECONDS = 60  # the longest wait for a lock, where the caller names none
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_WATCHED = ("ENGINE", "NAME", "HOST", "PORT")
_READ_ONLY = "-c default_transaction_read_only=on"
_PLACE = """
SELECT pg_catalog.current_database(), pg_catalog.pg_is_in_recovery(),
       pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_control_system()')::oid, 'EXECUTE')
"""
_SYSTEM = "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()"


class Place(NamedTuple):
    """Where a connection leads."""

    database: str  # the name on the server, or the file's real path ('' in memory)
    system: str = ""  # the server's system identifier, '' where it cannot be read
    standby: bool = False
    attached: Tuple[str, ...] = ()  # further SQLite files


class Guard:
    """The guard of one task. `options`: its own, with database (an alias), name and system (see site.Site).

    `refuse`: takes the error of a connection that leads elsewhere, tells it and ends the process.
    """

    def __init__(self, task: str, options: Dict[str, Any], refuse: Callable[[SauvegardeError], None]) -> None:
        self.alias, self.name, self.system = options["database"], options.get("name", ""), options.get("system", "")
        self.writes = task in ("load", "migrate")
        self.starting = True
        self._task, self._refuse = task, refuse
        self._expected = {}  # type: Dict[str, Dict[str, str]]
        self._first = None  # the first Place of all connections
        self._thread = threading.get_ident()
        self._old_threads = frozenset()

    # --- before the site starts ---------------------------------------------------------------------------------------

    def settings(self, settings: Any) -> None:
        """Put the told name into the settings. Called once they are loaded, before anything uses them."""
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
                values["OPTIONS"] = {key: each for key, each in values["OPTIONS"].items() if key != "pool"}
        target = databases[self.alias]
        if _is_file(target):
            # A start-up may change the working directory.
            target["NAME"] = _like(target["NAME"], Path.cwd() / str(target["NAME"]))
        same = [alias for alias, values in databases.items() if alias == self.alias or _is_same(values, target)]
        for alias in same if self.name else ():
            databases[alias]["NAME"] = _like(databases[alias].get("NAME"), self.name)
            if databases[alias].get("OPTIONS"):
                databases[alias]["OPTIONS"].pop("dbname", None)  # it would win
        for alias in same if self.name else [self.alias]:
            self._expected[alias] = _watched(databases[alias])

    def patch_connections(self, module: Any) -> None:
        """Guard every connection of Django. `module`: django.db.backends.base.base."""
        guard, connect = self, module.BaseDatabaseWrapper.connect

        def guarded(wrapper):
            guard.before(wrapper)
            connect(wrapper)
            guard.after(wrapper)

        module.BaseDatabaseWrapper.connect = guarded

    def patch_signals(self, module: Any) -> None:
        """Look before any listener of the site does. `module`: django.db.backends.signals."""
        module.connection_created.connect(self._created, weak=False, dispatch_uid="sauvegarde")

    def _created(self, connection, **_):
        self.check(connection)

    def route(self) -> None:
        """Send what the site's routers would send elsewhere to the named database, where its tables are there too."""
        from django.db import router

        def routed(choose):
            def chosen(model, **hints):
                return self.alias if router.allow_migrate_model(self.alias, model) else choose(model, **hints)

            return chosen

        if self.name:
            router.db_for_read, router.db_for_write = routed(router.db_for_read), routed(router.db_for_write)

    def started(self) -> None:
        """Close what the start-up opened; what it wrote into a named database is rolled back."""
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

    def before(self, wrapper: Any) -> None:
        """Look at what a connection will be opened with."""
        values = wrapper.settings_dict
        values["AUTOCOMMIT"] = not (self.name and self.starting)
        expected = self._expected.get(wrapper.alias)
        if not self._expected or (expected is not None and _watched(values) != expected):
            self._refuse(
                SauvegardeError(
                    f"The site's code changes which database {wrapper.alias!r} is: nothing was done.",
                    f"Told: {expected}. Now: {_watched(values)}.",
                    "Set the database in the settings only, not in ready(), manage.py or a listener.",
                )
            )
        if expected is None and self.name:
            self._only_read(wrapper, values)
        elif self.name and self._is_foreign_thread():
            raise _operational("A thread of the site's gets no connection while a side database is worked on.")
        if _is_file(values) and not Path(str(values["NAME"])).exists():
            raise _operational("unable to open database file: {} does not exist".format(values["NAME"]))

    def _is_foreign_thread(self):
        here = threading.get_ident()
        if self._task == "migrate" and not self.starting:
            return here in self._old_threads
        return here != self._thread

    def _only_read(self, wrapper, values):
        if wrapper.vendor == "postgresql":
            # By an option, not a SET: behind a pooler a SET would stay for others.
            options = values.setdefault("OPTIONS", {})
            told = options.get("options") or os.environ.get("PGOPTIONS", "")
            if _READ_ONLY not in told:
                options["options"] = (told + " " + _READ_ONLY).strip()
        elif wrapper.vendor != "sqlite":
            raise _operational(
                f"The database {wrapper.alias!r} ({wrapper.vendor}) is not opened while a side database is worked on."
            )

    def after(self, wrapper: Any) -> None:
        """Look at an open connection, behind the site's own listeners."""
        self.check(wrapper)
        if not self.name or wrapper.alias not in self._expected:
            return
        if self.starting and wrapper.vendor == "sqlite":
            # Where nothing has begun, a savepoint of SQLite's is a transaction that its release commits.
            wrapper.connection.execute("BEGIN").close()
        if not self.starting and wrapper.vendor == "postgresql":
            # These sessions end before anybody else uses this database.
            with contextlib.closing(wrapper.connection.cursor()) as cursor:
                cursor.execute(timeouts(wrapper, LOCK_SECONDS, "SET SESSION"))

    def check(self, wrapper: Any) -> None:
        """Assert that an open connection leads to what the task was told."""
        if wrapper.alias not in self._expected:
            if self.name and wrapper.vendor == "sqlite":
                wrapper.connection.execute("PRAGMA query_only = ON").close()
            return
        if wrapper.vendor not in ("postgresql", "sqlite"):
            return
        found = place(wrapper)
        why = self._difference(wrapper, found)
        if why:
            self._refuse(
                SauvegardeError(
                    f"The site's connection {wrapper.alias!r} leads to another database than the told one: "
                    "nothing was done.",
                    why,
                    "Find out what in the site chooses its database: an engine of its own, a listener, ATTACH.",
                )
            )
        if self._first is None:
            self._first = found

    def _difference(self, wrapper, found):
        """What is wrong with the place, or ""."""
        if wrapper.vendor == "sqlite":
            expected = self.name or str(wrapper.settings_dict["NAME"])
            plain = self.name or _is_file(wrapper.settings_dict)
            if plain and found.database != os.path.realpath(expected):
                return f"Told: {expected}. Open: {found.database or 'a database in memory'}."
            if self.name and found.attached:
                return "Also attached: {}.".format(", ".join(found.attached))
        elif self.name and found.database != self.name:
            return f"Told: {self.name}. Open: {found.database}."
        elif self.system and found.system and found.system != self.system:
            return f"The server's system identifier is {found.system}; {self.name} is on {self.system}."
        elif self.name and self.writes and found.standby:
            return f"{found.database} is open on a standby."
        if self._first is not None:
            same = not (found.system and self._first.system) or found.system == self._first.system
            if found.database != self._first.database or not same:
                return f"Open before: {self._first.database}. Open now: {found.database}."
        return ""


def place(wrapper: Any) -> Place:
    """Where an open connection of PostgreSQL or SQLite leads, asked of the database itself."""
    cursor = wrapper.connection.cursor()
    try:
        if wrapper.vendor == "sqlite":
            cursor.execute("PRAGMA database_list")
            files = {row[1]: row[2] or "" for row in cursor.fetchall()}
            main = files.pop("main", "")
            files.pop("temp", None)
            attached = tuple(sorted(os.path.realpath(path) for path in files.values() if path))
            return Place(os.path.realpath(main) if main else "", attached=attached)
        cursor.execute(_PLACE)
        database, standby, may_ask = cursor.fetchone()
        system = ""
        if may_ask:
            cursor.execute(_SYSTEM)
            system = cursor.fetchone()[0]
        return Place(database, system, standby)
    finally:
        cursor.close()


def timeouts(wrapper: Any, lock_seconds: float, how: str = "SET LOCAL") -> str:
    """Statements: no timeout of the site's ends the session, and no lock is waited for longer than these seconds."""
    names = ["statement_timeout", "idle_in_transaction_session_timeout"]
    names += ["idle_session_timeout"] if wrapper.pg_version >= 140000 else []
    names += ["transaction_timeout"] if wrapper.pg_version >= 170000 else []
    wanted = [f"{how} {name} = 0" for name in names]
    return "; ".join([*wanted, f"{how} lock_timeout = {int(lock_seconds * 1000)}"])


def _like(old, new):
    """The new name in the old one's type: the site's code may want the path that its settings give."""
    return Path(str(new)) if isinstance(old, Path) else str(new)


def _operational(sentence):
    from django.db import OperationalError

    return OperationalError(sentence)


def _watched(values):
    return {name: str(values.get(name) or "") for name in _WATCHED}


def _family(values):
    engine = str(values.get("ENGINE") or "")
    return "postgresql" if "postg" in engine else engine


def _is_file(values):
    """Whether the settings name a file of SQLite by its path."""
    name = str(values.get("NAME") or "")
    lite = "sqlite" in str(values.get("ENGINE")) or "spatialite" in str(values.get("ENGINE"))
    return lite and bool(name) and ":memory:" not in name and not name.startswith("file:")


def _is_same(values, target):
    """Whether two databases of the settings are the same, as far as the settings tell."""
    if _is_file(target):
        return _is_file(values) and os.path.realpath(str(values["NAME"])) == os.path.realpath(str(target["NAME"]))
    return _family(values) == _family(target) and _address(values) == _address(target)


def _address(values):
    options = values.get("OPTIONS") or {}
    host = str(options.get("host") or values.get("HOST") or "")
    name = str(options.get("dbname") or values.get("NAME") or options.get("service") or "")
    port = str(options.get("port") or values.get("PORT") or "5432")
    return ("" if host in _LOCAL or host.startswith("/") else host), port, name
