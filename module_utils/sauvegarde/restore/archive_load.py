"""Load an archive of pg_dump's with the target's own pg_restore, section by section."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Sequence

from ..postgres import client_tools
from .dump.dump_file import Source
from .dump.entries import Entry
from .dump.entry_dependencies import dependencies
from .dump.pg_restore import Reader
from .dump.toc_list import ListedEntry, entries_by_listing, entry_of_listing, read_list
from .load_session import LoadSession, is_about_event_trigger
from .pg_restore_run import load_entries

_SECTIONS = ("pre-data", "data", "post-data")


def load_archive(session: LoadSession, source: Source, tool: Reader, jobs: int) -> None:
    """Load the archive, `jobs` tables and indexes at a time; fill its materialized views.

    Its event triggers wait for `session.create_event_triggers`.
    """
    _ArchiveLoad(session, source, tool, jobs).run()


class _ArchiveLoad:
    def __init__(self, session: LoadSession, source: Source, tool: Reader, jobs: int) -> None:
        self._session, self._source, self._tool, self._jobs = session, source, tool, jobs
        self._command = [tool.path, "-d", client_tools.conninfo(session.name)]
        if not session.has_tablespaces():
            self._command.append("--no-tablespaces")
        # A tar archive cannot be read in parallel.
        self._parallel = ["-j", str(jobs)] if source.form != "tar" else []
        self._entries: dict[str, Entry] = {}  # by the id that pg_restore's messages have
        self._positions: dict[str, int] = {}
        # In order: what the superuser loads first, the rest, what the superuser loads next, and what comes last.
        self._first: list[ListedEntry] = []
        self._own: list[ListedEntry] = []
        self._last: list[ListedEntry] = []
        self._event_triggers: list[ListedEntry] = []
        self._views: list[Entry] = []

    def run(self) -> None:
        session, encoding = self._session, self._session.contents.encoding
        self._sort(read_list(self._source, self._tool, encoding))
        session.prepare_for_definitions()
        # Without a section: privileges have none, and belong to the section of the entry before them in the list.
        if self._first:
            self._load_unsectioned(self._first, "The restore stopped at what exists before the dump.")
        session.check_role()
        for section in _SECTIONS:
            session.report(step=section)
            if section == "data":
                session.prepare_for_data()
            self._load_section(section)
            if section == "data":
                session.finish_data()
        if self._last:
            self._load_unsectioned(self._last, "The restore stopped at the default privileges of other roles.")
        if session.ledger:
            session.ledger.add_dependencies(dependencies(self._source, self._tool, encoding))
            session.keep_violated_constraints()
        session.fill_views(self._views, self._jobs)
        if self._event_triggers:
            session.defer_event_triggers(
                lambda: self._load_unsectioned(self._event_triggers, "The restore stopped at the event triggers.")
            )

    def _sort(self, listed_entries: Iterable[ListedEntry]) -> None:
        """Divide the entries among the steps of the load."""
        session = self._session
        entries = entries_by_listing(session.contents)
        excluded = {entry.listed() for entry in session.contents.entries if session.excludes(entry)}
        event_triggers = {entry.listed() for entry in session.contents.entries if is_about_event_trigger(entry)}
        last = {entry.listed() for entry in session.choice.last}
        for position, item in enumerate(listed_entries):
            entry = entries.get(item.listed) or entry_of_listing(item.listed)
            self._entries[item.number], self._positions[item.number] = entry, position
            if item.listed in event_triggers:
                self._event_triggers.append(item)
            elif item.listed.startswith("MATERIALIZED VIEW DATA "):
                self._views.append(entry)
            elif self._is_excluded(item.listed, excluded):
                continue
            elif not session.choice.role or not session.is_of_superuser(item.listed):
                self._own.append(item)
            else:
                (self._last if item.listed in last else self._first).append(item)

    def _is_excluded(self, listed: str, excluded: Collection[str]) -> bool:
        if listed.startswith(("EXTENSION - ", "COMMENT - EXTENSION ")):
            return True
        # Rows of an extension's own tables are merged.
        return listed in excluded or (listed.startswith("TABLE DATA ") and listed not in self._session.own_data)

    def _load_section(self, section: str) -> None:
        session = self._session
        # pg_restore passes it to the server as it is, in the dump's encoding.
        role = os.fsdecode(session.role.encode(session.contents.encoding, "surrogateescape"))
        options = [*(["--role", role] if role else []), "--section", section]
        parallel = self._parallel if section in ("data", "post-data") else []
        what = f"The restore stopped in the section {section}."
        computed = {
            entry.listed("TABLE DATA")
            for entry in session.contents.entries
            if section == "data" and entry.kind == "TABLE" and entry.key in session.computed
        }
        for items in (
            [item for item in self._own if item.listed not in computed],
            [item for item in self._own if item.listed in computed],
        ):
            for number, why in self._attempts(items, what, parallel, options):
                session.record_failure(self._entries[number], why, section, what)

    def _load_unsectioned(self, items: Sequence[ListedEntry], what: str) -> None:
        """Load entries as the superuser."""
        for number, why in self._attempts(items, what, [], []):
            self._session.ledger.record(self._entries[number], why)

    def _attempts(
        self, items: Sequence[ListedEntry], what: str, parallel: Sequence[str], options: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Load entries; those that fail once more, with other search_paths of functions where that may help.

        Returns [(id of an entry that failed, the server's message)], in the order of the list.
        """
        if not items:
            return []
        messages = self._attempt(items, what, parallel, options)
        for helps, paths in self._session.other_paths():
            if any(helps(why) for why in messages.values()):
                failed = [item for item in items if item.number in messages]
                with paths():
                    messages = self._attempt(failed, what, [], options)
        return sorted(messages.items(), key=lambda message: self._positions[message[0]])

    def _attempt(
        self, items: Sequence[ListedEntry], what: str, parallel: Sequence[str], options: Sequence[str]
    ) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            return load_entries(
                [*self._command, *options],
                parallel,
                [item.line for item in items],
                self._source.path,
                folder,
                self._session.environment(),
                what,
            )
