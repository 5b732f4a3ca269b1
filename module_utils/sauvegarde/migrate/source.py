"""What leaves a source: an archive of the kind `dumpdata`, masked where the target is not production.

It is made on the source's own host, from the live site or from an archive that is opened there, and nowhere else.
"""

import contextlib
import os
import pwd
import shutil
import tempfile
import time
from pathlib import Path

import psycopg2

from .. import archive, kinds, lock, manifest, postgres
from ..acting import acting_as
from ..django import dump, masking, masking_report
from ..errors import SauvegardeError
from ..kinds import sqlite
from ..restore import run, side, state
from . import plan, server

JOB = "outgoing"
PRODUCTION = "production"
# Where archives are opened: not memory, and not the backups' own folder. What a killed run left there is cleared.
_PLACE, _PREFIX = "/var/tmp", "sauvegarde-opened-"
# Where playbooks have archives of repositories brought, a folder a run, which the run removes unless it is killed.
_FETCHED, _OLD = "fetched-*", 86400
# Hosts that may see what is masked: production's own, and the one that keeps its repository.
SEEING = (PRODUCTION, "repository")


def is_masked(choice, target_environment):
    """Whether the data are masked. `choice`: auto, always or never; auto masks unless the target is production."""
    return choice == "always" or (choice == "auto" and target_environment != PRODUCTION)


def options(policy, key, labels, masked, exclude=(), hidden="travel", include=()):
    """The options of the dump (`dump.DEFAULTS`)."""
    values = {
        "labels": list(labels),
        "exclude": [*dump.EXCLUDE, *exclude],
        "include": list(include),
        "format": "jsonl",
        "derived": False,
        "exact": True,
    }
    values["all"] = hidden == "travel"
    if masked:
        values.update(policy=policy, key=key)
    return values


def look(where, policy, key, labels, masked, about, exclude=(), include=()):
    """The source in plain values: the site's survey (`worker_migrate.survey`), whether what leaves is `masked`, whether
    what is there `is_masked` already, `warnings` and `obstacles`. Changes nothing.

    `about`: as `make` has it, with `environment`, this host's.
    """
    found = plan.survey(where, labels, exclude, not about["path"], include)
    obstacles, given, found["warnings"] = [], None, []
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
            given = read(about["path"])
            if found["hiding"] and given["kind"] not in _ENGINES and not _holds_all(given):
                found["warnings"].append(_SHOWN.format(", ".join(found["hiding"])))
            found["archive"] = "{job} {id} of {host}".format(**given)
            obstacles += _of_archive(where, found, given, labels, about)
            if given["kind"] in _ENGINES:
                found["warnings"].append(_UNSEEN)
        except SauvegardeError as error:
            obstacles.append(error)
    else:
        obstacles += _of_site(found, "Run the site's migrate on the source.")
        found["warnings"] = _ahead(found)
    if masked:
        try:
            check(policy, key, found)
        except SauvegardeError as error:
            obstacles.append(error)
    found["is_masked"] = bool(given and given["source"].get("masked"))
    if found["applied"] is not None and not found["is_masked"]:
        module, named, keeper = plan.place(found, where.user, about)
        with contextlib.suppress(SauvegardeError):  # nobody keeps it here, so no migration came here either
            found["is_masked"] = acting_as(keeper, module.is_masked, named)
    return dict(found, host=os.uname().nodename, masked=masked, obstacles=[each.as_dict() for each in obstacles])


def _of_site(found, fix):
    """What keeps a database's data from leaving; `fix` is what to do about migrations that it lacks."""
    if found["applied"] is None:
        why = found["refused"] or "{} does not exist.".format(found["name"])
        fix = "Correct the site's environment file, or name an archive to take the data from."
        return [SauvegardeError("The source's database cannot be asked.", why, fix)]
    missing = sorted(set(found["migrations"]) - set(found["applied"]))
    if not missing:
        return []
    what = "The source's code and data disagree: migrations are not applied."
    return [SauvegardeError(what, ", ".join(missing), fix)]


def _holds_all(given):
    return bool(given["source"].get("options", {}).get("all"))


