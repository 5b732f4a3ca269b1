"""The offsite copy with the real restic: copied, checked, forgotten, and listed from the repository alone."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import conftest
import pytest
import quick_restic
from sauvegarde import catalog, config
from sauvegarde.archive import archive_reader
from sauvegarde.backup import job_cleanup
from sauvegarde.errors import OK, Locked, NoRepository, Partial, SauvegardeError, WrongKey
from sauvegarde.offsite import credentials, offsite_copy, restic
from sauvegarde.offsite.repository import Repository
from sauvegarde.report import job_state
from sauvegarde.system import lock
from test_job_run import USER, Host, _children

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
once = pytest.mark.one_host("retention and reports are the same with every restic")
PASSWORD = "c4nary-of-the-repository"
JOB, OTHER = (f"{name}{os.getpid()}" for name in ("demo", "other"))  # they have places in what a machine has but once


@pytest.fixture()
def host(tmp_path):
    """A host with a job and the repository for it, which is new and empty."""
    tmp_path.chmod(0o755)
    result = Host(tmp_path, JOB)
    folder = tmp_path / "etc" / "offsite"
    folder.mkdir()
    result.values = {"name": "vault", "repository": str(tmp_path / "vault"), "password": PASSWORD}
    (tmp_path / "private").mkdir()
    result.vault = dataclasses.replace(Repository.from_values(result.values), secrets_folder=str(tmp_path / "private"))
    quick_restic.make(tmp_path / "vault", PASSWORD)
    result.settings = folder / "vault.json"
    write(result.settings, result.values)
    result.configure(offsite=["vault"])
    yield result
    for each in (JOB, OTHER):
        shutil.rmtree(str(credentials.RUN / each), ignore_errors=True)  # not every test makes one


def write(path, values):
    path.write_text(json.dumps(values))


def another_job(host):
    """A second one, OTHER, that copies the same to the same repository."""
    job = dict(host.configure(offsite=["vault"]), name=OTHER, state=str(host.folder / "other"))
    Path(job["state"]).mkdir()
    (host.root / OTHER).mkdir(mode=0o700)
    write(host.folder / "etc" / "jobs" / f"{OTHER}.json", job)
    return job


def ignore_step(_step, **_values):
    pass


@pytest.fixture()
def unmade(host):
    """The host, whose repository was not made yet."""
    shutil.rmtree(host.vault.address)
    return host


def test_copied_checked_and_restored_by_restic_alone(unmade, tmp_path):
    host = unmade
    assert host.run() == (OK, "", "")
    (label,) = host.labels()
    (snapshot,) = restic.newest_snapshots(host.vault)
    assert (snapshot.host, snapshot.job, snapshot.id) == ("db1", JOB, label)
    assert host.recorded_state()["offsite"]["vault"]["id"] == label
    assert "offsite_last_success_timestamp_seconds" in host.samples()
    back = tmp_path / "back"
    restic.run(host.vault, ["restore", snapshot.name, "--target", str(back)], "x")
    assert archive_reader.verify_plain(back)["id"] == label
    assert not list(host.directory.glob(".*")), "the uncompressed form is gone"


def test_the_catalog_is_rebuilt_from_the_repository_alone(host, tmp_path):
    for _ in range(2):
        assert host.run()[0] == OK
    here = catalog.local(host.root, "db1")
    shutil.rmtree(str(host.root))
    existing = catalog.remote(host.vault, tmp_path / "manifests")
    keys = ("host", "job", "id", "kind", "source", "bytes", "verified")
    assert [[getattr(entry, key) for key in keys] for entry in existing] == [
        [getattr(entry, key) for key in keys] for entry in here
    ]
    assert [entry.where for entry in existing] == ["vault", "vault"]
    assert catalog.remote(host.vault, tmp_path / "manifests") == existing, "from the cache"
    first, second = sorted((tmp_path / "manifests").iterdir())
    first.write_text("{half")
    assert catalog.remote(host.vault, tmp_path / "manifests") == existing, "which decides nothing"
    restic.run(host.vault, ["forget", second.stem], "x")
    assert [entry.path for entry in catalog.remote(host.vault, tmp_path / "manifests")] == [first.stem]
    assert list((tmp_path / "manifests").iterdir()) == [first], "nor outlives what it is of"


@once
def test_what_was_missed_is_caught_up_and_forgotten_by_the_same_retention(host):
    write(host.settings, dict(host.values, repository="/proc/nowhere"))
    host.configure(offsite=["vault"], retention={"last": 2})
    code, _, err = host.run()
    assert code == Partial.exit_code and "vault" in err and len(host.labels()) == 1
    assert "offsite_last_success_timestamp_seconds" not in host.samples()
    write(host.settings, host.values)
    for _ in range(3):
        assert host.run()[0] == OK
    assert [snapshot.id for snapshot in restic.newest_snapshots(host.vault)] == host.labels() and len(
        host.labels()
    ) == 2


def test_a_wrong_key_and_a_repository_that_is_lost(host):
    assert host.run()[0] == OK
    write(host.settings, dict(host.values, password="another"))
    code, _, err = host.run()
    assert code == Partial.exit_code and "wrong password" in err and "another" not in err.replace("another user", "")
    with pytest.raises(SauvegardeError) as caught:
        restic.check(dataclasses.replace(host.vault, password="another"))
    assert caught.value.exit_code == WrongKey.exit_code
    write(host.settings, host.values)
    (host.folder / "vault").rename(host.folder / "unmounted")
    code, _, err = host.run()
    assert code == Partial.exit_code and not (host.folder / "vault").exists(), (
        "an empty mount point gets no new repository"
    )
    another_job(host)
    code, _, err = host.run("run", OTHER)
    assert code == Partial.exit_code and "another name" in err and not (host.folder / "vault").exists(), (
        "nor by a new job"
    )
    with pytest.raises(SauvegardeError) as caught:
        restic.ensure(host.vault, known=True)
    assert caught.value.exit_code == NoRepository.exit_code


def test_two_new_jobs_at_once_make_one_repository(unmade):
    """Each would make it: what two of restic's init leave may never open again."""
    host = unmade
    another_job(host)
    both = [host.start("run", name) for name in (JOB, OTHER)]
    assert [each.communicate(timeout=300)[1] for each in both] == ["", ""]
    assert [each.returncode for each in both] == [OK, OK]
    assert len(restic.run(host.vault, ["list", "keys", "--no-lock"], "x").text.split()) == 1
    assert {snapshot.job for snapshot in restic.newest_snapshots(host.vault)} == {JOB, OTHER}


