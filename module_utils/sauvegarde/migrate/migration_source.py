"""Dump the data that leaves a source: an archive of the kind `dumpdata`, masked unless the target is production.

The dump is always taken on the source's own host, from the live site or from an archive that is opened there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import psycopg2

from ..archive import archive_reader, compression, ids, manifest
from ..archive.manifest import Manifest
from ..backup import kinds
from ..backup.kinds import sqlite
from ..django import data_dump, masking, masking_report, policy_actions
from ..django.site import Site
from ..errors import SauvegardeError
from ..postgres import postgres_server, sql_names
from ..restore import restore_run, restore_state
from ..restore.host_environment import PRODUCTION, REPOSITORY
from ..restore.plan_mark import PlanMark
from ..restore.request import RestoreRequest
from ..system import lock
from ..system.run_as import call_as
from ..targets import side_database
from ..targets.postgresql_target import PostgresqlTarget
from . import migration_plan, target_run
from .migration_plan import SiteSurvey
from .migration_request import DatabaseAccess

JOB = "outgoing"
Policy = Optional[Mapping[str, Any]]  # the masking policy
_Opened = tuple[Site, Optional[list[str]]]  # the site on the opened archive; files that are read through its models
# Where archives are opened: neither in memory nor in the backups' folder. The next run clears what a killed run left.
_PLACE, _PREFIX = "/var/tmp", "sauvegarde-opened-"
# Where playbooks fetch archives from repositories, one folder per run, which the run removes unless it is killed.
_FETCHED, _OLD = "fetched-*", 86400
# Hosts that may see what is masked: production's own, and the one that keeps its repository.
SEEING = (PRODUCTION, REPOSITORY)


def is_masked(choice: str, target_environment: str) -> bool:
    """Whether the data are masked. `choice`: auto, always or never; auto masks unless the target is production."""
    return choice == "always" or (choice == "auto" and target_environment != PRODUCTION)


def options(
    policy: Policy,
    key: str,
    labels: Iterable[str],
    masked: bool,
    exclude: Iterable[str] = (),
    hidden: str = "travel",
    include: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the options of the dump (`worker_request.DumpOptions`)."""
    values: dict[str, Any] = {
        "labels": list(labels),
        "exclude": [*data_dump.EXCLUDE, *exclude],
        "include": list(include),
        "format": "jsonl",
        "derived": False,
        "exact": True,
    }
    values["all"] = hidden == "travel"
    if masked:
        values.update(policy=policy, key=key)
    return values