def _ahead(found):
    """A warning where the database seems newer than the code, which then does not see all that is in it.

    A database remembers the migrations of applications that are gone, and squashed ones, which the code names for a
    while only: what is said is no more than that something may be there.
    """
    code = set(found["migrations"])
    applications = {name.split(".")[0] for name in code}
    more = sorted(set(found["applied"] or ()) - code - set(found["replaced"]))
    more = [name for name in more if name.split(".")[0] in applications]
    what = "The source's database has migrations that its code lacks: {}. What they added may not come along."
    return [what.format(", ".join(more))] if more else []


def _of_archive(where, found, given, labels, about):
    """What keeps an archive's data from leaving, as far as its manifest tells. Whether the site's own database is there
    does not matter."""
    if given["kind"] in _ENGINES:
        if found["vendor"] != _ENGINES[given["kind"]]:
            return [
                SauvegardeError(
                    "The archive is of another engine than the site's: {} for {}.".format(
                        given["kind"], found["vendor"]
                    ),
                    "It is read through the site, which would look for it in its own database.",
                    "Take a migrate_source whose site is on that engine, or an archive of the kind dumpdata.",
                )
            ]
        module, named, keeper = plan.place(found, where.user, about)
        return [
            SauvegardeError("The archive cannot be opened here.", sentence, "Mend that on the source.")
            for sentence in (acting_as(keeper, module.opening, named) if module is server else ())
        ]
    obstacles = []
    held, options = given["source"]["many"], given["source"].get("options", {})
    unknown = sorted(set(given["fingerprint"]["tables"]) - set(found["models"]))
    if unknown and not labels:
        obstacles.append(
            SauvegardeError(
                "The archive holds models that the source's code does not know.",
                ", ".join(unknown),
                "Bring the code to that of the archive, or name the models to move (migrate_labels, migrate_sets).",
            )
        )
    missing = [label for label in found["selected"] if label not in held]
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


def check(policy, key, found):
    """Raise where the policy does not fit the models that would leave."""
    if not policy:
        raise SauvegardeError(
            "There is no masking policy, and personal data do not leave production.",
            "What leaves for a host that is not production is masked.",
            "Draft a policy (playbooks/policy.yml), correct it, and keep it in the inventory as migrate_policy.",
        )
    masking.Masking(policy, found["models"], masking.secret(key), found["selected"])


def make(where, root, values, about, progress=kinds.silent):
    """Dump the live site, or an archive that is opened here, into ROOT/outgoing/ID, the only archive there.

    `values`: as `options` gives them. `about`: {"path": of the archive, '' for the live site, "keeper": OS user of the
    server that a database's archive is restored on, "connection", "server_directory": as the restore's}. Returns
    {"path", "manifest", "warnings": what an opened database told}.
    """
    root = state.folder(root)
    folder = state.folder(root / JOB)
    job, warnings = {"name": JOB, "kind": "dumpdata", "dumpdata": values}, []
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(root / (JOB + ".lock"), "A migration out of this host"))
        old = [each for each in root.parent.glob(_FETCHED) if _is_old(each)]
        left = [*(folder / each for each in archive.identifiers(folder)), *Path(_PLACE).glob(_PREFIX + "*")]
        for each in left + old:
            shutil.rmtree(str(each))
        if about["path"]:
            given = read(about["path"])
            where, files = stack.enter_context(_OPENED[given["kind"]](where, given, about))
            if files:
                job["archive"] = {"files": files, "masked": given["source"].get("masked", False)}
                natural = ("natural_foreign", "natural_primary")  # as its own objects are
                options = given["source"].get("options", {})
                job["dumpdata"] = dict(values, **{key: options[key] for key in natural if key in options})
            else:
                found = plan.survey(where)
                for error in _of_site(found, "Take an archive of the code's own time, or the code of that time."):
                    raise error
                warnings = _ahead(found)
        job["site"] = where._asdict()
        made = kinds.back_up(job, root, progress)
    return {"path": str(folder / made["id"]), "manifest": made, "warnings": warnings}


def report(made, wanted):
    """The report of a masked dump (`masking_report.render`) of the manifest `made`; "" where nothing was masked.

    `wanted`: the policy, and "archive", "target", "target_environment" and "decided" of the report.
    """
    facts = made["source"].get("masking")
    if not facts:
        return ""
    about = {
        "site": made["source"]["site"],
        "host": made["host"],
        "source": wanted["archive"],
        "target": wanted["target"],
        "environment": wanted["target_environment"],
        "time": made["id"],
        "counts": made["source"]["counts"],
        "decided": wanted["decided"] or {},
    }
    return masking_report.render(facts, wanted["policy"], about)


