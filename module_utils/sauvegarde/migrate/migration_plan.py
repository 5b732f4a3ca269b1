"""What a migration would do and everything that would stop it, each obstacle with its fix. Changes nothing."""

from __future__ import annotations

import socket
from dataclasses import asdict
from pathlib import Path

from ..django import data_dump, data_load, site
from ..django.worker.lossy_values import SQLITE_DIGITS
from ..errors import SauvegardeError
from ..postgres.postgres_server import Server
from ..report import render
from ..restore.confirmation import Confirmation
from ..restore.host_environment import PRODUCTION
from ..restore.plan_mark import PlanMark, digest
from ..system.run_as import call_as
from ..targets.postgresql_target import PostgresqlTarget, SiteAccess
from ..targets.sqlite_target import SqliteTarget
from ..targets.target import Survey, Target
from ..targets.target_choice import label_of
from . import target_run


def survey(where, labels=(), exclude=(), hidden=False, include=()):
    """The site in plain values (`worker_migrate.survey`), and `excluded`: the models that `exclude` names."""
    values = {
        "labels": list(labels),
        "exclude": [*data_dump.EXCLUDE, *exclude],
        "hidden": hidden,
        "include": list(include),
    }
    found = site.run(where, "survey", values)
    found["excluded"] = [label for label in found["models"] if _is_named(label, exclude)]
    return found


def _is_named(label, names):
    names = {name.lower() for name in names}
    return label in names or label.split(".")[0] in names


def target_of(found, user, spec) -> tuple[Target, str]:
    """Return the target that a site's survey found, and the OS user that owns its database. user: the site's own."""
    if found["vendor"] == "sqlite":
        return SqliteTarget(found["name"]), spec["keeper"] or user
    access = SiteAccess(found["engine"], found["user"] or user, tuple(found.get("schemas", ())))
    server = Server.from_values(spec["connection"])
    target = PostgresqlTarget(found["name"], server, Path(spec["server_directory"]), access)
    return target, spec["keeper"] or "postgres"


def make(where, spec, source):
    """The plan. `source`: what `source.look` gave, {} where there is nothing to compare with.

    Keys: source, target, live, kept, database, label (what a confirmation names), differences, obstacles, warnings.
    """
    found = survey(where, spec["labels"], spec["exclude"], bool(spec["labels"]), spec["include"])
    obstacles = list(source.get("obstacles", []))
    warnings = []

    def stop(what, why="", fix=""):
        obstacles.append({"what": what, "why": why, "fix": fix})

    def warn(what, why="", fix=""):
        warnings.append({"what": what, "why": why, "fix": fix})

    if found["vendor"] not in ("sqlite", "postgresql"):
        stop("The target's database is {}.".format(found["vendor"]), "", "Migrate into PostgreSQL or SQLite.")
        return {"obstacles": obstacles, "warnings": warnings}
    target, owner = target_of(found, where.user, spec)
    seen = Survey.from_dict(call_as(owner, target_run.survey, target, found["tables"]))
    for sentence in seen.obstacles:
        stop(f"{found['name']} cannot be replaced.", sentence, "Then run it again.")
    if _elsewhere(found, seen.system):
        stop(*_elsewhere(found, seen.system))
    if seen.standby:
        stop("The target's server is a standby.", "It takes no changes of its own.", "Migrate into its primary.")
    if found["engine"].endswith("postgis") and not seen.postgis:
        stop("PostGIS is not available on the target.", "", "Install its package (the postgresql role does).")
    live = seen.live
    if live:
        if live.sessions:
            warn(
                f"{len(live.sessions)} session(s) on {found['name']}.",
                "The swap ends them."
                if found["vendor"] == "postgresql"
                else "Each sees the old file until it opens it anew.",
            )
        if live.others:
            warn(
                "The site's migrations do not make all that is in the live database; this will be missing: "
                + ", ".join(live.others)
                + "."
            )
    for sentence in _choice(found, source, spec):
        warn(*sentence)
    if not found["selected"]:
        stop("Nothing would be moved.", "Every site makes its own permissions and content types.", "Name other models.")
    if spec["labels"] and not live:
        stop("There is no live database that the named models could go into.", "", "Migrate the whole site first.")
    elif spec["labels"]:
        warn("What is written to the live database from now until the swap will not be in the new one.")
    if found["listeners"]:
        names = ["{} ({} models)".format(*each) for each in sorted(found["listeners"].items())]
        warn(
            "The site's listeners do not hear of what is written into the new database: {}.".format(", ".join(names)),
            "What they wrote on the source is part of its data.",
            "Make anew what they keep elsewhere: a search index, a cache.",
        )
    for sentence in _values(found, source, spec["policy"]):
        warn(*sentence)
    for sentence in _triggers(found["triggers"]):
        warn(*sentence)
    if found["by_django"]:
        names = ["{} {}".format(*each) for each in sorted(found["by_django"].items())]
        warn("Django itself writes each object, which takes its time: {}.".format("; ".join(names)))
    if source:
        for sentence in source["warnings"]:
            warn(sentence)
        _compare(source, found, stop, warn, spec["unknown"])
        if source["is_masked"] and spec["environment_of_host"] == PRODUCTION:
            say = warn if spec["labels"] else stop
            say(
                "The source's own data were masked when they came: invented people would replace production's.",
                "",
                "Name the models to move (migrate_labels, migrate_sets), none of them masked.",
            )
        if not source["masked"] and spec["environment_of_host"] != PRODUCTION:
            warn("Nothing is masked: personal data leave their host.")
    return {
        "source": {key: source.get(key, "") for key in ("host", "vendor", "django", "masked", "archive")},
        "target": {
            "host": socket.gethostname(),
            "version": seen.version,
            "django": found["django"],
            "vendor": found["vendor"],
        },
        "database": found["name"],
        "label": label_of(found["name"]),
        "labels": list(spec["labels"]),
        "live": asdict(live) if live else None,
        "kept": [each.as_dict() for each in seen.kept],
        "models": len(found["selected"]),
        "mark": str(_mark(found, source, spec, target, owner, obstacles)),
        "obstacles": obstacles,
        "warnings": warnings,
    }


