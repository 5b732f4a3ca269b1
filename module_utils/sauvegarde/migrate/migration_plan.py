"""Plan a migration: report what it would do and all that would stop it, each blocker with its fix. Changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..django import data_dump, data_load, site
from ..django.site import Site
from ..django.worker.lossy_values import SQLITE_DIGITS
from ..errors import SauvegardeError
from ..report import render
from ..restore.confirmation import Confirmation
from ..restore.findings import Blocker, Findings, Note
from ..restore.host_environment import PRODUCTION
from ..restore.plan_mark import PlanMark, digest
from ..system.run_as import call_as
from ..targets.postgresql_target import PostgresqlTarget, SiteAccess
from ..targets.sqlite_target import SqliteTarget
from ..targets.target import LiveDatabase, Survey, Target
from ..targets.target_choice import label_of
from . import target_run
from .migration_request import DatabaseAccess, MigrationRequest

SiteSurvey = dict[str, Any]  # what a site's own process says of it (django.worker.migration_schema)


def survey(
    where: Site,
    labels: Iterable[str] = (),
    exclude: Iterable[str] = (),
    hidden: bool = False,
    include: Iterable[str] = (),
) -> SiteSurvey:
    """Return what the site's own process says of it, and `excluded`: the models that `exclude` names."""
    exclude = list(exclude)
    values = {
        "labels": list(labels),
        "exclude": [*data_dump.EXCLUDE, *exclude],
        "hidden": hidden,
        "include": list(include),
    }
    facts: SiteSurvey = site.run(where, "survey", values)
    facts["excluded"] = [label for label in facts["models"] if _is_named(label, exclude)]
    return facts


def _is_named(label: str, names: Iterable[str]) -> bool:
    lower = {name.lower() for name in names}
    return label in lower or label.split(".")[0] in lower


def target_of(facts: SiteSurvey, user: str, access: DatabaseAccess) -> tuple[Target, str]:
    """Return the target that a site's survey describes, and the OS user that owns its database. user: the site's."""
    if facts["vendor"] == "sqlite":
        return SqliteTarget(facts["name"]), access.owner or user
    needs = SiteAccess(facts["engine"], facts["user"] or user, tuple(facts.get("schemas", ())))
    return PostgresqlTarget(facts["name"], access.server, access.directory, needs), access.owner or "postgres"


@dataclass(frozen=True)
class PlanDetails:
    """What a plan says of a target whose database can be migrated into. label: what a confirmation names."""

    source: dict[str, Any]
    target: dict[str, Any]
    database: str
    label: str
    labels: tuple[str, ...]
    live: LiveDatabase | None
    kept: tuple[Mapping[str, Any], ...]
    models: int
    mark: PlanMark

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        live = asdict(self.live) if self.live else None
        return dict(values, labels=list(self.labels), live=live, kept=list(self.kept), mark=str(self.mark))


@dataclass(frozen=True)
class MigrationPlan:
    """A plan: its blockers, its notes and, if the target's database is of an engine that we know, its details."""

    blockers: tuple[Blocker, ...]
    notes: tuple[Note, ...]
    details: PlanDetails | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as a module's result."""
        return dict(
            self.details.as_dict() if self.details else {},
            obstacles=[blocker.as_dict() for blocker in self.blockers],
            warnings=[note.as_dict() for note in self.notes],
        )


def make(request: MigrationRequest, source: Mapping[str, Any]) -> MigrationPlan:
    """Return the plan. source: what migration_source.look returned, {} if there is nothing to compare with."""
    facts = survey(request.site, request.labels, request.exclude, bool(request.labels), request.include)
    findings = Findings([Blocker.from_dict(blocker) for blocker in source.get("obstacles", ())])
    if facts["vendor"] not in ("sqlite", "postgresql"):
        findings.block(f"The target's database is {facts['vendor']}.", "", "Migrate into PostgreSQL or SQLite.")
        return MigrationPlan(tuple(findings.blockers), tuple(findings.notes))
    target, owner = target_of(facts, request.site.user, request.access)
    seen = Survey.from_dict(call_as(owner, target_run.survey, target, facts["tables"]))
    _check_target(facts, seen, findings)
    _check_choice(facts, source, request, seen.live, findings)
    _note_effects(facts, source, request, findings)
    if source:
        _check_source(facts, source, request, findings)
    details = PlanDetails(
        source={key: source.get(key, "") for key in ("host", "vendor", "django", "masked", "archive")},
        target={
            "host": socket.gethostname(),
            "version": seen.version,
            "django": facts["django"],
            "vendor": facts["vendor"],
        },
        database=facts["name"],
        label=label_of(facts["name"]),
        labels=request.labels,
        live=seen.live,
        kept=tuple(database.as_dict() for database in seen.kept),
        models=len(facts["selected"]),
        mark=_mark(facts, source, request, target, owner, findings.blockers),
    )
    return MigrationPlan(tuple(findings.blockers), tuple(findings.notes), details)