def look(
    where: Site,
    policy: Policy,
    key: str,
    labels: Sequence[str],
    masked: bool,
    about: Mapping[str, Any],
    exclude: Iterable[str] = (),
    include: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the source in plain values: the site's survey (`migration_survey.survey`), whether the dump is `masked`,
    whether the data `is_masked` already, `warnings` and `obstacles`. Changes nothing.

    `about`: as for `make`, with `environment`, this host's.
    """
    facts = migration_plan.survey(where, labels, exclude, not about["path"], include)
    obstacles: list[SauvegardeError] = []
    origin: Manifest | None = None
    facts["warnings"] = []
    if about["path"]:
        if masked and about["environment"] not in SEEING:
            obstacles.append(
                SauvegardeError(
                    "An archive that must be masked is not opened here.",
                    "This host is {!r}; personal data do not leave production's hosts.".format(about["environment"]),
                    "Take a host of production or of its repository as migrate_source.",
                )
            )
        try:
            origin = read(about["path"])
            if facts["hiding"] and origin.kind not in _ENGINES and not _holds_all(origin):
                facts["warnings"].append(_SHOWN.format(", ".join(facts["hiding"])))
            facts["archive"] = _named(origin)
            obstacles += _of_archive(where, facts, origin, labels, about)
            if origin.kind in _ENGINES:
                facts["warnings"].append(_UNSEEN)
        except SauvegardeError as error:
            obstacles.append(error)
    else:
        obstacles += _of_site(facts, "Run the site's migrate on the source.")
        facts["warnings"] = _ahead(facts)
    if masked:
        try:
            check(policy, key, facts)
        except SauvegardeError as error:
            obstacles.append(error)
    facts["is_masked"] = bool(origin and origin.source.get("masked"))
    if facts["applied"] is not None and not facts["is_masked"]:
        target, keeper = migration_plan.target_of(facts, where.user, DatabaseAccess.from_values(about))
        with contextlib.suppress(SauvegardeError):  # the database is not on this host: no migration created it
            facts["is_masked"] = call_as(keeper, target_run.is_masked, target)
    return dict(facts, host=os.uname().nodename, masked=masked, obstacles=[error.as_dict() for error in obstacles])


def _of_site(facts: SiteSurvey, fix: str) -> list[SauvegardeError]:
    """Return the obstacles to a dump of the live database. fix: what to do about missing migrations."""
    if facts["applied"] is None:
        why = facts["refused"] or "{} does not exist.".format(facts["name"])
        fix = "Correct the site's environment file, or name an archive to take the data from."
        return [SauvegardeError("The source's database cannot be asked.", why, fix)]
    missing = sorted(set(facts["migrations"]) - set(facts["applied"]))
    if not missing:
        return []
    what = "The source's code and data disagree: migrations are not applied."
    return [SauvegardeError(what, ", ".join(missing), fix)]


def _holds_all(origin: Manifest) -> bool:
    return bool(origin.source.get("options", {}).get("all"))


def _ahead(facts: SiteSurvey) -> list[str]:
    """Return a warning if the database seems newer than the code, which then does not see all of the data.

    It is only a warning: a database also remembers the migrations of removed applications, and squashed migrations,
    which the code names only for a while.
    """
    code = set(facts["migrations"])
    applications = {name.split(".")[0] for name in code}
    more = sorted(set(facts["applied"] or ()) - code - set(facts["replaced"]))
    more = [name for name in more if name.split(".")[0] in applications]
    what = "The source's database has migrations that its code lacks: {}. What they added may not come along."
    return [what.format(", ".join(more))] if more else []


def _of_archive(
    where: Site, facts: SiteSurvey, origin: Manifest, labels: Sequence[str], about: Mapping[str, Any]
) -> list[SauvegardeError]:
    """Return the obstacles to a dump from an archive, as far as its manifest shows them. The site's own database need
    not exist."""
    if origin.kind in _ENGINES:
        if facts["vendor"] != _ENGINES[origin.kind]:
            return [
                SauvegardeError(
                    "The archive is of another engine than the site's: {} for {}.".format(origin.kind, facts["vendor"]),
                    "It is read through the site, which would look for it in its own database.",
                    "Take a migrate_source whose site is on that engine, or an archive of the kind dumpdata.",
                )
            ]
        target, keeper = migration_plan.target_of(facts, where.user, DatabaseAccess.from_values(about))
        return [
            SauvegardeError("The archive cannot be opened here.", sentence, "Correct that on the source.")
            for sentence in call_as(keeper, target.obstacles_to_open)
        ]
    obstacles: list[SauvegardeError] = []
    held, options = origin.source["many"], origin.source.get("options", {})
    unknown = sorted(set((origin.fingerprint or {})["tables"]) - set(facts["models"]))
    if unknown and not labels:
        obstacles.append(
            SauvegardeError(
                "The archive holds models that the source's code does not know.",
                ", ".join(unknown),
                "Bring the code to that of the archive, or name the models to move (migrate_labels, migrate_sets).",
            )
        )
    missing = [label for label in facts["selected"] if label not in held]
    chosen = "The job took chosen rows only." if options.get("pks") else ""
    if missing or chosen:
        obstacles.append(
            SauvegardeError(
                "The archive does not hold all that would be moved; the target would lose the rest.",
                chosen or ", ".join(missing),
                "Name the models that it holds (migrate_labels, migrate_sets), or take another archive.",
            )
        )
    return obstacles


def check(policy: Policy, key: str, facts: SiteSurvey) -> None:
    """Raise SauvegardeError if the policy does not fit the models that would leave."""
    if not policy:
        raise SauvegardeError(
            "There is no masking policy, and personal data do not leave production.",
            "What leaves for a host that is not production is masked.",
            "Draft a policy (playbooks/policy.yml), correct it, and keep it in the inventory as migrate_policy.",
        )
    masking.Masking(policy, facts["models"], policy_actions.parse_key(key), facts["selected"])


def _named(origin: Manifest) -> str:
    return f"{origin.job} {origin.id} of {origin.host}"


def require_confirmed(about: Mapping[str, Any], masked: bool, plan_mark: str) -> None:
    """Raise SauvegardeError if what would leave is not what the plan of this mark says. plan_mark: '' for any."""
    if not plan_mark:
        return
    confirmed = PlanMark.from_text(plan_mark)
    archive = _named(read(about["path"])) if about["path"] else ""
    source = migration_plan.source_digest(os.uname().nodename, archive, masked)
    confirmed.require(replace(confirmed, source=source))


def make(
    where: Site,
    root: str | Path,
    values: Mapping[str, Any],
    about: Mapping[str, Any],
    progress: Callable[..., Any] = kinds.silent,
) -> dict[str, Any]:
    """Dump the live site, or an archive that is opened here, into ROOT/outgoing/ID, the only archive there.

    `values`: as `options` returns them. `about`: {"path": of the archive, '' for the live site, "keeper": OS user of
    the server that a database's archive is restored on, "connection", "server_directory": as the restore's}. Returns
    {"path", "manifest", "warnings": about a database that was restored from an archive}.
    """
    root = restore_state.folder(root)
    folder = restore_state.folder(root / JOB)
    job: dict[str, Any] = {"name": JOB, "kind": "dumpdata", "dumpdata": dict(values)}
    warnings: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(root / (JOB + ".lock"), "A migration out of this host"))
        old = [path for path in root.parent.glob(_FETCHED) if _is_old(path)]
        remains = [*(folder / name for name in ids.list_ids(folder)), *Path(_PLACE).glob(_PREFIX + "*")]
        for path in remains + old:
            shutil.rmtree(path)
        if about["path"]:
            origin = read(about["path"])
            where, files = stack.enter_context(_OPENED[origin.kind](where, origin, about))
            if files:
                job["archive"] = {"files": files, "masked": origin.source.get("masked", False)}
                natural = ("natural_foreign", "natural_primary")  # as its own objects are
                options = origin.source.get("options", {})
                job["dumpdata"] = dict(values, **{key: options[key] for key in natural if key in options})
            else:
                facts = migration_plan.survey(where)
                for error in _of_site(facts, "Take an archive of the code's own time, or the code of that time."):
                    raise error
                warnings = _ahead(facts)
        job["site"] = where.as_dict()
        manifest = kinds.back_up(job, root, progress)
    return {"path": str(folder / manifest.id), "manifest": manifest, "warnings": warnings}


def report(manifest: Manifest, options: Mapping[str, Any]) -> str:
    """Return the report of a masked dump (`masking_report.render`) from its manifest; "" if nothing was masked.

    `options`: the policy, and "archive", "target", "target_environment" and "decided" of the report.
    """
    facts = manifest["source"].get("masking")
    if not facts:
        return ""
    about = {
        "site": manifest["source"]["site"],
        "host": manifest["host"],
        "source": options["archive"],
        "target": options["target"],
        "environment": options["target_environment"],
        "time": manifest["id"],
        "counts": manifest["source"]["counts"],
        "decided": options["decided"] or {},
    }
    return masking_report.render(facts, options["policy"], about)


def _is_old(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # its own run removes it just now
        return path.stat().st_mtime < time.time() - _OLD
    return False


def read(path: str | Path) -> Manifest:
    """The manifest of an archive that data can be migrated from."""
    stated = manifest.load(Path(str(path)) / manifest.NAME)
    if stated.kind not in _OPENED:
        raise SauvegardeError(
            f"An archive of the kind {stated['kind']} holds no site's data: {path}",
            fix="Name one of the kind " + ", ".join(sorted(_OPENED)) + ".",
        )
    return stated


@contextlib.contextmanager
def _private(user: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield a private temporary folder of the user, and a function that gives its contents to the user."""
    account = pwd.getpwnam(user)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_PLACE) as folder:
        yield folder, lambda: _give(folder, account)