def test_another_host_makes_the_repository_in_the_same_moment(unmade, monkeypatch):
    original = restic.run

    def slower(repository, arguments, *more, **options):
        if arguments == ["init"]:
            original(repository, arguments, "x")
        return original(repository, arguments, *more, **options)

    monkeypatch.setattr(restic, "run", slower)
    restic.ensure(unmade.vault, known=False)
    assert restic.newest_snapshots(unmade.vault) == []


def private_files(host):
    """What opens the repository, in files: wherever a run may put them."""
    places = [credentials.RUN / JOB, host.state]
    return [each for place in places if place.is_dir() for each in place.glob(".secrets-*")]


@pytest.fixture()
def mute(host):
    """A socket that gives restic no answer: the host's repository is there."""
    with socket.socket() as result:
        result.bind(("127.0.0.1", 0))
        result.listen()
        result.settimeout(300)
        write(host.settings, dict(host.values, repository=f"rest:http://127.0.0.1:{result.getsockname()[1]}/"))
        yield result


@once
@pytest.mark.parametrize("victim", ["run", "worker"])
def test_what_opens_the_repository_is_in_files_only_while_restic_runs(host, mute, victim):
    """Whoever is killed then: the next run has cleared it. Hooks see none of it."""
    seen = host.folder / "seen"
    words = f"ls -l /proc/self/fd; env; ls -A {host.state} {credentials.RUN}/{JOB}"
    hook = ["/bin/sh", "-c", f"({words}) >> {seen} 2>&1; true"]
    host.configure(offsite=["vault"], before=[hook], after=[hook])
    process = host.start("run", JOB)
    restic_waits, _ = mute.accept()
    (folder,) = private_files(host)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [(each.name, each.stat().st_mode & 0o777) for each in folder.iterdir()] == [("password", 0o600)]
    if victim == "run":
        process.kill()
        process.communicate(timeout=300)
        assert private_files(host) == [folder], "nobody was left who could have cleared it"
    else:
        (worker,) = _children(process.pid)
        os.kill(worker, signal.SIGKILL)
        _, err = process.communicate(timeout=300)
        assert process.returncode == Partial.exit_code and "was killed" in err
        assert private_files(host) == [], "whoever waited for it has cleared it"
    restic_waits.close()
    host.configure(before=[hook], after=[hook])
    conftest.wait_until(lambda: host.run()[0] == OK)
    assert private_files(host) == [], "even by a run that copies nothing"
    assert "SAUVEGARDE_RESULT=success" in seen.read_text()
    assert not [word for word in ("secrets", "RESTIC", "vault", PASSWORD) if word in seen.read_text()]