def _check_target(facts: SiteSurvey, seen: Survey, findings: Findings) -> None:
    for sentence in seen.obstacles:
        findings.block(f"{facts['name']} cannot be replaced.", sentence, "Then run it again.")
    elsewhere = _elsewhere(facts, seen.system)
    if elsewhere:
        findings.block(*elsewhere)
    if seen.standby:
        findings.block(
            "The target's server is a standby.", "It takes no changes of its own.", "Migrate into its primary."
        )
    if facts["engine"].endswith("postgis") and not seen.postgis:
        findings.block("PostGIS is not available on the target.", "", "Install its package (the postgresql role does).")
    if seen.live is None:
        return
    if seen.live.sessions:
        findings.note(
            f"{len(seen.live.sessions)} session(s) on {facts['name']}.",
            "The swap ends them."
            if facts["vendor"] == "postgresql"
            else "Each sees the old file until it opens it anew.",
        )
    if seen.live.others:
        findings.note(
            "The site's migrations do not make all that is in the live database; this will be missing: "
            + ", ".join(seen.live.others)
            + "."
        )


def _check_choice(
    facts: SiteSurvey,
    source: Mapping[str, Any],
    request: MigrationRequest,
    live: LiveDatabase | None,
    findings: Findings,
) -> None:
    """Note which models and rows are not moved; require that something is moved, and that the target can store it."""
    findings.notes += _left_out(facts, source, request)
    if not facts["selected"]:
        findings.block(
            "Nothing would be moved.", "Every site makes its own permissions and content types.", "Name other models."
        )
    if request.labels and live is None:
        findings.block(
            "There is no live database that the named models could go into.", "", "Migrate the whole site first."
        )
    elif request.labels:
        findings.note("What is written to the live database from now until the swap will not be in the new one.")


def _note_effects(facts: SiteSurvey, source: Mapping[str, Any], request: MigrationRequest, findings: Findings) -> None:
    """Note what is off while the new database is filled, and which values change."""
    if facts["listeners"]:
        names = ["{} ({} models)".format(*listener) for listener in sorted(facts["listeners"].items())]
        findings.note(
            f"The site's listeners do not hear of what is written into the new database: {', '.join(names)}.",
            "What they wrote on the source is part of its data.",
            "Make anew what they keep elsewhere: a search index, a cache.",
        )
    findings.notes += _changed_values(facts, source, request.policy)
    findings.notes += _trigger_notes(facts["triggers"])
    if facts["by_django"]:
        names = ["{} {}".format(*model) for model in sorted(facts["by_django"].items())]
        findings.note(f"Django itself writes each object, which takes its time: {'; '.join(names)}.")


def _check_source(facts: SiteSurvey, source: Mapping[str, Any], request: MigrationRequest, findings: Findings) -> None:
    for sentence in source["warnings"]:
        findings.note(sentence)
    _compare(source, facts, request.unknown, findings)
    is_production = request.environment == PRODUCTION
    if source["is_masked"] and is_production:
        report = findings.note if request.labels else findings.block
        report(
            "The source's own data were masked when they came: invented people would replace production's.",
            "",
            "Name the models to move (migrate_labels, migrate_sets), none of them masked.",
        )
    if not source["masked"] and not is_production:
        findings.note("Nothing is masked: personal data leave their host.")