def _choice(found, source, spec):
    """(what, why, fix): which models and rows do not come along, and which rows no manager shows."""
    told = []
    without = dict(source.get("left_out", {}), **found["left_out"])
    for label, why in sorted(without.items()):
        told.append((f"{label} is left out: it is {why}.", "", ""))
    if found["excluded"]:
        told.append(("Excluded (migrate_exclude): {}.".format(", ".join(sorted(found["excluded"]))), "", ""))
    for label in found["selected"]:
        for name, field in sorted(found["models"][label]["fields"].items()):
            to = (field["relation"] or [""])[0]
            if to in found["excluded"] and not spec["labels"]:
                told.append(
                    (
                        f"{label}.{name} refers to {to}, which is excluded: the new database has no row of it.",
                        "",
                        "What it refers to is not there: choose foreign_key in migrate_values, or exclude it too.",
                    )
                )
    hidden = _counted(source.get("hidden", {}))
    if hidden and spec["hidden"] == "travel":
        told.append((f"Rows that a default manager hides come along: {hidden}.", "", "migrate_hidden: stay"))
    elif hidden:
        told.append((f"Rows that a default manager hides do not come along (migrate_hidden): {hidden}.", "", ""))
    gone = _counted(found["hidden"])
    if gone and spec["labels"]:
        told.append((f"Rows of the target that a default manager hides are replaced like all others: {gone}.", "", ""))
    return told


def accepted(problems):
    """Sentences: which values the policy let go otherwise than they were sent, each field with its first one."""
    found = {}
    for each in problems:
        if each["action"] not in ("stop", "keep") and each["field"]:
            found.setdefault((each["model"], each["field"], each["kind"], each["action"]), []).append(each)
    return [
        "{}.{}: {} value(s) accepted ({}: {}); the first: {!r}: {}".format(
            model, field, len(some), kind, action, some[0]["pk"], some[0]["detail"]
        )
        for (model, field, kind, action), some in sorted(found.items())
    ]


def _values(found, source, policy):
    """(what, why, fix): values that the target will not keep, and those that the policy accepts."""
    policy = data_load.policies(dict({"precision": "stop", "nan": "stop"}, **policy))
    changing = source.get("vendor") == "postgresql" and found["vendor"] == "sqlite"
    for label in found["selected"] if changing else ():
        for name, field in sorted(found["models"][label]["fields"].items()):
            if (field.get("digits") or 0) > SQLITE_DIGITS and _action(policy, "precision", label, name) == "stop":
                yield (
                    f"{label}.{name} may have {field['digits']} digits, of which SQLite keeps {SQLITE_DIGITS}.",
                    "A value with more stops the migration before anything is written.",
                    f'migrate_values: {{"precision": {{"{label}.{name}": "round"}}}}',
                )
    for kind, action in sorted(policy.items()):
        chosen = action if isinstance(action, dict) else {"all fields": action}
        names = ["{} ({})".format(*each) for each in sorted(chosen.items()) if each[1] != "stop"]
        if names and kind != "hidden":
            yield (f"Accepted (migrate_values), {kind}: {', '.join(names)}.", "", "")


def _action(policy, kind, label, name):
    action = policy[kind]
    return action.get(f"{label}.{name}".lower(), action["*"]) if isinstance(action, dict) else action


def _triggers(found):
    """(what, why, fix): which of the database's triggers are silent while the new one is filled, and which are not."""
    off = [name for name, stays in found if not stays]
    if off:
        yield (
            "Triggers of the database are off while the new one is filled: {}.".format(", ".join(off)),
            "What they wrote on the source is part of its data. They are on again before the swap.",
            "Make anew what they keep in tables that no model knows.",
        )
    for name, stays in found:
        if stays:
            yield (f"The trigger {name} stays on while the new database is filled: {stays}.", "", "")


