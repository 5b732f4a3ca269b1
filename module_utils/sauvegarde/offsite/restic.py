"""The offsite copy: each archive's plain form, which deduplicates, as one snapshot of a restic repository.

A snapshot is tagged `sauvegarde`, `job=…`, `id=…`, `system=…` (identity.py) and `former=…` for each system that this
one follows. It holds the manifest at its root, so that the catalog can be rebuilt from the repository alone. restic
encrypts; its own check runs after every copy and before anything is forgotten.

repository: {name, repository (as restic takes it), password, environment (restic's own variables for its backend),
ssh_key and ssh_known_hosts (texts, for sftp; empty for ssh's defaults), forget (false where the repository is
append-only and its own host tidies it)}; `private`, a folder of this user's for what opens it (credentials.py);
`cache`, another, and `turn`, an open file, where there are some.
"""

import contextlib
import fcntl
import json
import os
import pwd
import re
import shlex
import shutil
import tempfile
import time
from dataclasses import replace
from urllib.parse import unquote

from ..archive import archive_reader, ids, machine_identity, manifest, retention
from ..errors import Locked, NoRepository, SauvegardeError, WrongKey, class_of
from ..report.journal import redact
from ..system import disk_space, process
from . import credentials

TAG = "sauvegarde"
STAGE = ".partial-offsite"  # a name that archive_writer.remove_partial removes
COMPRESSES = (0, 14)
_PATIENCE, _PAUSE = 900, 10  # seconds to wait for another's lock on the repository, and between two tries
_LOOKS = 4  # a second apart, at a repository that somebody else may be making
_RETRIES = 8  # about half a minute: enough for a network's hiccup
# A user's name may have an @ of its own: the last one before the host counts.
_SFTP = re.compile(r"sftp:(?P<url>//)?(?:(?P<user>[^/:]+)@)?(?P<host>\[[^\]]+\]|[^@/:]+)(?::(?P<port>\d+)(?=/))?[:/]")
_WORDS = (
    (WrongKey, ("wrong password or no key found",)),
    (Locked, ("repository is already locked", "unable to create lock")),
    (NoRepository, ("is there a repository at the following location", "unable to open config file")),
)


def _environment(repository):
    environment = dict(process.BASE_ENVIRONMENT, HOME=pwd.getpwuid(os.geteuid()).pw_dir, RESTIC_PROGRESS_FPS="0")
    environment.update({key: str(value) for key, value in (repository.get("environment") or {}).items()})
    environment["RESTIC_REPOSITORY"] = repository["repository"]
    environment["RESTIC_PASSWORD_FILE"] = repository["password_file"]
    return environment


def _options(repository):
    options = ["--cache-dir", repository["cache"]] if repository.get("cache") else ["--no-cache"]
    place = repository["repository"]
    if place.startswith("sftp:") and (repository.get("ssh_key") or repository.get("ssh_known_hosts")):
        found = _SFTP.match(place)
        if found is None:
            raise SauvegardeError(
                "The address of the repository {} is not one of sftp.".format(repository["name"]),
                fix="Write sftp:user@host:/path or sftp://user@host:port//path.",
            )
        words = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        words += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"]
        # ssh adds nothing of its own to a file of hosts that is kept for it.
        words += ["-o", "CheckHostIP=no", "-o", "UpdateHostKeys=no"]
        if repository.get("ssh_known_hosts"):
            words += ["-o", "UserKnownHostsFile={}".format(repository["ssh_known_hosts"])]
        if repository.get("ssh_key"):
            words += ["-i", repository["ssh_key"], "-o", "IdentitiesOnly=yes"]
        if found.group("user"):
            # In a URL an @ is written %40.
            words += ["-l", unquote(found.group("user")) if found.group("url") else found.group("user")]
        if found.group("port"):
            words += ["-p", found.group("port")]
        words += [found.group("host").strip("[]"), "-s", "sftp"]
        options += ["-o", "sftp.command=" + " ".join(shlex.quote(word) for word in words)]
    return options


def _error_class(result):
    if result.status in (NoRepository.exit_code, Locked.exit_code, WrongKey.exit_code):  # restic's own, from 0.17 on
        return class_of(result.status)
    text = result.stderr.lower()
    return next((error for error, words in _WORDS if any(word in text for word in words)), SauvegardeError)


_FIXES = {
    WrongKey: "Give the repository's own password; without it nothing in the repository can be read.",
    Locked: "Wait for the other user of the repository; `restic unlock` drops a lock whose owner is gone.",
    NoRepository: "Check the address, and that its disk is mounted and reachable.",
}


_DAMAGED = "The repository is damaged; nothing is removed from it."


