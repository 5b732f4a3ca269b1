"""Plan a restore: report what it would do and all that would stop it, each blocker with its fix. Changes nothing."""

from __future__ import annotations

import calendar
import contextlib
import re
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

import psycopg2

from ..archive import damage_record
from ..archive.manifest import Manifest
from ..errors import Damaged, SauvegardeError
from ..postgres import attachments, database_properties, postgres_server
from ..targets import side_database, swap
from ..targets.target import KeptDatabase
from . import (
    dump_roles,
    live_changes,
    load_role,
    partial_dump,
    pg_cron,
    predicted_losses,
    restore_state,
    target_checks,
)
from .confirmation import Confirmation
from .dump import dump_file, entry_dependencies, loss_names, oids, pg_restore, toc_list, unpacking
from .dump.content_scan import scan
from .dump.contents import Contents
from .dump.dump_file import Source
from .dump.dump_properties import stored_setting
from .dump.dump_reading import ReadDump, read_dump, with_needs
from .dump.entries import Entry
from .dump.loss_ledger import Loss
from .dump.pg_restore import Reader
from .findings import Blocker, Findings, Note
from .live_changes import LiveChanges
from .plan_mark import PlanMark, digest
from .request import RestoreRequest
from .source_needs import SourceNeeds, needs_of, version_number
from .surviving_fingerprint import plain_key

# Bytes of a finished database that a restore makes in a second, until this host has measured its own.
_RATE = 40 * 1024 * 1024


@dataclass(frozen=True)
class DumpReading:
    """What was read of a source.

    contents: of the whole dump; None in a plan of our own archive, which reads its table of contents only. definitions:
    what that says, as far as a pg_restore here reads it. dependencies: entry_dependencies.dependencies. drops_oids: the
    archive has tables WITH OIDS.
    """

    source: Source
    contents: Contents | None = None
    definitions: Contents | None = None
    dependencies: Mapping[Entry, set[Entry]] = field(default_factory=dict)
    drops_oids: bool = False

    @classmethod
    def of_dump(cls, dump: ReadDump) -> DumpReading:
        """Return the reading of a dump that was read whole."""
        return cls(dump.source, dump.contents)._with_list(dump.prepared, dump.tool, dump.contents)

    @classmethod
    def of_definitions(cls, source: Source, work: Path, version_num: int) -> DumpReading:
        """Read the table of contents of our own archive, for a target of `version_num`."""
        try:
            prepared = unpacking.definitions(source, work)
            tool = pg_restore.reader(prepared, version_num)
            with pg_restore.as_sql(prepared, tool, "-C", "-s") as stream:
                contents = with_needs(source, scan(stream))
            return cls(source, definitions=contents)._with_list(prepared, tool, contents)
        except SauvegardeError:
            return cls(source)  # no pg_restore here reads it, which `plan_of` reports as a blocker

    def _with_list(self, prepared: Source, tool: Reader | None, contents: Contents) -> DumpReading:
        """Return the reading with what only an archive's list says; plain SQL says it itself."""
        if tool is None:
            return self
        dependencies = entry_dependencies.dependencies(prepared, tool, contents.encoding)
        return replace(self, dependencies=dependencies, drops_oids=toc_list.drops_oids(prepared, tool))

    @property
    def known(self) -> Contents | None:
        """The contents, or as much of them as is known."""
        return self.contents if self.contents is not None else self.definitions


@dataclass(frozen=True)
class PlanDetails:
    """What a plan says of a source that could be read.

    live: size, sessions; None if there is no such database. lacks: what only the live database has, by kind.
    properties: of the restored database. expected: seconds. lost: seconds between the archive and now, None unknown.
    changes: how the live database differs from the archive, None where that was not compared.
    """

    source: dict[str, Any]
    target: dict[str, Any]
    live: dict[str, Any] | None
    kept: tuple[KeptDatabase, ...]
    extensions: list[dict[str, str]]
    space: list[target_checks.Space]
    roles_made: list[str]
    lacks: dict[str, list[str]]
    properties: dict[str, Any]
    expected: int
    lost: int | None
    losses: tuple[Loss, ...]
    changes: LiveChanges | None = None

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return dict(
            values,
            kept=[database.as_dict() for database in self.kept],
            space=[asdict(space) for space in self.space],
            losses=[loss.as_dict() for loss in self.losses],
            changes=self.changes.as_dict() if self.changes else None,
        )


