"""The offsite copy with the real restic: copied, checked, forgotten, and listed from the repository alone."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from sauvegarde import archive, catalog, offsite, runner
from sauvegarde.errors import FAILED, NO_REPOSITORY, OK, PARTIAL, WRONG_KEY, SauvegardeError
from test_runner import USER, Host

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")


@pytest.fixture()
def host(tmp_path):
    tmp_path.chmod(0o755)
    found = Host(tmp_path)
    folder = tmp_path / "etc" / "offsite" / USER
    folder.mkdir(parents=True)
    (folder / "password").write_text("c4nary-of-the-repository\n")
    vault = {"name": "vault", "repository": str(tmp_path / "vault"), "password_file": str(folder / "password")}
    write(folder / "vault.json", vault)
    found.vault, found.settings = vault, folder / "vault.json"
    found.configure(offsite=["vault"])
    return found


def write(path, values):
    import json

    path.write_text(json.dumps(values))


def told(_step, **_values):
    pass


def test_copied_checked_and_restored_by_restic_alone(host, tmp_path):
    assert host.run() == (OK, "", "")
    (label,) = host.labels()
    (snapshot,) = offsite.snapshots(host.vault)
    assert (snapshot["host"], snapshot["job"], snapshot["id"]) == ("db1", "demo", label)
    assert host.told()["offsite"]["vault"]["id"] == label
    assert "offsite_last_success_timestamp_seconds" in host.samples()
    back = tmp_path / "back"
    offsite.restic(host.vault, ["restore", snapshot["snapshot"], "--target", str(back)], "x")
    assert archive.verify_plain(back)["id"] == label
    assert not list(host.directory.glob(".*")), "the uncompressed form is gone"


def test_the_catalog_is_rebuilt_from_the_repository_alone(host, tmp_path):
    for _ in range(2):
        assert host.run()[0] == OK
    here = catalog.local(host.root, "db1")
    shutil.rmtree(str(host.root))
    there = catalog.remote(host.vault, tmp_path / "manifests")
    keys = ("host", "job", "id", "kind", "source", "bytes", "verified")
    assert [[line[key] for key in keys] for line in there] == [[line[key] for key in keys] for line in here]
    assert [line["where"] for line in there] == ["vault", "vault"]
    assert catalog.remote(host.vault, tmp_path / "manifests") == there, "from the cache"
    first, second = sorted((tmp_path / "manifests").iterdir())
    first.write_text("{half")
    assert catalog.remote(host.vault, tmp_path / "manifests") == there, "which decides nothing"
    offsite.restic(host.vault, ["forget", second.stem], "x")
    assert [line["path"] for line in catalog.remote(host.vault, tmp_path / "manifests")] == [first.stem]
    assert list((tmp_path / "manifests").iterdir()) == [first], "nor outlives what it is of"


def test_what_was_missed_is_caught_up_and_forgotten_by_the_same_retention(host):
    write(host.settings, dict(host.vault, repository="/proc/nowhere"))
    host.configure(offsite=["vault"], retention={"last": 2})
    code, _, err = host.run()
    assert code == PARTIAL and "vault" in err and len(host.labels()) == 1
    assert "offsite_last_success_timestamp_seconds" not in host.samples()
    write(host.settings, host.vault)
    for _ in range(3):
        assert host.run()[0] == OK
    assert [line["id"] for line in offsite.snapshots(host.vault)] == host.labels() and len(host.labels()) == 2


def test_a_wrong_key_and_a_repository_that_is_gone(host):
    assert host.run()[0] == OK
    (host.settings.parent / "password").write_text("another")
    code, _, err = host.run()
    assert code == PARTIAL and "wrong password" in err and "another" not in err.replace("another user", "")
    with pytest.raises(SauvegardeError) as caught:
        offsite.check(host.vault)
    assert caught.value.exit_code == WRONG_KEY
    (host.settings.parent / "password").write_text("c4nary-of-the-repository\n")
    (host.folder / "vault").rename(host.folder / "unmounted")
    code, _, err = host.run()
    assert code == PARTIAL and not (host.folder / "vault").exists(), "an empty mount point gets no new repository"
    other = dict(host.configure(offsite=["vault"]), name="other", state=str(host.folder / "other"))
    Path(other["state"]).mkdir()
    (host.root / "other").mkdir(mode=0o700)
    write(host.folder / "etc" / "jobs" / "other.json", other)
    code, _, err = host.run("run", "other")
    assert code == PARTIAL and "another name" in err and not (host.folder / "vault").exists(), "nor by a new job"
    with pytest.raises(SauvegardeError) as caught:
        offsite.ensure(host.vault, known=True)
    assert caught.value.exit_code == NO_REPOSITORY


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
    assert code == PARTIAL and "nothing is removed" in err.lower()
    # What was in it before is still listed, even though it cannot be read any more.
    text = offsite.restic(host.vault, ["snapshots", "--json", "--no-lock"], "x").text
    assert text.count('"short_id"') >= 2


def test_tidied_by_the_repositorys_own_host(host):
    """Where the repository is append-only its host applies the policies; jobs without one stay whole."""
    write(host.settings, dict(host.vault, forget=False))
    host.configure(offsite=["vault"], retention={"last": 1})
    for _ in range(3):
        assert host.run()[0] == OK
    assert len(host.labels()) == 1 and len(offsite.snapshots(host.vault)) == 3
    settings = dict(host.vault, user=USER, state=str(host.state), policies=[])
    assert offsite.forget_for_others(settings, told) == [] and len(offsite.snapshots(host.vault)) == 3
    settings["policies"] = [{"host": "db1", "job": "demo", "retention": {"last": 1}}]
    assert [len(line["forgotten"]) for line in offsite.forget_for_others(settings, told, dry_run=True)] == [2]
    assert len(offsite.snapshots(host.vault)) == 3
    (host.folder / "etc" / "forget").mkdir()
    write(host.folder / "etc" / "forget" / "vault.json", settings)
    assert host.run("forget", "vault") == (OK, "", "")
    assert [line["id"] for line in offsite.snapshots(host.vault)] == host.labels()


@pytest.mark.parametrize("forget", [True, False])
def test_archives_from_the_future_stop_the_forgetting_and_nothing_else(host, forget):
    """They are said where the repository is append-only, too; that one's own host refuses to tidy it."""
    write(host.settings, dict(host.vault, forget=forget))
    host.configure(offsite=["vault"], retention={"last": 1})
    assert host.run()[0] == OK
    empty = host.folder / "empty"
    empty.mkdir()
    (empty / "bait").write_text("x")
    tags = ["--tag", "sauvegarde", "--tag", "job=demo", "--tag", "id=29990101T000000Z"]
    offsite.restic(host.vault, ["backup", "--host=db1", *tags, "."], "x", cwd=str(empty))
    for count in (3, 4):
        code, _, err = host.run()
        assert code == PARTIAL and "from the future" in err and "29990101T000000Z" in err
        there = [line["id"] for line in offsite.snapshots(host.vault)]
        assert len(there) == count and there[-2] == host.labels()[-1], "the new archive is copied"
    settings = dict(host.vault, policies=[{"host": "db1", "job": "demo", "retention": {"last": 1}}])
    with pytest.raises(SauvegardeError, match="from the future"):
        offsite.forget_for_others(settings, told)