def _is_old(path):
    with contextlib.suppress(FileNotFoundError):  # its own run removes it just now
        return path.stat().st_mtime < time.time() - _OLD
    return False


def read(path):
    """The manifest of an archive that data can be migrated from."""
    found = manifest.load(Path(str(path)) / manifest.NAME)
    if found["kind"] not in _OPENED:
        raise SauvegardeError(
            f"An archive of the kind {found['kind']} holds no site's data: {path}",
            fix="Name one of the kind " + ", ".join(sorted(_OPENED)) + ".",
        )
    return found


@contextlib.contextmanager
def _private(user):
    """A folder of the user's for the block, that nobody else sees into."""
    account = pwd.getpwnam(user)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_PLACE) as folder:
        yield folder, lambda: _give(folder, account)


def _give(folder, account):
    for path in [Path(folder), *Path(folder).rglob("*")]:
        os.chown(str(path), account.pw_uid, account.pw_gid, follow_symlinks=False)


@contextlib.contextmanager
def _fixtures(where, given, about):
    """Fixtures, checked: read through the site's models."""
    path = Path(about["path"])
    names = [each["path"] for each in given["files"]]
    if (path / names[0]).exists():
        archive.verify_plain(path)
    else:
        kinds.verify(path)
        names = [name + archive.SUFFIX for name in names]
    yield where, [str(path / name) for name in names]


@contextlib.contextmanager
def _sqlite(where, given, about):
    """A copy of an SQLite file: the site on that file."""
    with _private(where.user or "root") as (folder, give):
        plain = Path(folder) / "archive"
        if (Path(about["path"]) / sqlite.FILE).exists():
            shutil.copytree(str(about["path"]), str(plain))
            archive.verify_plain(plain)
        else:
            archive.expand(about["path"], plain)
        give()
        yield where._replace(name=str(plain / sqlite.FILE)), None


@contextlib.contextmanager
def _database(where, given, about):
    """A database's dump: restored beside the live one on this host's server, and dropped again."""
    keeper = about["keeper"] or "postgres"
    with _private(keeper) as (folder, give):
        copy = Path(folder) / given["id"]
        shutil.copytree(str(about["path"]), str(copy))
        give()
        values = {"connection": about["connection"], "directory": about["server_directory"]}
        values.update(path=str(copy), database=given["source"]["database"] + "__opened", mode="beside")
        # Of those whom grants and tables name: they go again, too.
        values["missing_roles"] = "create"
        restored = acting_as(keeper, _restored, values)
        try:
            yield where._replace(name=restored["side"], system=acting_as(keeper, server.system, values)), None
        finally:
            acting_as(keeper, _forget, values, restored)


def _restored(values):
    try:
        found = run.fill(values)
    except BaseException:
        with contextlib.suppress(SauvegardeError, psycopg2.Error):
            _forget_roles(values)
        raise
    # Nothing to swap in, and nothing to keep where this is killed: the next one clears it.
    state.change(values["directory"], found["id"], status="opened")
    return found


def _forget(values, restored):
    with contextlib.closing(side.maintenance(postgres.server(values["connection"]))) as connection:
        side.drop(connection, restored["side"])
    _forget_roles(values)


def _forget_roles(values):
    """Drop the roles that were made for this dump's opening, and for those before that failed or were killed: their
    databases are gone."""
    with contextlib.closing(side.maintenance(postgres.server(values["connection"]))) as connection:
        for each in state.runs(values["directory"], values["database"]):
            for role in each.get("roles_made", ()):
                postgres.execute(connection, "DROP ROLE IF EXISTS " + postgres.quoted(role))
            if each.get("roles_made"):
                state.change(values["directory"], each["id"], roles_made=[])


_OPENED = {"dumpdata": _fixtures, "fixtures": _fixtures, "sqlite": _sqlite, "pg_dump": _database}
_UNSEEN = (
    "The archive is a whole database: which migrations it has is seen when it is opened, after the confirmation. "
    "Where it lacks some of the code's, that ends the migration before anything leaves."
)
_SHOWN = "The archive's job dumps what default managers show, without “all”: rows that those of {} hide are not in it."
_ENGINES = {"sqlite": "sqlite", "pg_dump": "postgresql"}  # whose site can open it