def _give(folder: str, account: pwd.struct_passwd) -> None:
    for path in [Path(folder), *Path(folder).rglob("*")]:
        os.chown(str(path), account.pw_uid, account.pw_gid, follow_symlinks=False)


@contextlib.contextmanager
def _fixtures(where: Site, origin: Manifest, about: Mapping[str, Any]) -> Iterator[_Opened]:
    """Check fixtures, and yield the site that reads them through its models."""
    path = Path(about["path"])
    names = [file.path for file in origin.files]
    if (path / names[0]).exists():
        archive_reader.verify_plain(path)
    else:
        kinds.verify(path)
        names = [name + compression.SUFFIX for name in names]
    yield where, [str(path / name) for name in names]


@contextlib.contextmanager
def _sqlite(where: Site, origin: Manifest, about: Mapping[str, Any]) -> Iterator[_Opened]:
    """Yield the site on a copy of an archived SQLite file."""
    with _private(where.user or "root") as (folder, give):
        plain = Path(folder) / "archive"
        if (Path(about["path"]) / sqlite.FILE).exists():
            shutil.copytree(str(about["path"]), str(plain))
            archive_reader.verify_plain(plain)
        else:
            archive_reader.expand(about["path"], plain)
        give()
        yield where.replace(name=str(plain / sqlite.FILE)), None


