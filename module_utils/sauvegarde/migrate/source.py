"""What leaves a source: an archive of the kind `dumpdata`, masked where the target is not production.

It is made on the source's own host, from the live site or from an archive that is opened there, and nowhere else.
"""

import contextlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from .. import archive, kinds, lock, manifest, postgres
from ..acting import acting_as
from ..django import dump, masking, site
from ..errors import SauvegardeError
from ..kinds import sqlite
from ..restore import run, side, state
from . import plan

JOB = "outgoing"
PRODUCTION = "production"
# Where archives are opened: not memory, and not the backups' own folder. What a killed run left there is cleared.
_PLACE, _PREFIX = "/var/tmp", "sauvegarde-opened-"
# Hosts that may see what is masked: production's own, and the one that keeps its repository.
SEEING = (PRODUCTION, "repository")


def is_masked(choice, target_environment):
    """Whether the data are masked. `choice`: auto, always or never; auto masks unless the target is production."""
    return choice == "always" or (choice == "auto" and target_environment != PRODUCTION)


def options(policy, key, labels, masked):
    """The options of the dump (`dump.DEFAULTS`)."""
    values = {"labels": list(labels), "format": "jsonl"}
    if masked:
        values.update(policy=policy, key=key)
    return values


def look(where, policy, key, labels, masked, about):
    """The source in plain values: the site's survey (`worker_migrate.survey`), whether what leaves is `masked`, whether
    what is there `is_masked` already, and `obstacles`. Changes nothing.

    `about`: as `make` has it, with `environment`, this host's.
    """
    found = site.run(where, "survey", {"labels": list(labels), "exclude": list(dump.EXCLUDE)})
    obstacles = []
    if found["applied"] is None:
        obstacles.append(
            SauvegardeError(
                "The source's database cannot be asked.",
                found["refused"] or "{} does not exist.".format(found["name"]),
                "Correct the site's environment file.",
            )
        )
    missing = sorted(set(found["migrations"]) - set(found["applied"] or found["migrations"]))
    if missing:
        obstacles.append(
            SauvegardeError(
                "The source's code and data disagree: migrations are not applied.",
                ", ".join(missing),
                "Run the site's migrate on the source.",
            )
        )
    if about["path"]:
        try:
            given = read(about["path"])
            found["archive"] = "{job} {id} of {host}".format(**given)
            if found["vendor"] not in _FITTING.get(given["kind"], (found["vendor"],)):
                obstacles.append(
                    SauvegardeError(
                        "The archive is of another engine than the site's: {} for {}.".format(
                            given["kind"], found["vendor"]
                        ),
                        "It is read through the site, which would look for it in its own database.",
                        "Take a migrate_source whose site is on that engine, or an archive of the kind dumpdata.",
                    )
                )
        except SauvegardeError as error:
            obstacles.append(error)
        if masked and about["environment"] not in SEEING:
            obstacles.append(
                SauvegardeError(
                    "An archive that must be masked is not opened here.",
                    f"This host is {about['environment']!r}; personal data do not leave production's hosts.",
                    "Take a host of production or of its repository as migrate_source.",
                )
            )
    if masked:
        try:
            check(policy, key, found)
        except SauvegardeError as error:
            obstacles.append(error)
    found["is_masked"] = False
    if found["applied"] is not None:
        module, named, keeper = plan.place(found, where.user, about)
        with contextlib.suppress(SauvegardeError):  # nobody keeps it here, so no migration came here either
            found["is_masked"] = acting_as(keeper, module.is_masked, named)
    return dict(found, host=os.uname().nodename, masked=masked, obstacles=[each.as_dict() for each in obstacles])


def check(policy, key, found):
    """Raise where the policy does not fit the models that would leave."""
    if not policy:
        raise SauvegardeError(
            "There is no masking policy, and personal data do not leave production.",
            "What leaves for a host that is not production is masked.",
            "Draft a policy (playbooks/policy.yml), correct it, and keep it in the inventory as migrate_policy.",
        )
    try:
        secret = bytes.fromhex(key)
    except ValueError as error:
        raise SauvegardeError(
            "The key of the masking is not hexadecimal.", fix="Give migrate_key 32 hexadecimal digits or more."
        ) from error
    masking.Masking(policy, found["models"], secret, found["selected"])


def make(where, root, values, about, progress=kinds.silent):
    """Dump the live site, or an archive that is opened here, into ROOT/outgoing/ID, the only archive there.

    `values`: as `options` gives them. `about`: {"path": of the archive, '' for the live site, "keeper": OS user of the
    server that a database's archive is restored on, "connection", "server_directory": as the restore's}. Returns
    {"path", "manifest"}.
    """
    root = state.folder(root)
    folder = state.folder(root / JOB)
    job = {"name": JOB, "kind": "dumpdata", "dumpdata": values}
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(root / (JOB + ".lock"), "A migration out of this host"))
        for left in [*(folder / each for each in archive.identifiers(folder)), *Path(_PLACE).glob(_PREFIX + "*")]:
            shutil.rmtree(str(left))
        if about["path"]:
            given = read(about["path"])
            if given["kind"] == "dumpdata" and not values.get("policy"):
                path = folder / given["id"]
                shutil.copytree(str(about["path"]), str(path))
                return {"path": str(path), "manifest": kinds.verify(path)}
            where, job["fixture"] = stack.enter_context(_OPENED[given["kind"]](where, given, about))
        job["site"] = where._asdict()
        made = kinds.back_up(job, root, progress)
    return {"path": str(folder / made["id"]), "manifest": made}


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
def _fixture(where, given, about):
    """A fixture: read through the site's models."""
    path = Path(about["path"]) / given["source"]["file"]
    yield where, str(path) if path.exists() else str(path) + archive.SUFFIX


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
        restored = acting_as(keeper, _restored, values)
        try:
            yield where._replace(name=restored["side"]), None
        finally:
            acting_as(keeper, _forget, values, restored)


def _restored(values):
    found = run.fill(values)
    # Nothing to swap in, and nothing to keep where this is killed: the next one clears it.
    state.change(values["directory"], found["id"], status="opened")
    return found


def _forget(values, restored):
    with contextlib.closing(side.maintenance(postgres.server(values["connection"]))) as connection:
        side.drop(connection, restored["side"])


_OPENED = {"dumpdata": _fixture, "sqlite": _sqlite, "pg_dump": _database}
_FITTING = {"sqlite": ("sqlite",), "pg_dump": ("postgresql",)}  # whose site can open it