@dataclass(frozen=True)
class Plan:
    """A plan: its blockers, its notes and, if the source could be read, its details and its mark."""

    blockers: tuple[Blocker, ...]
    notes: tuple[Note, ...] = ()
    details: PlanDetails | None = None
    mark: PlanMark | None = None

    def require_confirmed(self, request: RestoreRequest) -> None:
        """Raise SauvegardeError if the request was confirmed for another plan than this one."""
        if request.confirmed is not None and self.mark is not None:
            request.confirmed.require(self.mark)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as a module's result; one whose source could not be read has its blockers only."""
        values = self.details.as_dict() if self.details else {}
        return dict(
            values,
            mark=str(self.mark or ""),
            obstacles=[blocker.as_dict() for blocker in self.blockers],
            warnings=[note.as_dict() for note in self.notes],
        )


def make_plan(request: RestoreRequest, confirmation: Confirmation | None = None) -> Plan:
    """Return the plan of a restore. Reads the source whole, and writes only below the runs' directory.

    Damage and a missing source are blockers like any other. confirmation: one that was given already is checked, too.
    """
    findings = Findings()
    restore_state.folder(request.target.directory)
    try:
        reading = _read(request, findings)
        plan = _with_changes(request, reading, plan_of(request, reading))
    except SauvegardeError as error:
        plan = Plan((Blocker.from_error(error),))
    if confirmation is not None and confirmation.names and not request.is_beside:
        findings.check(confirmation.require, request.database)
    findings.check(plan.require_confirmed, request)
    return replace(plan, blockers=(*findings.blockers, *plan.blockers))


def _with_changes(request: RestoreRequest, reading: DumpReading, plan: Plan) -> Plan:
    """Return the plan with what the restore would change in the tables of the live database, if that answers."""
    manifest, details = reading.source.manifest, plan.details
    if manifest is None or not manifest.fingerprint or request.is_beside or details is None or not details.live:
        return plan
    try:
        with request.target.connected() as connection:
            changes = live_changes.compare(connection, manifest.fingerprint)
    except (SauvegardeError, psycopg2.Error) as error:
        why = error.what if isinstance(error, SauvegardeError) else str(error).strip()
        return replace(
            plan, notes=(*plan.notes, Note("The live database could not be compared with the archive.", why))
        )
    return replace(plan, details=replace(details, changes=changes))


def _read(request: RestoreRequest, findings: Findings) -> DumpReading:
    """Return what was read of the source. Damage of our own archive is a blocker."""
    source, directory = dump_file.detect(request.path), request.target.directory
    with request.target.maintenance() as connection:
        version_num = connection.server_version
    with tempfile.TemporaryDirectory(dir=directory, prefix=".plan-") as work:
        if source.manifest is None:
            return DumpReading.of_dump(read_source(request, Path(work), version_num))
        if not findings.check(_check_whole, source, directory):
            return DumpReading(source)
        return DumpReading.of_definitions(source, Path(work), version_num)


def _check_whole(source: Source, directory: Path) -> None:
    """Read our own archive completely. What the read finds is recorded for the list: that the archive is damaged, or
    that it is not. Raises Damaged."""
    contents = source.manifest
    assert contents is not None
    entry = dict(vars(contents), system=contents.system_identifier, where=damage_record.LOCAL, path=source.path)
    try:
        dump_file.check(source)
    except Damaged as error:
        if source.compression:  # the plain form is a copy of ours; whoever fetched it has read it
            with contextlib.suppress(OSError):  # the record is no condition of a plan
                damage_record.add(directory, entry, f"Read on {socket.gethostname()} as {source.path}: {error.why}")
        raise
    if source.compression:
        with contextlib.suppress(OSError):
            damage_record.remove(directory, entry)


def read_source(
    request: RestoreRequest, work: Path, version_num: int, progress: Callable[[int], object] | None = None
) -> ReadDump:
    """Read the source whole, unpacked in the folder `work`. progress: called with the number of bytes read so far."""
    return read_dump(request.path, request.file_database or request.database, work, version_num, progress)


def role_file_of(request: RestoreRequest, source: Source) -> dump_roles.Globals:
    """Return the roles of the globals file, or of the source itself if it is a whole cluster's."""
    return dump_roles.read(request.globals or (request.path if source.section else ""))