@contextlib.contextmanager
def _database(where: Site, origin: Manifest, about: Mapping[str, Any]) -> Iterator[_Opened]:
    """Restore a database's dump beside the live one on this host's server for the block, and drop it afterwards."""
    keeper = about["keeper"] or "postgres"
    with _private(keeper) as (folder, give):
        copy = Path(folder) / origin.id
        shutil.copytree(str(about["path"]), str(copy))
        give()
        values = {"connection": about["connection"], "directory": about["server_directory"]}
        values.update(path=str(copy), database=origin.source["database"] + "__opened", mode="beside")
        # The roles that grants and owners name; `_forget` drops them again.
        values["missing_roles"] = "create"
        restored = call_as(keeper, _restored, values)
        try:
            system = call_as(keeper, _target(values).system_identifier)
            yield where.replace(name=restored["side"], system=system), None
        finally:
            call_as(keeper, _forget, values, restored)


def _target(values: Mapping[str, Any]) -> PostgresqlTarget:
    """The side database's target."""
    server = postgres_server.Server.from_values(values["connection"])
    return PostgresqlTarget(values["database"], server, Path(values["directory"]))


def _restored(values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        run = restore_run.fill(RestoreRequest.from_values(values))
    except BaseException:
        with contextlib.suppress(SauvegardeError, psycopg2.Error):
            _forget_roles(values)
        raise
    # It is never swapped in. If this process is killed, the next migration drops it.
    restore_state.change(values["directory"], run["id"], status=restore_state.OPENED)
    return run


def _forget(values: Mapping[str, Any], restored: Mapping[str, Any]) -> None:
    with contextlib.closing(
        side_database.maintenance(postgres_server.Server.from_values(values["connection"]))
    ) as connection:
        side_database.drop(connection, restored["side"])
    _forget_roles(values)


def _forget_roles(values: Mapping[str, Any]) -> None:
    """Drop the roles that were created to open this dump, and those of earlier runs that failed or were killed: their
    databases are gone."""
    with contextlib.closing(
        side_database.maintenance(postgres_server.Server.from_values(values["connection"]))
    ) as connection:
        for run in restore_state.runs(values["directory"], values["database"]):
            for role in run.roles_created:
                postgres_server.execute(connection, "DROP ROLE IF EXISTS " + sql_names.quote(role))
            if run.roles_created:
                restore_state.change(values["directory"], run.id, roles_made=[])


_OPENED = {"dumpdata": _fixtures, "fixtures": _fixtures, "sqlite": _sqlite, "pg_dump": _database}
_UNSEEN = (
    "The archive is a whole database: which migrations it has is seen when it is opened, after the confirmation. "
    "Where it lacks some of the code's, that ends the migration before anything leaves."
)
_SHOWN = "The archive's job dumps what default managers show, without “all”: rows that those of {} hide are not in it."
_ENGINES = {"sqlite": "sqlite", "pg_dump": "postgresql"}  # whose site can open it