def _counted(rows):
    return ", ".join("{} {}".format(*each) for each in sorted(rows.items()))


def _elsewhere(found, system):
    """(what, why, fix) where the site's database is on another server than its keeper's; else nothing."""
    if not (found.get("system") and system and found["system"] != system):
        return ()
    return (
        "The site's database is on another server than the one that its keeper connects to.",
        "System identifiers: {} (site), {} (keeper).".format(found["system"], system),
        "Correct “connection”, or the site's settings.",
    )


def check_server(found, system):
    """Raise where the site's database is on another server than its keeper's."""
    if _elsewhere(found, system):
        raise SauvegardeError(*_elsewhere(found, system))


def _compare(source, target, stop, warn, unknown):
    """Where the code on both sides, and the data, disagree."""
    more = sorted(set(source["migrations"]) - set(target["migrations"]))
    less = sorted(set(target["migrations"]) - set(source["migrations"]))
    # Applications that only one database's kind needs bring no models of their own.
    if more:
        warn("The source's code has migrations that the target's lacks: " + ", ".join(more) + ".")
    if less:
        warn("The target's code has migrations that the source's lacks: " + ", ".join(less) + ".")
    behind = sorted(set(target["migrations"]) - set(target["applied"] or target["migrations"]))
    if behind:
        warn("The target's live database lacks migrations; the new one gets them: " + ", ".join(behind) + ".")
    missing = [label for label in source["selected"] if label not in target["models"]]
    fields = []
    for label in source["selected"]:
        if label in target["models"]:
            there = target["models"][label]["fields"]
            fields += [f"{label}.{name}" for name in sorted(source["models"][label]["fields"]) if name not in there]
            new = [name for name in sorted(there) if name not in source["models"][label]["fields"]]
            if new:
                warn(f"The source does not know {label}: {', '.join(new)}. They get the target's defaults.")
    if missing or fields:
        say = warn if unknown == "skip" else stop
        say(
            "The target does not know all that the source has.",
            "\n".join(["model " + label for label in missing] + ["field " + name for name in fields]),
            "Deploy the source's code on the target, or leave these out (migrate_unknown: skip).",
        )


def source_digest(host: str, archive: str, masked: bool) -> str:
    """Return the part of a plan's mark that is about the source. archive: 'JOB ID of HOST', '' for the live site."""
    return digest([host, archive, masked])


def target_digest(found, spec, system: str) -> str:
    """Return the part of a plan's mark that is about the target and what is moved. system: system identifier."""
    options = [spec[name] for name in ("labels", "exclude", "include", "hidden", "policy", "unknown")]
    return digest([socket.gethostname(), found["vendor"], found["name"], system, options])


def _mark(found, source, spec, target: Target, owner: str, obstacles) -> PlanMark:
    return PlanMark(
        source=source_digest(source.get("host", ""), source.get("archive", ""), bool(source.get("masked"))),
        target=target_digest(found, spec, call_as(owner, target.system_identifier)),
        live=digest(call_as(owner, target.live_facts)),
        blockers=digest([obstacle["what"] for obstacle in obstacles]),
    )


def refusal(plan, confirmation: Confirmation, confirmed: PlanMark | None = None) -> str:
    """Return why the migration may not go on: its obstacles, or what a confirmation lacks; "" if it may.

    confirmed: the mark of the plan that was confirmed, if that was an earlier one.
    """
    if plan["obstacles"]:
        return "\n".join(render.of_obstacles(plan))
    try:
        confirmation.require(plan["database"])
        if confirmed is not None:
            confirmed.require(PlanMark.from_text(plan["mark"]))
    except SauvegardeError as error:
        return str(error)
    return ""


def lines(plan):
    """The plan for people, in the words of a restore's."""
    told = []
    if "target" in plan:
        source, target, live = plan["source"], plan["target"], plan["live"]
        told.append(
            "Source: {} ({}, Django {}), {}".format(
                source["archive"] or source["host"] or "the live site",
                source["vendor"],
                source["django"],
                "masked" if source["masked"] else "as it is",
            )
        )
        told.append("Moves:  " + (", ".join(plan["labels"]) or "the whole site, {} models".format(plan["models"])))
        told.append("Target: {} on {host}, {version}, Django {django}".format(plan["label"], **target))
        told.append("Live:   " + (render.size(live["bytes"]) if live else "there is no such database yet"))
        told += render.of_kept(plan["kept"])
    for each in plan["warnings"]:
        told.append("Note:   " + " ".join(filter(None, [each["what"], each["why"]])))
    return told + render.mark_lines(plan, "migrate") + render.blocked_lines(plan)