def test_the_clock_went_forward_once(host):
    """The labels that came of it are copied, each once, and so is what comes after them."""
    from sauvegarde import kinds

    assert host.run()[0] == OK
    kinds.back_up(host.configure(offsite=["vault"]), host.root, now=time.time() + 40 * 86400)
    for _ in range(2):
        code, _, err = host.run()
        assert code == PARTIAL and "from the future" in err
    assert len(host.labels()) == 4
    copies = [line["id"] for line in offsite._tagged(host.vault, "db1", "demo")]
    assert sorted(copies) == host.labels()


def test_the_same_data_costs_nothing_twice(host):
    assert host.run()[0] == OK
    size = folder_size(host.folder / "vault")
    assert host.run()[0] == OK
    assert folder_size(host.folder / "vault") < size * 1.1 + 30000


def folder_size(path):
    return int(subprocess.run(["du", "-sb", str(path)], stdout=subprocess.PIPE, check=True).stdout.split()[0])


def test_the_address_of_an_sftp_repository_becomes_a_command(tmp_path):
    vault = {"name": "v", "ssh_key": "/k", "ssh_known_hosts": "/h"}
    for place, words in (
        ("sftp:me@vault:/srv/x", "-l me vault -s sftp"),
        ("sftp://me@vault:2222//srv/x", "-l me -p 2222 vault -s sftp"),
        ("sftp:vault:x", "vault -s sftp"),
    ):
        (option,) = [each for each in offsite._options(dict(vault, repository=place)) if each.startswith("sftp.")]
        assert option.endswith(words) and "StrictHostKeyChecking=yes" in option and "-i /k" in option
    assert offsite._options(dict(vault, repository="/srv/x")) == ["--no-cache"]


def test_an_old_restic_is_said(monkeypatch):
    monkeypatch.setattr(offsite, "version", lambda: (0, 11, 0))
    assert "does not compress" in offsite.warnings()[0]
    monkeypatch.setattr(offsite, "version", lambda: (0, 14, 0))
    assert offsite.warnings() == []


def test_the_list_shows_both_places_and_says_what_it_could_not_read(host):
    import json

    assert host.run()[0] == OK
    code, out, _ = host.run("list", "--offsite")
    assert code == OK and [line["where"] for line in json.loads(out)["archives"]] == ["local", "vault"]
    (host.settings.parent / "password").write_text("another")
    code, out, _ = host.run("list", "--offsite")
    assert code == PARTIAL and json.loads(out)["problems"][0]["exit_code"] == WRONG_KEY
    assert [line["where"] for line in json.loads(out)["archives"]] == ["local"]
    assert runner.collect(str(host.folder / "etc"), with_offsite=False)[1] == [] and FAILED