def _damaged(result):
    """Whether restic's check has found that something in the repository is wrong, not only that it could not look."""
    return "repository contains errors" in result.stderr.lower()


def _fix(result, error_class):
    if _damaged(result):
        return (
            "Keep the archives on the host, and follow restic's manual on repairing a repository, or begin a new one."
        )
    words = result.stderr.lower()
    if "host key verification failed" in words or "remote host identification has changed" in words:
        return (
            "The host's key is not in ssh_known_hosts, or is another one now. Find out why; if it was set up anew, put "
            "its new key (ssh-keyscan, compared on the host itself) in ssh_known_hosts and run the backup role."
        )
    return _FIXES.get(error_class, "")


def restic(repository, arguments, what, cwd=None, wait=_PATIENCE):
    """Run restic on a repository; its own words in the error, and restic's exit codes. Waits for another's lock.

    `wait`: seconds, 0 for not at all.
    """
    until = time.monotonic() + wait
    program = process.find("restic")
    while True:
        with credentials.revealed(repository) as opened:
            argv, environment = [program, *_options(opened)], _environment(opened)
            result = _patiently([*argv, *arguments], environment, cwd)
            if result.status == 0:
                return result
            error_class = _error_class(result)
            if error_class is not Locked or time.monotonic() >= until:
                raise error_class(
                    "{} (repository {})".format(_DAMAGED if _damaged(result) else what, repository["name"]),
                    redact(f"restic ended with status {result.status}\n{result.stderr}"),
                    _fix(result, error_class),
                )
            # Takes only locks whose process is gone, or that nobody renewed for half an hour.
            process.run([*argv, "unlock"], env=environment, checked=False)
        time.sleep(_PAUSE)


def _patiently(argv, environment, cwd):
    """Run restic, but not for the quarter of an hour that old versions try each file again which is simply gone."""
    with tempfile.TemporaryFile() as out, process.start(argv, env=environment, stdout=out, cwd=cwd) as child:
        pause = 0.02
        while child.running() and child.errors().count("retrying after") < _RETRIES:
            time.sleep(pause)
            pause = min(1, pause * 1.5)
        if child.running():
            child.kill()
        result = child.wait()
        out.seek(0)
        return replace(result, stdout=out.read())


def version():
    """restic's version as a tuple of numbers."""
    text = process.run([process.find("restic"), "version"]).text
    found = re.search(r"restic (\d+)\.(\d+)(?:\.(\d+))?", text)
    if found is None:
        raise SauvegardeError("restic does not say its version.", text)
    return tuple(int(part or 0) for part in found.groups())


def warnings():
    """What a user should know of this host's restic."""
    number = version()
    if number < COMPRESSES:
        told = ".".join(str(part) for part in number)
        return [
            f"restic {told} does not compress: offsite copies take their uncompressed size (0.14 and newer compress)."
        ]
    return []


def ensure(repository, known):
    """Have the repository: made when it is not there yet. `known`: it was there before, so its absence is an alarm, and
    a new one in its place would be taken for it by every job.
    """
    if _opens(repository, known):
        return
    with _turn(repository):
        if _opens(repository, known):
            return
        try:
            restic(repository, ["init"], "The repository is not there and cannot be made.")
        except SauvegardeError:
            # Another host may have begun to make it in the same moment, and be about to end.
            for _ in range(_LOOKS):
                if _opens(repository, known):
                    return
                time.sleep(1)
            raise


def _opens(repository, known):
    """Whether it is there; any other error than that it is not raises, and that one too where it is `known`."""
    try:
        restic(repository, ["cat", "config"], "The repository cannot be opened.")
        return True
    except NoRepository as error:
        if not known:
            return False
        error.fix += " If it is gone for good, give a new one another name."
        raise


@contextlib.contextmanager
def _turn(repository):
    """One run of this host after the other: two `restic init` at once can each leave a key, one of which fits nothing,
    and the repository may never open again.
    """
    if "turn" in repository:
        fcntl.flock(repository["turn"], fcntl.LOCK_EX)
    try:
        yield
    finally:
        if "turn" in repository:
            fcntl.flock(repository["turn"], fcntl.LOCK_UN)


def _tagged(repository, host, job):
    arguments = ["snapshots", "--json", "--no-lock", "--tag", TAG]
    if host is not None:
        arguments.append(f"--host={host}")
    found = []
    text = restic(repository, arguments, "The repository's snapshots cannot be listed.").text
    for line in json.loads(text) or []:
        pairs = [tag.split("=", 1) for tag in line.get("tags") or [] if "=" in tag]
        tags = dict(pairs)
        if not ids.is_job_name(tags.get("job", "")) or not ids.is_id(tags.get("id", "")):
            continue
        if job in (None, tags["job"]):
            entry = {"snapshot": line["id"], "host": line["hostname"], "time": line["time"]}
            entry.update(system=tags.get("system", ""), former=[value for key, value in pairs if key == "former"])
            found.append(dict(entry, job=tags["job"], id=tags["id"]))
    return found