def test_a_repository_is_known_by_whoever_has_copied_to_it(host):
    """Root looks, since no job's user sees another's state; what stands there that is no state hides nothing."""
    job = config.Job.from_values(another_job(host), host.folder / "etc")
    assert config.open_repositories(job)["vault"].known is False
    (job.state / "state.json").write_text('{"offsite": ["vault"]}')
    job_state.write(host.state / "state.json", {"offsite": {"vault": {"last_success": 1.0}}})
    host.state.chmod(0o700)
    assert config.open_repositories(job)["vault"].known is True
    (host.state / "state.json").unlink()
    os.mkfifo(str(host.state / "state.json"))
    assert config.open_repositories(job)["vault"].known is False


@once
@pytest.mark.parametrize("broken", ["a folder", "no text", "old settings"])
def test_a_repository_that_cannot_be_read_keeps_no_backup_from_being_made(host, broken):
    host.settings.unlink()
    if broken == "a folder":
        host.settings.mkdir()
    elif broken == "no text":
        write(host.settings, dict(host.values, repository=7))
    else:
        write(host.settings, {"name": "vault", "repository": "x", "password_file": "/nowhere"})
    code, _, err = host.run()
    assert code == Partial.exit_code and f"{host.labels()[0]} is good" in err and "Traceback" not in err
    assert broken == "a folder" or "Run the backup role" in err


def test_what_opens_the_repository_is_no_empty_file_where_settings_are_old(host):
    (host.folder / "etc" / "forget").mkdir()
    old = {"name": "vault", "repository": "x", "password_file": "/x", "user": USER, "state": str(host.state)}
    write(host.folder / "etc" / "forget" / "vault.json", dict(old, policies=[]))
    code, _, err = host.run("forget", "vault")
    assert code == SauvegardeError.exit_code and "Missing or wrong: password" in err and "Run the backup role" in err


@pytest.mark.skipif(USER != "root", reason="only root makes places")
def test_a_place_is_taken_from_nobody_who_uses_it(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "RUN", tmp_path / "run")
    place = Path(credentials.place(JOB, 65534))
    assert (place.stat().st_uid, place.stat().st_mode & 0o777) == (65534, 0o700)
    with credentials.secret_files(Repository("vault", "/nowhere", PASSWORD, secrets_folder=str(place))) as files:
        for take in (lambda: credentials.place(JOB, 0), lambda: credentials.remove(JOB)):
            with pytest.raises(SauvegardeError, match="A run that has not ended") as caught:
                take()
            assert caught.value.exit_code == Locked.exit_code
        assert credentials.place(JOB, 65534) == str(place) and Path(files.password).exists()
    (place / ".secrets-killed").mkdir()
    assert Path(credentials.place(JOB, 0)).stat().st_uid == 0 and list(place.iterdir()) == []
    credentials.remove(JOB)
    assert list((tmp_path / "run").iterdir()) == []
    # Two that begin at once wait for each other.
    with credentials._exclusive():
        second = threading.Thread(target=credentials.place, args=(JOB, 0))
        second.start()
        second.join(0.2)
        assert second.is_alive() and not place.exists()
    second.join(60)
    assert place.is_dir()


