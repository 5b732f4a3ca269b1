"""Migrate an archive into a side database and prove it: the steps of one run, from the archive to its properties."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..archive.manifest import Manifest
from ..backup import kinds
from ..django import data_dump, data_load, fixture_fingerprint, fixture_stream, site
from ..django.site import Site
from ..errors import SauvegardeError
from ..restore import restore_run, restore_state
from ..restore.request import RestoreRequest
from ..restore.restore_state import State
from ..system import parallel_jobs
from ..system.run_as import call_as
from ..targets.postgresql_target import PostgresqlTarget
from ..targets.target import Target
from . import migration_plan, migration_proof, target_run
from .migration_plan import SiteSurvey
from .migration_proof import archive_data, moved_models
from .migration_request import MigrationRequest


class SideMigration:
    """One migration into a side database. Each step records its result in the run's state.

    What concerns the target's database runs as the OS user that owns it; what concerns models runs in the site's own
    process.
    """

    def __init__(self, request: MigrationRequest, facts: SiteSurvey, run: State) -> None:
        self.request, self.facts, self.run = request, facts, run
        self.target, self.owner = migration_plan.target_of(facts, request.site.user, request.access)
        self._started = time.monotonic()

    def _as_owner(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function as the OS user that owns the database. Returns plain values."""
        return call_as(self.owner, function, *arguments)

    def migrate(self) -> dict[str, Any]:
        """Do all steps. Returns what the run's state records of a proven side database."""
        self.run.update(step="read")
        self.manifest: Manifest = kinds.verify(self.request.path)
        self.system: str = self._as_owner(self.target.system_identifier)
        migration_plan.check_server(self.facts, self.system)
        with restore_state.hold(self._as_owner(target_run.lock_folder, self.target), self.facts["name"]):
            self._reserve()
            try:
                return self._fill()
            except BaseException as error:
                self._clean_up(error)
                raise

    def _reserve(self) -> None:
        """Archive the live database, and reserve a side database: a copy of the live one if models were named."""
        self.run.update(step="safety archive")
        safety = self._as_owner(target_run.archive_live, self.target)
        self.run.update(safety=safety, keeper=self.owner, step="create")
        archive = (self.request.path, self.request.mark)
        if self.request.is_whole_site:
            reservation = self._as_owner(target_run.reserve, self.target, *archive)
        else:
            reservation = self._as_owner(
                target_run.copy_live, self.target, *archive, lambda: _restore_copy(self.target, safety)
            )
        self.side: str = reservation["side"]
        self.side_id: str = reservation["id"]
        self.run.update(side=self.side, side_id=self.side_id)

    def _fill(self) -> dict[str, Any]:
        request, run = self.request, self.run
        if request.is_whole_site:
            self._as_owner(self.target.create_side, self.side)
        self.beside: Site = request.site.replace(name=self.side, system=self.system)
        run.update(step="schema")
        exclude = [*data_dump.EXCLUDE, *request.exclude]
        choice = {"labels": list(request.labels), "exclude": exclude, "include": list(request.include)}
        migrated = site.run(self.beside, "migrate", choice)
        self.facts = dict(self.facts, selected=_with_tables(self.facts, migrated["left_out"], self.manifest))
        others = None if request.is_whole_site else self._other_models()
        run.update(step="load")
        loaded = self._load()
        run.update(step="prove")
        progress = self._counting(moved_models(self.facts, self.manifest))
        proof = migration_proof.prove(
            request, self.beside, self.facts, self.manifest, loaded["touched"], progress, loaded["changed"]
        )
        run.update(step="check", tables=None)
        if others is not None:
            _require_unchanged(others, self._other_models())
        self._check_tables(proof)
        run.update(step="properties")
        finish = self._as_owner(target_run.finish, self.target, self.side)
        self._record_ready()
        return self._result(migrated, loaded, proof, finish)

    def _record_ready(self) -> None:
        masked = self.manifest.source["masked"]
        plan_mark = str(self.request.confirmed or "")
        self._as_owner(target_run.record_end, self.target, self.side_id, restore_state.READY, masked, plan_mark)

    def _result(
        self,
        migrated: Mapping[str, Any],
        loaded: Mapping[str, Any],
        proof: Mapping[str, Any],
        finish: Mapping[str, Any],
    ) -> dict[str, Any]:
        manifest = self.manifest
        return {
            "proof": proof,
            "masked": manifest.source["masked"],
            "migrations": migrated["applied"],
            "mended": loaded["mended"],
            "stock": loaded["stock"],
            "accepted": migration_plan.accepted(loaded["problems"]),
            "notes": _notes(proof, finish["skipped"], loaded),
            "archive": {
                "id": manifest.id,
                "host": manifest.host,
                "started": manifest.started,
                "ended": manifest.ended,
                "bytes": manifest.bytes,
            },
            "bytes": finish["bytes"],
            "seconds": round(time.monotonic() - self._started, 1),
        }

    def _clean_up(self, error: BaseException) -> None:
        """Remove the side database of a run that failed. If that fails too, raises the run's error with a note."""
        try:
            self._as_owner(self.target.drop, self.side)
        except SauvegardeError as second:
            raise _with_leftover(error, self.side, second) from error
        finally:
            with contextlib.suppress(SauvegardeError):
                self._as_owner(target_run.record_end, self.target, self.side_id, restore_state.FAILED)

    def _load(self) -> dict[str, Any]:
        """Load the archive's data in one transaction, in place of the rows that the migrations created."""
        manifest, facts = self.manifest, self.facts
        policy = dict(self.request.policy)
        if self.request.unknown == "skip":
            policy["unknown"] = "skip"
        for kind in ("precision", "nan"):
            policy.setdefault(kind, "stop")  # what a database does not keep is accepted by name
        if self.request.is_whole_site:
            policy.setdefault("hidden", "drop")  # the side database's only rows are those of its migrations
        values: dict[str, Any] = {"mode": "replace", "policy": policy, "models": moved_models(facts, manifest)}
        # Before the swap nothing is saved or deleted except in this side database, which may never be put in place: a
        # listener that removes a picture would take it from the live site, and one that makes a profile for each user
        # would make those again that the data bring.
        values.update(listeners=False, tell_deletions=False, triggers=False)
        # The archive may hold more models than the request names.
        values["exclude"] = [
            label for label in manifest.source["many"] if label in facts["models"] and label not in facts["selected"]
        ]
        progress = self._counting((manifest.fingerprint or {})["tables"])
        loaded: dict[str, Any] = data_load.load(self.beside, [archive_data(self.request, manifest)], values, progress)
        return loaded

    def _counting(self, labels: Sequence[str] | Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
        """Return a function for progress events that records how many of the models are done, and the current step."""
        run = self.run
        run.update(tables=0, tables_total=len(labels))
        done = set()

        def progress(event: dict[str, Any]) -> None:
            if "model" in event:
                done.add(event["model"])
                run.note(tables=len(done))
            elif "step" in event:
                run.update(step=event["step"], tables=None)

        return progress

    def _other_models(self) -> dict[str, Any]:
        """Return the fingerprint of the models that are not moved."""
        labels = [
            label for label in migration_plan.survey(self.beside)["selected"] if label not in self.facts["selected"]
        ]
        values = {"labels": labels, "format": "jsonl", "all": True}
        result: dict[str, Any] = data_dump.stream(self.beside, values, lambda piece: None)["fingerprint"]
        return result

    def _check_tables(self, proof: Mapping[str, Any]) -> None:
        """Require the tables and numbers of rows that were proven, asked of the database itself."""
        moved = [label for label in moved_models(self.facts, self.manifest) if label in self.facts["table_of"]]
        rows = {self.facts["table_of"][label]: proof["models"].get(label, {"rows": 0})["rows"] for label in moved}
        differences = self._as_owner(self.target.differences, self.side, self.facts["tables"], rows)
        if differences:
            raise SauvegardeError(
                "The side database is not what was proven: the live database was not touched.",
                "\n".join(differences),
                "Find out what in the site (a listener, a trigger, a database engine of its own) writes elsewhere.",
            )


def _restore_copy(target: Target, archive: str) -> dict[str, Any]:
    """Restore the live database's archive into a side database, for the named models to be replaced in."""
    assert isinstance(target, PostgresqlTarget), "only a server's live database is copied through its archive"
    return restore_run.fill(RestoreRequest(target, archive, jobs=parallel_jobs.default_jobs()), is_locked=True)


def _with_leftover(error: BaseException, name: str, second: SauvegardeError) -> SauvegardeError:
    """Return the error of a run whose side database could not be removed, which names that too."""
    leftover = f"The side database {name} could not be removed and may hold personal data: {second.what}"
    if not isinstance(error, SauvegardeError):
        why = "\n".join(filter(None, [str(error), leftover]))
        return SauvegardeError("The migration was stopped.", why, "Remove the side database.")
    why = "\n".join(filter(None, [error.why, leftover]))
    return type(error)(error.what, why, " ".join(filter(None, [error.fix, "Remove the side database."])))


def _with_tables(facts: SiteSurvey, left_out: Mapping[str, str], manifest: Manifest) -> list[str]:
    """Return the selected models that the side database has tables for. Raises if rows of others would be lost."""
    tables = (manifest.fingerprint or {})["tables"]
    # The rows of a view come from other tables.
    missing = [
        label for label in facts["selected"] if label in tables and left_out.get(label) == fixture_stream.NO_TABLE
    ]
    if missing:
        raise SauvegardeError(
            "The site's migrations make no table for what the archive holds: the live database was not touched.",
            "\n".join(f"{label}: {tables[label]['rows']} rows" for label in missing),
            "Exclude these models (migrate_exclude), or let a migration make their tables.",
        )
    return [label for label in facts["selected"] if label not in left_out]


def _notes(proof: Mapping[str, Any], skipped: Sequence[str], loaded: Mapping[str, Any]) -> list[str]:
    """Return what an operator should know of what is not as it was, one sentence each."""
    notes = [f"the trigger {name} was off while the new database was filled" for name in loaded["silent"]]
    notes += migration_plan.accepted(loaded["problems"])
    notes += [f"left out: the setting {name}, which this server does not know" for name in skipped]
    for label, fields in sorted(proof["left_out"].items()):
        notes.append(f"{label}: only one side knows {', '.join(fields)}")
    for label, count in sorted(proof["mended"].items()):
        notes.append(f"{label}: {count} repaired or left out, as the policy says; all others are proven")
    return notes


def _require_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    differences = fixture_fingerprint.compare(before, after)
    if differences:
        raise SauvegardeError(
            "Models that were not to be moved have changed: the live database was not touched.",
            "\n".join(difference["sentence"] for difference in differences),
            "Find out what the site does when these models are loaded (a trigger, a cascade); name them too.",
        )