def snapshots(repository, host=None, job=None):
    """Our snapshots, oldest label first: {snapshot, host, job, id, time, system, former}. The newest of two of the
    same archive counts. `system` is empty for those that were copied before there was such a tag.
    """
    found = {}
    for line in sorted(_tagged(repository, host, job), key=lambda line: line["time"]):
        found[line["id"], line["host"], line["job"], line["system"]] = line
    return [found[key] for key in sorted(found)]


def manifest_text(repository, snapshot):
    """The text of the manifest inside a snapshot."""
    arguments = ["dump", "--no-lock", snapshot, "/" + manifest.NAME]
    return restic(repository, arguments, "The manifest cannot be read.").stdout.decode("utf-8", "replace")


def check(repository):
    """restic's check of the repository's structure. Raises when anything is wrong."""
    restic(repository, ["check"], "The repository could not be checked; nothing is removed from it.")


def _identified(repository, host, job, identities, directory=None):
    """All snapshots of one job with the systems that they belong to. Those without a tag are identified by their
    manifest, or because the same manifest is in `directory`; `system` stays empty for the others.
    """
    present = _tagged(repository, host, job)
    for line in present:
        if not line["system"]:
            line["system"] = _system(repository, line, identities, directory)
    identities.save({line["snapshot"] for line in present})
    return present


def _system(repository, line, identities, directory):
    if line["snapshot"] in identities.snapshots:
        return identities.snapshots[line["snapshot"]]
    try:
        text = manifest_text(repository, line["snapshot"])
        found = manifest.loads(text, line["snapshot"]).system_identifier
    except (WrongKey, Locked, NoRepository):
        raise
    except SauvegardeError:
        return ""  # not kept: it may be readable the next time
    if not found and directory is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (directory / line["id"] / manifest.NAME).read_text(encoding="utf-8") == text:
                found = identities.machine
    identities.snapshots[line["snapshot"]] = found
    return found


def _claim(identities, job, directory):
    """Add the systems of the archives in a job's folder, and those that the job replaces, to its own. Returns the
    system of each archive by its label.
    """
    systems = {}
    for label in ids.list_ids(directory):
        with contextlib.suppress(SauvegardeError):  # one that is damaged says so when it is copied
            systems[label] = identities.of(archive_reader.read_manifest(directory / label))
    identities.own.update(systems.values(), job.replaces)
    return systems


def _own(repository, job, identities, directory):
    """Those of a job's snapshots that are its own, and those of which it is unknown; raises where others are of another
    system.
    """
    present = _identified(repository, job.host, job.name, identities, directory)
    for group in machine_identity.groups([line["system"], *line["former"]] for line in present):
        if group & identities.own:
            identities.own |= group
    foreign = [line for line in present if line["system"] and line["system"] not in identities.own]
    if foreign:
        raise _foreign(repository, job, identities, foreign)
    return [line for line in present if line["system"]], [line for line in present if not line["system"]]


def _foreign(repository, job, identities, foreign):
    others = {}
    for line in foreign:
        others.setdefault(line["system"], []).append(line["id"])
    told = [
        f"{system} ({len(labels)} archives, {min(labels)} to {max(labels)})"
        for system, labels in sorted(others.items())
    ]
    return SauvegardeError(
        "The repository {} has archives of another system under the name {}, job {}: nothing is copied there, and "
        "nothing is removed.".format(repository["name"], job.host, job.name),
        "This system is {}. The other archives are of {}.".format(
            ", ".join(sorted(identities.own)) or identities.machine, ", ".join(told)
        ),
        "If these are two machines, give one of them another name in its inventory, or a repository of its own. If "
        "this system has taken the other's place, add this to the job in backup_jobs and run the backup role: "
        + f"replaces: {json.dumps(sorted(others))}",
    )


def _unknown_warnings(repository, unknown):
    if not unknown:
        return []
    return [
        "It is not known which machine made {} archives in the repository {}, whose snapshots do not say it: retention "
        "keeps them. Where they are not needed: restic forget {}".format(
            len(unknown), repository["name"], " ".join(line["snapshot"][:8] for line in unknown)
        )
    ]