@pytest.mark.skipif(USER != "root", reason="only root makes places")
def test_a_job_that_is_described_no_more_leaves_nothing_but_archives(host, tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "RUN", tmp_path / "run")
    Path(credentials.place("gone", 0), ".secrets-killed").mkdir()
    states, manifests = tmp_path / "states", tmp_path / "manifests"
    for each in (states / "gone", states / "stays", states / "no-job-s", states / ".ssh", manifests / "vault"):
        each.mkdir(parents=True)
        (each / ("x" if each.name == "no-job-s" else "lock")).write_text("")
    (host.settings.parent / "postgres").mkdir()
    ask = (["stays"], [], str(states), str(manifests), str(host.folder / "etc"))
    folders = [str(manifests / "vault"), str(host.settings.parent / "postgres")]
    collected = ["gone", *sorted(folders)]
    assert job_cleanup.clean_up(*ask, check=True) == job_cleanup.Cleanup(collected, [])
    with lock.hold(states / "gone" / "lock", "x"):
        held = job_cleanup.clean_up(*ask, patience=0)
    assert held.removed == collected[1:] and "gone" in held.warnings[0] and "is running already" in held.warnings[0]
    assert job_cleanup.clean_up(*ask) == job_cleanup.Cleanup(["gone"], [])
    assert job_cleanup.clean_up(*ask).removed == [] and not list((tmp_path / "run").iterdir())
    assert not list(manifests.iterdir())
    assert sorted(each.name for each in states.iterdir()) == [".ssh", "no-job-s", "stays"]


def test_nothing_is_forgotten_in_a_damaged_repository(host):
    """Fault 23."""
    host.configure(offsite=["vault"], retention={"last": 9})
    for _ in range(2):
        assert host.run()[0] == OK
    for pack in (host.folder / "vault" / "data").rglob("*"):
        if pack.is_file():
            pack.unlink()
            break
    host.configure(offsite=["vault"], retention={"last": 1})
    code, _, err = host.run()
    assert code == Partial.exit_code and "nothing is removed" in err.lower()
    # What was in it before is still listed, even though it cannot be read any more.
    text = restic.run(host.vault, ["snapshots", "--json", "--no-lock"], "x").text
    assert text.count('"short_id"') >= 2


def test_tidied_by_the_repositorys_own_host(host):
    """Where the repository is append-only its host applies the policies; jobs without one stay whole."""
    write(host.settings, dict(host.values, forget=False))
    host.configure(offsite=["vault"], retention={"last": 1})
    for _ in range(3):
        assert host.run()[0] == OK
    assert len(host.labels()) == 1 and len(restic.newest_snapshots(host.vault)) == 3
    assert (
        offsite_copy.forget_for_others(host.vault, [], ignore_step) == []
        and len(restic.newest_snapshots(host.vault)) == 3
    )
    policies = [{"host": "db1", "job": JOB, "retention": {"last": 1}}]
    done = offsite_copy.forget_for_others(host.vault, policies, ignore_step, dry_run=True)
    assert [len(line["forgotten"]) for line in done] == [2]
    assert len(restic.newest_snapshots(host.vault)) == 3
    (host.folder / "etc" / "forget").mkdir()
    settings = dict(host.values, user=USER, state=str(host.state), policies=policies)
    write(host.folder / "etc" / "forget" / "vault.json", settings)
    assert host.run("forget", "vault") == (OK, "", "")
    assert [snapshot.id for snapshot in restic.newest_snapshots(host.vault)] == host.labels()


@once
@pytest.mark.parametrize("forget", [True, False])
def test_archives_from_the_future_stop_the_forgetting_and_nothing_else(host, forget):
    """They are said where the repository is append-only, too; that one's own host refuses to tidy it."""
    write(host.settings, dict(host.values, forget=forget))
    host.configure(offsite=["vault"], retention={"last": 1})
    assert host.run()[0] == OK
    empty = host.folder / "empty"
    empty.mkdir()
    (empty / "bait").write_text("x")
    tags = ["--tag", "sauvegarde", "--tag", f"job={JOB}", "--tag", "id=29990101T000000Z"]
    restic.run(host.vault, ["backup", "--host=db1", *tags, "."], "x", cwd=str(empty))
    for count in (3, 4):
        code, _, err = host.run()
        assert code == Partial.exit_code and "from the future" in err and "29990101T000000Z" in err
        existing = [snapshot.id for snapshot in restic.newest_snapshots(host.vault)]
        assert len(existing) == count and existing[-2] == host.labels()[-1], "the new archive is copied"
    policies = [{"host": "db1", "job": JOB, "retention": {"last": 1}}]
    with pytest.raises(SauvegardeError, match="from the future"):
        offsite_copy.forget_for_others(host.vault, policies, ignore_step)