def _left_out(facts: SiteSurvey, source: Mapping[str, Any], request: MigrationRequest) -> Iterator[Note]:
    """Yield notes about models and rows that are not moved, and about rows that no manager shows."""
    without = dict(source.get("left_out", {}), **facts["left_out"])
    for label, why in sorted(without.items()):
        yield Note(f"{label} is left out: it is {why}.")
    if facts["excluded"]:
        yield Note(f"Excluded (migrate_exclude): {', '.join(sorted(facts['excluded']))}.")
    for label in facts["selected"]:
        for name, field in sorted(facts["models"][label]["fields"].items()):
            related = (field["relation"] or [""])[0]
            if related in facts["excluded"] and request.is_whole_site:
                yield Note(
                    f"{label}.{name} refers to {related}, which is excluded: the new database has no row of it.",
                    "",
                    "What it refers to is not there: choose foreign_key in migrate_values, or exclude it too.",
                )
    hidden = _counts(source.get("hidden", {}))
    if hidden and request.hidden == "travel":
        yield Note(f"Rows that a default manager hides come along: {hidden}.", "", "migrate_hidden: stay")
    elif hidden:
        yield Note(f"Rows that a default manager hides do not come along (migrate_hidden): {hidden}.")
    replaced = _counts(facts["hidden"])
    if replaced and request.labels:
        yield Note(f"Rows of the target that a default manager hides are replaced like all others: {replaced}.")