def _copy(repository, job, path, system="", former=()):
    """One archive into the repository, as that of a system, which its manifest can say. Returns restic's summary."""
    directory = path.parent
    stage = directory / STAGE
    shutil.rmtree(str(stage), ignore_errors=True)
    try:
        found = archive_reader.read_manifest(path)
        disk_space.require_space(directory, found.bytes)
        archive_reader.expand(path, stage)
        tags = [TAG, f"job={job.name}", f"id={path.name}", f"kind={job.kind}"]
        system = system or found.system_identifier
        tags += [f"system={system}"] if system else []
        tags += [f"former={each}" for each in sorted(former)]
        arguments = ["backup", "--force", "--json", f"--host={job.host}"]
        for tag in tags:
            arguments += ["--tag", tag]
        # The folder's content stands at the snapshot's root, wherever it lay.
        result = restic(repository, [*arguments, "."], f"{path.name} could not be copied offsite.", cwd=str(stage))
        return json.loads(result.text.strip().splitlines()[-1])
    finally:
        shutil.rmtree(str(stage), ignore_errors=True)


def synchronise(repository, job, notify, known=False):
    """Bring every archive that is newer than the repository's newest there, check, and forget what retention lets go.

    Labels from the future do not count as the newest, or one of them would keep all others out; they are an error, but
    a later one than the copies.

    Returns {id, copied: labels, added_bytes, forgotten: labels}. Raises on any error; what was copied before it stays.
    """
    directory = job.directory
    notify("offsite", repository=repository["name"])
    ensure(repository, known)
    identities = machine_identity.Identities(job.state)
    systems = _claim(identities, job, directory)
    own, unknown = _own(repository, job, identities, directory)
    there = sorted({line["id"] for line in own})
    newest = max(set(there).difference(retention.future_ids(there)), default="")
    copied = {}
    for label in ids.list_ids(directory):
        if label > newest and label not in there:
            notify("offsite_copy", repository=repository["name"], id=label)
            system = systems.get(label, identities.machine)
            copied[label] = _copy(repository, job, directory / label, system, identities.own - {system})
    notify("offsite_check", repository=repository["name"])
    check(repository)
    for label, summary in copied.items():
        kept = (directory / label / manifest.NAME).read_text(encoding="utf-8")
        if manifest_text(repository, summary["snapshot_id"]) != kept:
            raise SauvegardeError(f"The offsite copy of {label} does not hold its manifest as it is here.")
    forgotten = []
    place = _place(repository, job.host, job.name)
    if repository.get("forget", True):
        # Asked for again: another machine may have copied meanwhile.
        own, unknown = _own(repository, job, identities, directory)
        retention.refuse_future(sorted({line["id"] for line in own + unknown}), place)
        forgotten = _forget(repository, own, job.retention, notify)
    retention.refuse_future(sorted({*there, *copied, *(line["id"] for line in unknown)}), place)
    added = sum(summary.get("data_added", 0) for summary in copied.values())
    return {
        "id": max([*there, *copied], default=""),
        "copied": sorted(copied),
        "added_bytes": added,
        "forgotten": forgotten,
        "warnings": _unknown_warnings(repository, unknown),
    }


def _place(repository, host, job):
    return "the repository {} of {}'s job {}".format(repository["name"], host, job)


def _forget(repository, present, policy: retention.RetentionPolicy, notify, dry_run=False):
    """Forget those of the snapshots of one job and system that the policy lets go. Every snapshot of a label goes with
    it.
    """
    plan = retention.plan([line["id"] for line in present], policy)
    gone = {decision.id for decision in plan if not decision.keep}
    doomed = [line for line in present if line["id"] in gone]
    if doomed and not dry_run:
        notify("offsite_forget", repository=repository["name"], ids=[line["id"] for line in doomed])
        arguments = ["forget", "--prune", *[line["snapshot"] for line in doomed]]
        restic(repository, arguments, "Old snapshots could not be forgotten.")
    return sorted(gone)


def forget_for_others(settings, notify, dry_run=False):
    """Tidy an append-only repository on its own host: check it, then apply each job's retention, as its host has it.

    settings: repository's own plus policies, a list of {host, job, retention}. Jobs without a policy stay whole. Where
    machines share a name, the retention counts the archives of each by themselves; those of unknown ones stay.
    Returns a list of {host, job, forgotten}.
    """
    notify("offsite_check", repository=settings["name"])
    check(settings)
    done = []
    for line in settings["policies"]:
        # Kept nowhere: this host's state is one folder for many jobs.
        present = _identified(settings, line["host"], line["job"], machine_identity.Identities())
        retention.refuse_future(sorted({each["id"] for each in present}), _place(settings, line["host"], line["job"]))
        forgotten = []
        for group in machine_identity.groups([line["system"], *line["former"]] for line in present):
            mine = [each for each in present if each["system"] in group]
            policy = retention.RetentionPolicy.from_values(line.get("retention"))
            forgotten += _forget(settings, mine, policy, notify, dry_run)
        done.append({"host": line["host"], "job": line["job"], "forgotten": sorted(forgotten)})
    return done