@once
def test_the_clock_went_forward_once(host):
    """The labels that came of it are copied, each once, and so is what comes after them."""
    from sauvegarde.backup import kinds

    assert host.run()[0] == OK
    kinds.back_up(host.configure(offsite=["vault"]), host.root, now=time.time() + 40 * 86400)
    for _ in range(2):
        code, _, err = host.run()
        assert code == Partial.exit_code and "from the future" in err
    assert len(host.labels()) == 4
    copies = [snapshot.id for snapshot in restic.all_snapshots(host.vault, "db1", JOB)]
    assert sorted(copies) == host.labels()


def test_the_same_data_costs_nothing_twice(host):
    assert host.run()[0] == OK
    size = folder_size(host.folder / "vault")
    assert host.run()[0] == OK
    assert folder_size(host.folder / "vault") < size * 1.1 + 30000


def folder_size(path):
    return int(subprocess.run(["du", "-sb", str(path)], stdout=subprocess.PIPE, check=True).stdout.split()[0])


@once
def test_the_address_of_an_sftp_repository_becomes_a_command(tmp_path):
    files = credentials.SecretFiles("/p", "/k", "/h")
    for place, words in (
        ("sftp:me@vault:/srv/x", "-l me vault -s sftp"),
        ("sftp://me@vault:2222//srv/x", "-l me -p 2222 vault -s sftp"),
        ("sftp:vault:x", "vault -s sftp"),
        ("sftp:me@example.org@vault:/srv/x", "-l me@example.org vault -s sftp"),
        ("sftp://me%40example.org@vault//srv/x", "-l me@example.org vault -s sftp"),
    ):
        (option,) = [
            each for each in restic._options(Repository("v", place, PASSWORD), files) if each.startswith("sftp.")
        ]
        assert option.endswith(words) and "StrictHostKeyChecking=yes" in option and "-i /k" in option
    assert restic._options(Repository("v", "/srv/x", PASSWORD), files) == ["--no-cache"]


def test_an_old_restic_is_reported(monkeypatch):
    monkeypatch.setattr(restic, "version", lambda: (0, 11, 0))
    assert "does not compress" in restic.warnings()[0]
    monkeypatch.setattr(restic, "version", lambda: (0, 14, 0))
    assert restic.warnings() == []


@once
def test_the_list_shows_both_places_and_says_what_it_could_not_read(host):
    assert host.run()[0] == OK
    code, out, _ = host.run("list", "--offsite")
    assert code == OK and [line["where"] for line in json.loads(out)["archives"]] == ["local", "vault"]
    write(host.settings, dict(host.values, password="another"))
    code, out, _ = host.run("list", "--offsite")
    assert code == Partial.exit_code and json.loads(out)["problems"][0]["exit_code"] == WrongKey.exit_code
    assert [line["where"] for line in json.loads(out)["archives"]] == ["local"]
    assert catalog.collect(str(host.folder / "etc"), with_offsite=False)[1] == []
    # What is broken is told, one problem each, and hides nothing else.
    kept = host.folder / "manifests"
    write(host.settings, dict(host.values, manifests=str(kept)))
    write(host.folder / "etc" / "jobs" / f"{OTHER}.json", dict(host.configure(offsite=["vault"]), name=OTHER, root=7))
    (host.folder / "etc" / "jobs" / "broken.json").write_text("[")
    host.configure(offsite=["vault", 7], user="nobody-s-any-more")
    code, out, _ = host.run("list", "--offsite")
    answer = json.loads(out)
    assert code == Partial.exit_code and [line["where"] for line in answer["archives"]] == ["local", "vault"]
    messages = [each["what"] for each in answer["problems"]]
    for words in ("job broken", f"job {OTHER}", "user nobody-s-any-more", "repository named 7"):
        assert len([line for line in messages if words in line]) == 1, messages
    assert len(messages) == 4 and len(list(kept.iterdir())) == 1