def accepted(problems: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return sentences: which values the policy changed or left out, each field with its first one."""
    by_field: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for problem in problems:
        if problem["action"] not in ("stop", "keep") and problem["field"]:
            key = (problem["model"], problem["field"], problem["kind"], problem["action"])
            by_field.setdefault(key, []).append(problem)
    return [
        "{}.{}: {} value(s) accepted ({}: {}); the first: {!r}: {}".format(
            model, field, len(some), kind, action, some[0]["pk"], some[0]["detail"]
        )
        for (model, field, kind, action), some in sorted(by_field.items())
    ]


def _changed_values(facts: SiteSurvey, source: Mapping[str, Any], policy: Mapping[str, Any]) -> Iterator[Note]:
    """Yield which values the target will not keep, and which changes the policy accepts."""
    policies: dict[str, Any] = data_load.policies(dict({"precision": "stop", "nan": "stop"}, **policy))
    changes_engine = source.get("vendor") == "postgresql" and facts["vendor"] == "sqlite"
    for label in facts["selected"] if changes_engine else ():
        for name, field in sorted(facts["models"][label]["fields"].items()):
            if (field.get("digits") or 0) > SQLITE_DIGITS and _action(policies, "precision", label, name) == "stop":
                yield Note(
                    f"{label}.{name} may have {field['digits']} digits, of which SQLite keeps {SQLITE_DIGITS}.",
                    "A value with more stops the migration before anything is written.",
                    f'migrate_values: {{"precision": {{"{label}.{name}": "round"}}}}',
                )
    for kind, action in sorted(policies.items()):
        chosen = action if isinstance(action, dict) else {"all fields": action}
        names = ["{} ({})".format(*field) for field in sorted(chosen.items()) if field[1] != "stop"]
        if names and kind != "hidden":
            yield Note(f"Accepted (migrate_values), {kind}: {', '.join(names)}.")


def _action(policies: Mapping[str, Any], kind: str, label: str, name: str) -> str:
    action = policies[kind]
    return str(action.get(f"{label}.{name}".lower(), action["*"]) if isinstance(action, dict) else action)


def _trigger_notes(triggers: Collection[tuple[str, str]]) -> Iterator[Note]:
    """Yield which of the database's triggers are off while the new one is filled. triggers: (name, why it stays on)."""
    off = [name for name, stays in triggers if not stays]
    if off:
        yield Note(
            f"Triggers of the database are off while the new one is filled: {', '.join(off)}.",
            "What they wrote on the source is part of its data. They are on again before the swap.",
            "Make anew what they keep in tables that no model knows.",
        )
    for name, stays in triggers:
        if stays:
            yield Note(f"The trigger {name} stays on while the new database is filled: {stays}.")


def _counts(rows: Mapping[str, int]) -> str:
    return ", ".join("{} {}".format(*model) for model in sorted(rows.items()))


def _elsewhere(facts: SiteSurvey, system: str) -> tuple[str, str, str] | None:
    """Return (what, why, fix) if the site's database is on another server than the one that its owner reaches."""
    if not (facts.get("system") and system and facts["system"] != system):
        return None
    return (
        "The site's database is on another server than the one that its keeper connects to.",
        f"System identifiers: {facts['system']} (site), {system} (keeper).",
        "Correct “connection”, or the site's settings.",
    )


def check_server(facts: SiteSurvey, system: str) -> None:
    """Raise SauvegardeError if the site's database is on another server than the one that its owner reaches."""
    elsewhere = _elsewhere(facts, system)
    if elsewhere:
        raise SauvegardeError(*elsewhere)


def _compare(source: Mapping[str, Any], target: SiteSurvey, unknown: str, findings: Findings) -> None:
    """Find where the code on both sides, and the data, disagree. unknown: `stop` or `skip`."""
    more = sorted(set(source["migrations"]) - set(target["migrations"]))
    less = sorted(set(target["migrations"]) - set(source["migrations"]))
    # Applications that only one database's kind needs bring no models of their own.
    if more:
        findings.note("The source's code has migrations that the target's lacks: " + ", ".join(more) + ".")
    if less:
        findings.note("The target's code has migrations that the source's lacks: " + ", ".join(less) + ".")
    behind = sorted(set(target["migrations"]) - set(target["applied"] or target["migrations"]))
    if behind:
        findings.note("The target's live database lacks migrations; the new one gets them: " + ", ".join(behind) + ".")
    models = [label for label in source["selected"] if label not in target["models"]]
    fields = []
    for label in source["selected"]:
        if label in target["models"]:
            target_fields, sent = target["models"][label]["fields"], source["models"][label]["fields"]
            fields += [f"{label}.{name}" for name in sorted(sent) if name not in target_fields]
            new = [name for name in sorted(target_fields) if name not in sent]
            if new:
                findings.note(f"The source does not know {label}: {', '.join(new)}. They get the target's defaults.")
    if models or fields:
        report = findings.note if unknown == "skip" else findings.block
        report(
            "The target does not know all that the source has.",
            "\n".join(["model " + label for label in models] + ["field " + name for name in fields]),
            "Deploy the source's code on the target, or leave these out (migrate_unknown: skip).",
        )


def source_digest(host: str, archive: str, masked: bool) -> str:
    """Return the part of a plan's mark that is about the source. archive: 'JOB ID of HOST', '' for the live site."""
    return digest([host, archive, masked])


def target_digest(facts: SiteSurvey, request: MigrationRequest, system: str) -> str:
    """Return the part of a plan's mark that is about the target and what is moved. system: system identifier."""
    options = [
        request.labels,
        request.exclude,
        request.include,
        request.hidden,
        dict(request.policy),
        request.unknown,
    ]
    return digest([socket.gethostname(), facts["vendor"], facts["name"], system, options])


def _mark(
    facts: SiteSurvey,
    source: Mapping[str, Any],
    request: MigrationRequest,
    target: Target,
    owner: str,
    blockers: Sequence[Blocker],
) -> PlanMark:
    return PlanMark(
        source=source_digest(source.get("host", ""), source.get("archive", ""), bool(source.get("masked"))),
        target=target_digest(facts, request, call_as(owner, target.system_identifier)),
        live=digest(call_as(owner, target.live_facts)),
        blockers=digest([blocker.what for blocker in blockers]),
    )


def refusal(plan: MigrationPlan, confirmation: Confirmation, confirmed: PlanMark | None = None) -> str:
    """Return why the migration may not go on: its blockers, or what a confirmation lacks; "" if it may.

    confirmed: the mark of the plan that was confirmed, if that was an earlier one.
    """
    if plan.blockers or plan.details is None:
        return "\n".join(render.of_obstacles(plan.as_dict()))
    try:
        confirmation.require(plan.details.database)
        if confirmed is not None:
            confirmed.require(plan.details.mark)
    except SauvegardeError as error:
        return str(error)
    return ""


def lines(plan: MigrationPlan) -> list[str]:
    """Return the plan for people, in the form of a restore's."""
    text: list[str] = []
    details = plan.details
    if details is not None:
        source, target, live = details.source, details.target, details.live
        text.append(
            "Source: {} ({}, Django {}), {}".format(
                source["archive"] or source["host"] or "the live site",
                source["vendor"],
                source["django"],
                "masked" if source["masked"] else "as it is",
            )
        )
        text.append("Moves:  " + (", ".join(details.labels) or f"the whole site, {details.models} models"))
        text.append("Target: {} on {host}, {version}, Django {django}".format(details.label, **target))
        text.append("Live:   " + (render.size(live.bytes) if live else "there is no such database yet"))
        text += render.of_kept(details.kept)
    text += ["Note:   " + " ".join(filter(None, [note.what, note.why])) for note in plan.notes]
    values = plan.as_dict()
    return text + render.mark_lines(values, "migrate") + render.blocked_lines(values)