def plan_of(request: RestoreRequest, reading: DumpReading) -> Plan:
    """Return the plan of a source that was read."""
    with contextlib.closing(side_database.maintenance(request.target.server)) as connection:
        return _Planner(request, reading, connection).plan()


def restored_properties(
    needs: SourceNeeds, request: RestoreRequest, live: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the properties that the restored database gets.

    What the request says; else what the source knows of its own; else those of the database that is replaced (a swap
    would lose them); else the server's defaults.
    """
    properties = dict(side_database.DEFAULT_PROPERTIES, role_settings={})
    properties.update(live or {})
    properties.update(needs.properties)
    # A smaller limit marks a database whose DROP was interrupted; no server accepts it.
    properties["connection_limit"] = max(-1, properties["connection_limit"])
    for key, value in (("owner", request.owner), ("encoding", request.encoding)):
        if value:
            properties[key] = value
    if request.locale:
        properties.update(provider="libc", collate=request.locale, ctype=request.locale, locale="", icu_rules=None)
    return properties


class _Planner:
    """Makes one plan: each method adds what it finds to `findings`."""

    def __init__(self, request: RestoreRequest, reading: DumpReading, connection: Any) -> None:
        self.request, self.reading, self.connection = request, reading, connection
        self.source, self.manifest = reading.source, reading.source.manifest
        self.needs = needs_of(reading.source, reading.contents)
        self.findings = Findings()
        self.server = postgres_server.server_properties(connection).as_dict()
        address = request.target.server.address
        self.server.update(host=socket.gethostname(), address=address, database=request.database)
        self.role_file = role_file_of(request, reading.source)
        self.live = self._live_database()
        live_properties = self.live.pop("properties") if self.live else None
        self.properties = restored_properties(self.needs, request, live_properties)
        self._add_role_settings()

    def plan(self) -> Plan:
        """Return the plan. The order of the checks is that of its blockers and notes."""
        findings, needs = self.findings, self.needs
        target_checks.check_host(self.connection, self.request.target.server, findings)
        self._check_target()
        target_checks.check_versions(self.server, needs, findings)
        self._note_backup_warnings()
        target_checks.note_public(self.server, needs, self.reading.contents, findings)
        self._check_reader()
        extensions = target_checks.check_extensions(self.connection, needs, findings)
        roles = target_checks.plan_roles(
            self.connection, self.request, needs, self.properties, self.role_file, findings
        )
        target_checks.check_names(self.server, self.request.database, roles, findings)
        target_checks.check_literals(self.server, self._literal_settings(), findings)
        target_checks.check_locale(self.connection, self.properties, findings)
        space = target_checks.check_space(self.connection, self.request.target.directory, needs, findings)
        self._check_swap()
        self._note_source()
        lacks = self._check_contents(roles)
        losses = self._check_losses()
        for setting in side_database.unknown_settings(self.connection, self.properties):
            findings.note(
                f"The setting {setting} is left out.", f"PostgreSQL {self.server['version']} does not know it."
            )
        details = PlanDetails(
            source=self._described_source(),
            target=self.server,
            live=self.live,
            kept=tuple(swap.kept(self.connection, self.request.database)),
            extensions=extensions,
            space=space,
            roles_made=roles,
            lacks=lacks,
            properties=self.properties,
            expected=round(needs.bytes / (_measured_rate(self.request) or _RATE) + 5),
            lost=age(needs.data_as_of or needs.started),
            losses=tuple(losses),
        )
        return Plan(tuple(findings.blockers), tuple(findings.notes), details, self._mark(details))

    def _mark(self, details: PlanDetails) -> PlanMark:
        server = [self.server[name] for name in ("system_identifier", "host", "address", "database")]
        blockers = [[blocker.what, blocker.object] for blocker in self.findings.blockers]
        losses = [[loss.object, loss.accepted] for loss in details.losses]
        return PlanMark(
            source=digest([self.request.source_facts(), details.source["id"]]),
            target=digest(server),
            live=digest(self.request.target.live_facts()),
            blockers=digest([blockers, losses, details.lacks]),
        )

    def _literal_settings(self) -> list[str]:
        """Return the values of standard_conforming_strings that the source has, in its dump and of its database."""
        name, known = "standard_conforming_strings", self.reading.known
        values = sorted(known.settings.get(name, ())) if known is not None else []
        return [*values, str(self.properties["settings"].get(name, "on"))]

    def _live_database(self) -> dict[str, Any] | None:
        database = self.request.database
        if not side_database.exists(self.connection, database):
            return None
        size = postgres_server.value(self.connection, "SELECT pg_catalog.pg_database_size(%s)", (database,))
        return {
            "bytes": size,
            "sessions": [asdict(session) for session in swap.sessions(self.connection, database)],
            "properties": database_properties.properties(self.connection, database),
        }

    def _add_role_settings(self) -> None:
        """Add the settings that the globals file has for roles in this database."""
        for entry in self.role_file.settings:
            match = re.search(r" SET (.+?) TO (.*);$", entry.statement, re.DOTALL)
            if match and entry.database in (self.request.database, self.needs.database):
                setting = match.group(1).strip('"')
                settings = self.properties["role_settings"].setdefault(entry.role, {})
                settings[setting] = stored_setting(setting, match.group(2))

    def _check_target(self) -> None:
        findings, database = self.findings, self.request.database
        if self.server["standby"]:
            findings.block(
                "The target server is a standby.",
                "A standby accepts no changes except those of its primary.",
                "Restore on its primary, or promote it.",
            )
        if database in (side_database.MAINTENANCE, "template0", "template1"):
            findings.block(
                f"{database} cannot be replaced.", "PostgreSQL itself needs it.", "Name another target database."
            )
        if not self.request.is_beside or not self.live:
            return
        identifier = self.needs.system_identifier
        if identifier and identifier == self.server["system_identifier"] and database == self.needs.database:
            findings.block(
                f"The target is the archive's own source, {database} on this server.",
                "A restore beside does not replace a database.",
                "Name another target database (restore_target_database), or swap instead.",
            )
        else:
            findings.block(
                f"There already is a database {database}.",
                "A restore beside creates a new database.",
                "Name one that does not exist.",
            )

    def _note_backup_warnings(self) -> None:
        for sentence in self.manifest.warnings if self.manifest is not None else ():
            self.findings.note("Warning of the backup: " + sentence)
        if self.manifest is not None and self.needs.standby:
            primary = self.manifest.replay.get("primary")
            self.findings.note(
                f"The archive was taken on a standby{f' of {primary}' if primary else ''}.",
                f"Its last replayed transaction was committed at {self.needs.data_as_of or 'an unknown time'}: what the"
                " primary wrote since is not in it.",
            )

    def _check_reader(self) -> None:
        """Require a pg_restore that reads our own archive. Of other dumps it is known: they were read."""
        if self.manifest is None:
            return
        tool, version_num = self.manifest.tools["pg_dump"], self.server["version_num"]
        if not pg_restore.readers(version_num, version_number(tool)):
            error = pg_restore.no_reader(self.source.path, version_num, f"pg_dump {tool} made it.")
            self.findings.blockers.append(Blocker.from_error(error))

    def _check_swap(self) -> None:
        database = self.request.database
        for sentence in swap.obstacles(self.connection, database):
            self.findings.block(f"{database} cannot be swapped.", sentence, "Then run it again.")
        if not self.live or self.request.is_beside:
            return
        if self.live["sessions"]:
            count = len(self.live["sessions"])
            self.findings.note(f"{count} session(s) on {database} will be ended by the swap.")
        for note in attachments.warnings(attachments.read(self.connection, database), database):
            self.findings.notes.append(Note(**note))

    def _note_source(self) -> None:
        if not self.properties["collate"]:
            self.findings.note(
                "The dump does not know its database's encoding and locale.",
                "Those of the target server are used.",
                "To use another locale, set restore_locale.",
            )
        for sentence in self.source.notes:
            self.findings.note(sentence)
        if self.manifest is not None and self.manifest.partial is not None:
            self.findings.note("The archive holds a part of its database.", " ".join(self.manifest.lacks))
            if self.manifest.partial["extensions"]:
                names = ", ".join(self.manifest.partial["extensions"])
                self.findings.note(
                    f"The target needs the extensions {names}, which the archive does not hold.",
                    "pg_dump leaves extensions out where schemas or tables are named. The restore creates them.",
                )

    def _check_contents(self, roles: list[str]) -> dict[str, list[str]]:
        """Check a dump that was read whole. Returns what only the live database has, by kind."""
        contents, findings = self.reading.contents, self.findings
        if self.manifest is not None and self.manifest.partial is not None:
            if contents is not None:
                self._note_load_role(contents, roles)
            return self._check_part(self.manifest)
        if contents is None:
            return {}
        for what, why in oids.warnings(contents, self.server["version_num"]):
            findings.note(what, why)
        if partial_dump.rows_only(contents):
            findings.block(
                "The dump holds rows only, and no tables to put them into.",
                "It was made with --data-only or --section=data.",
                "Take a dump with the definitions; or load this one by hand (psql, pg_restore) into a database that"
                " has them, and back that up.",
            )
        lacks: dict[str, list[str]] = {}
        if self.manifest is None and self.live and not self.request.is_beside:
            lacks = partial_dump.check(self.request.target, contents, self.request.partial, findings)
        self._note_load_role(contents, roles)
        return lacks

    def _check_part(self, manifest: Manifest) -> dict[str, list[str]]:
        """Ask for a word of its own where a partial archive is to replace a live database."""
        contents = self.reading.known
        if contents is None or not self.live or self.request.is_beside:
            return {}
        return partial_dump.check_archive(self.request.target, contents, manifest, self.request.partial, self.findings)

    def _note_load_role(self, contents: Contents, roles: list[str]) -> None:
        schemas = set(contents.extensions.values()) - {"public"}
        superusers = load_role.superusers(self.connection) | dump_roles.superusers(roles, self.role_file)
        choice = load_role.choose(contents, schemas, superusers, self.properties["owner"])
        if choice.why:
            reason = f"{choice.why[0].upper()}{choice.why[1:]}."
            self.findings.note("It will be loaded as the superuser, not as its owner.", reason)
        elif choice.role not in superusers | {""}:
            self.findings.note(
                f"It will be loaded as its owner, {choice.role}.",
                "If this role lacks a privilege, the superuser loads it.",
            )

    def _check_losses(self) -> list[Loss]:
        """Return what is known to be lost here; what is not accepted is a blocker."""
        request, recorded, findings = self.request, self.reading.known, self.findings
        if self.reading.drops_oids:
            findings.note(
                "Tables WITH OIDS are restored without OIDs.",
                "PostgreSQL 12 and newer do not support them. If the application refers to rows by OID, restore on"
                " PostgreSQL 11 or older, copy them into a column of their own, and back that up.",
            )
        extensions = self.needs.extensions
        postponed: tuple[str, ...] = ()
        if pg_cron.is_postponed(self.connection, request.mode, request.database, extensions, recorded):
            postponed = pg_cron.NAMES
            findings.note(**pg_cron.warning(request.database))
        losses: list[Loss] = predicted_losses.predict(
            self.connection,
            extensions,
            recorded,
            self.reading.dependencies,
            request.accept_losses,
            postponed,
            (self.manifest.partial or {}).get("unrestorable", ()) if self.manifest is not None else (),
            self._filled_tables(recorded),
        )
        blockers = predicted_losses.obstacles(losses, recorded.extensions if recorded else ())
        blockers += loss_names.unknown_names(request.accept_losses, recorded) if recorded else []
        findings.blockers += [Blocker.from_dict(blocker) for blocker in blockers]
        return losses

    def _filled_tables(self, recorded: Contents | None) -> set[str]:
        """Return `schema.name` of the tables that have rows, by the manifest or else by the dump."""
        if self.manifest is not None and self.manifest.fingerprint:
            tables = self.manifest.fingerprint["tables"].items()
            return {plain_key(key) for key, entry in tables if entry["rows"]}
        return {".".join(key) for key in recorded.filled} if recorded is not None else set()

    def _described_source(self) -> dict[str, Any]:
        needs, manifest = self.needs, self.manifest
        return {
            "version": needs.version,
            "standby": needs.standby,
            "database": needs.database,
            "bytes": needs.bytes,
            "rows": needs.rows,
            "made": needs.started,
            "data_as_of": needs.data_as_of,
            "server": manifest.server.address if manifest and manifest.server else "",
            "path": self.source.path,
            "form": self.source.form,
            "id": manifest.id if manifest else "",
            "host": manifest.host if manifest else "",
        }


def _measured_rate(request: RestoreRequest) -> int:
    """Return the bytes a second of the newest successful run in this directory; 0 if there is none."""
    for run in restore_state.runs(request.target.directory):
        if run.rate:
            return run.rate
    return 0


def age(moment: str) -> int | None:
    """Return the seconds since an ISO time in UTC, None for ''."""
    if not moment:
        return None
    return max(0, int(time.time() - calendar.timegm(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S"))))
