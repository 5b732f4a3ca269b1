"""Fixture sets in a folder and in git, and the kinds of job that archive a Django site's data."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest
from sample_site import ENVIRONMENTS, differences, fingerprint, manage, shell, sites_of, text_of
from sauvegarde.archive import archive_reader
from sauvegarde.backup import kinds
from sauvegarde.django import data_load, fixture_sets
from sauvegarde.errors import SauvegardeError
from sauvegarde.system import git as git_of_ours

SETS = [
    {"name": "contracts", "models": ["reference.Contract", "reference.ContractVariation"]},
    {"name": "trades", "file": "metiers.json", "models": ["reference.Trade", "reference.TradeVariation"]},
    {"name": "places", "models": ["reference.Place", "reference.PlaceVariation"]},
    {"name": "sites", "models": ["sites"]},
    {"name": "database", "file": "database.jsonl", "models": ["*"], "people": "keep"},
]


@pytest.fixture(scope="module")
def sites(cluster, tmp_path_factory):
    return sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory)


@pytest.fixture()
def repository(tmp_path):
    """A clone of a bare repository."""
    bare, clone = tmp_path / "bare.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", str(bare))
    git(tmp_path, "clone", "--quiet", str(bare), str(clone))
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "Start")
    git(clone, "push", "--quiet", "--set-upstream", "origin", "HEAD")
    return clone


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments]
    environment = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null")
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout.decode().strip()


def names(done):
    return [each["name"] for each in done if each["changed"]]


def test_unchanged_data_is_an_unchanged_file(sites, tmp_path):
    source = sites.new("pg", filled=True)
    assert names(fixture_sets.export(source, SETS, tmp_path, write=False)) == [each["name"] for each in SETS]
    assert list(tmp_path.iterdir()) == []
    assert names(fixture_sets.export(source, SETS, tmp_path)) == [each["name"] for each in SETS]
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    # The same data by another way: loaded into another database, in another order.
    entries = json.loads(text_of(source).decode())
    turned = [each for each in entries if each["model"].startswith(("offers.", "reference."))][::-1]
    entries = turned + [each for each in entries if each not in turned]
    other = sites.new("sqlite")
    path = tmp_path / "data.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    data_load.load(other, [path], {})
    path.unlink()
    assert names(fixture_sets.export(other, SETS, tmp_path)) == []
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before
    # One change is one line.
    shell(other, "from reference.models import *\nprint(Place.objects.filter(code='007').update(inhabitants=7))")
    assert names(fixture_sets.export(other, SETS, tmp_path)) == ["places", "database"]
    old, new = before["places.json"][0].split(b"\n"), (tmp_path / "places.json").read_bytes().split(b"\n")
    assert sum(one != two for one, two in zip(old, new)) == 1 and len(old) == len(new)


def test_the_files_are_stock_fixtures(sites, tmp_path):
    source, target = sites.new("sqlite", filled=True), sites.new("pg")
    done = fixture_sets.export(source, SETS[:4], tmp_path)
    manage(target, "loaddata", "-v0", *[each["path"] for each in done])
    values = {"labels": ["reference.Contract", "reference.Trade", "reference.Place", "sites"], "exclude": []}
    assert differences(fingerprint(source, **values), fingerprint(target, **values)) == []


def test_import_brings_in_and_a_second_one_changes_nothing(sites, tmp_path):
    """All of the sets, the one that is the whole site among them: its objects come twice."""
    source, target = sites.new("sqlite", filled=True), sites.new("pg")
    fixture_sets.export(source, SETS, tmp_path)
    planned = fixture_sets.bring_in(target, SETS, tmp_path, {"check_only": True})
    assert planned["changed"]
    assert "reference.place: 0 rows expected, 120 found." in [each["sentence"] for each in planned["differences"]]
    done = fixture_sets.bring_in(target, SETS, tmp_path)
    assert done["changed"] and done["differences"] == planned["differences"]
    assert differences(fingerprint(source), fingerprint(target)) == []
    assert not fixture_sets.bring_in(target, SETS, tmp_path)["changed"]
    # A row that the sets do not have stays in a merge, and goes in a replacement; a check says so before.
    shell(target, "from reference.models import *\nTrade.objects.create(name='Autre')\nprint(1)")
    assert not fixture_sets.bring_in(target, SETS[:4], tmp_path, {"check_only": True})["changed"]
    assert not fixture_sets.bring_in(target, SETS[:4], tmp_path)["changed"]
    planned = fixture_sets.bring_in(target, SETS[:4], tmp_path, {"check_only": True, "mode": "replace"})
    assert [each["model"] for each in planned["differences"]] == ["reference.trade"]
    assert shell(target, "from reference.models import *\nprint(Trade.objects.filter(name='Autre').count())") == 1
    assert fixture_sets.bring_in(target, SETS[:4], tmp_path, {"mode": "replace"})["changed"]
    assert shell(target, "from reference.models import *\nprint(Trade.objects.filter(name='Autre').count())") == 0


def test_the_sets_are_of_one_moment(sites, tmp_path, monkeypatch):
    """What is written while they are read is in none of them: one dump makes them all."""
    where, dumps = sites.new("pg", filled=True), []
    stream = fixture_sets.data_dump.stream

    def counted(*value, **named):
        dumps.append(value[1])
        return stream(*value, **named)

    monkeypatch.setattr(fixture_sets.data_dump, "stream", counted)
    fixture_sets.export(where, SETS, tmp_path)
    assert len(dumps) == 1
    with pytest.raises(SauvegardeError, match=r"names reference\.Colour, of which the site has nothing"):
        fixture_sets.export(where, [*SETS, {"name": "x", "models": ["reference.Colour"]}], tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_link_in_the_sites_own_folder_leads_root_nowhere(sites, monkeypatch):
    """Its owner puts one in the place of the file that was just written, to a file of root's."""
    where = sites.new("sqlite", filled=True)
    with tempfile.TemporaryDirectory() as folder:
        secret, own = Path(folder) / "secret", Path(folder) / "own"
        secret.write_text("root's own", encoding="utf-8")
        secret.chmod(0o600)
        Path(folder).chmod(0o755)
        own.mkdir()
        shutil.chown(str(own), "nobody")
        path = own / "sites.json"

        def swap(_folder):
            path.unlink()
            path.symlink_to(secret)

        monkeypatch.setattr(fixture_sets.fixture_file.file_sync, "sync", swap)
        fixture_sets.export(where, SETS[3:4], own, owner="nobody")
        assert path.is_symlink() and secret.owner() == "root"
        # Nor is it read through the link, which a diff would show.
        with pytest.raises(SauvegardeError, match="cannot be written"):
            fixture_sets.export(where, SETS[3:4], own, owner="nobody", texts=True)
        # Nor by an import.
        with pytest.raises(SauvegardeError, match="The fixture cannot be read") as caught:
            fixture_sets.bring_in(where.replace(user="nobody"), SETS[3:4], own)
        assert "Permission denied" in caught.value.why
        path.unlink()
        monkeypatch.undo()
        fixture_sets.export(where, SETS[3:4], own, owner="nobody")
        assert path.owner() == "nobody" and path.stat().st_mode & 0o777 == 0o644


def test_a_commit_is_made_and_pushed_only_when_something_changed(sites, repository):
    where = sites.new("sqlite", filled=True)
    (repository / "fixtures").mkdir()
    files = [f"fixtures/{each['file']}" for each in fixture_sets.checked(SETS[:4])]
    who = {"name": "Fixtures", "email": "fixtures@example.org"}
    fixture_sets.export(where, SETS[:4], repository / "fixtures")
    first = git_of_ours.commit(repository, files, "Update", push=True, **who)
    assert first.committed == git(repository, "rev-parse", "@{upstream}") and first.pushed
    fixture_sets.export(where, SETS[:4], repository / "fixtures")
    assert git_of_ours.commit(repository, files, "Update", push=True, **who) == git_of_ours.Commit(None, False)
    assert git(repository, "log", "-1", "--format=%an <%ae> %s") == "Fixtures <fixtures@example.org> Update"
    # What stands in the repository otherwise is not taken along.
    (repository / "other").write_text("x", encoding="utf-8")
    shell(where, "from reference.models import *\nprint(Trade.objects.update(comment='x'))")
    fixture_sets.export(where, SETS[:4], repository / "fixtures")
    assert git_of_ours.commit(repository, files, "Trades", **who).committed
    assert git(repository, "show", "--name-only", "--format=", "HEAD") == "fixtures/metiers.json"
    # A push that was not made is made up for.
    assert git_of_ours.commit(repository, files, "Nothing", push=True, **who) == git_of_ours.Commit(None, True)
    assert git(repository, "rev-parse", "HEAD") == git(repository, "rev-parse", "@{upstream}")


def test_a_git_error_is_reported_word_for_word(tmp_path):
    with pytest.raises(SauvegardeError) as caught:
        git_of_ours.commit(tmp_path, ["x"], "Message")
    assert "git add failed" in caught.value.what and "not a git repository" in caught.value.why


def job(where, name, kind, **values):
    return dict(values, name=name, kind=kind, site=where.as_dict())


@pytest.fixture()
def root(tmp_path):
    for name in ("root", "root/data", "root/sets"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path / "root"


def test_a_sqlite_job_publishes_by_git_lfs_and_only_when_its_data_changed(root, repository, tmp_path):
    """With the real Git LFS: its objects reach the other repository, and a clone has the database."""
    if shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed")
    database, bare = tmp_path / "dev.sqlite3", tmp_path / "bare.git"
    with contextlib.closing(sqlite3.connect(str(database))) as connection:
        connection.executescript("CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('a'), ('b')")
    values = {"name": "data", "kind": "sqlite", "path": str(database)}
    values["repository"] = {"path": str(repository), "push": True, "name": "F", "email": "f@example.org"}
    git(repository, "lfs", "install", "--local")
    with pytest.raises(SauvegardeError, match="not tracked by Git LFS"):
        kinds.back_up(values, str(root))
    git(repository, "lfs", "track", "*.sqlite3")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "--quiet", "-m", "Track")
    first = kinds.back_up(values, str(root))["source"]["commit"]
    assert first == git(repository, "rev-parse", "@{upstream}")
    assert git(repository, "show", "HEAD:dev.sqlite3").startswith("version https://git-lfs.github.com/spec/v1")
    clone = tmp_path / "again"
    git(tmp_path, "clone", "--quiet", str(bare), str(clone))
    git(clone, "lfs", "install", "--local")
    git(clone, "lfs", "pull")
    with contextlib.closing(sqlite3.connect(str(clone / "dev.sqlite3"))) as connection:
        assert connection.execute("SELECT group_concat(v, '') FROM t").fetchone() == ("ab",)
    # The same rows in other pages are no new object.
    with contextlib.closing(sqlite3.connect(str(database))) as connection:
        connection.executescript("UPDATE t SET v = v || 'x'; UPDATE t SET v = substr(v, 1, 1); VACUUM")
    assert kinds.back_up(values, str(root))["source"]["commit"] is None
    with contextlib.closing(sqlite3.connect(str(database))) as connection:
        connection.executescript("UPDATE t SET v = 'c'")
    assert kinds.back_up(values, str(root))["source"]["commit"] == git(repository, "rev-parse", "@{upstream}") != first


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_dumpdata_job_archives_what_can_be_loaded(sites, root, tmp_path, form):
    where, target = sites.new("pg", filled=True), sites.new("sqlite")
    manifest = kinds.back_up(job(where, "data", "dumpdata", dumpdata={"format": form}), str(root))
    path = root / "data" / manifest["id"]
    assert kinds.verify(path)["fingerprint"] == fingerprint(where)
    assert manifest["source"]["counts"]["offers.offer"] == 120
    assert manifest["tools"]["django"]
    plain = tmp_path / "plain"
    plain.mkdir()
    archive_reader.expand(path, plain)
    data_load.load(target, [plain / f"data.{form}"], {})
    assert differences(manifest["fingerprint"], fingerprint(target)) == []


def test_a_damaged_archive_is_seen(sites, root):
    manifest = kinds.back_up(job(sites.new("sqlite", filled=True), "data", "dumpdata"), str(root))
    path = root / "data" / manifest["id"] / "data.json.zst"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    with pytest.raises(SauvegardeError) as caught:
        kinds.verify(path.parent)
    assert caught.value.exit_code == 14


def test_a_failed_dumpdata_job_publishes_nothing(sites, root):
    where = sites.new("sqlite").replace(settings="cap.nothing")
    with pytest.raises(SauvegardeError):
        kinds.back_up(job(where, "data", "dumpdata"), str(root))
    assert list((root / "data").iterdir()) == []


def test_a_fixtures_job_archives_the_sets_and_commits_them(sites, root, repository):
    where = sites.new("sqlite", filled=True)
    (repository / "fixtures").mkdir()
    git(repository, "config", "user.name", "T")
    git(repository, "config", "user.email", "t@example.org")
    values = job(where, "sets", "fixtures", sets=SETS[:4], repository={"path": str(repository), "push": True})
    manifest = kinds.back_up(values, str(root))
    assert sorted(each["path"] for each in manifest["files"]) == [
        "contracts.json", "metiers.json", "places.json", "sites.json"
    ]  # fmt: skip
    assert kinds.verify(root / "sets" / manifest["id"])
    assert manifest["source"]["commit"] == git(repository, "rev-parse", "@{upstream}")
    assert kinds.back_up(values, str(root))["source"]["commit"] is None


def test_smuggler_finds_and_loads_the_sets(sites, cluster, tmp_path, tmp_path_factory):
    """The real package, where pip has it, in an environment of its own."""
    existing = sites.new("sqlite", filled=True)
    folder = tmp_path / "fixtures"
    folder.mkdir()
    fixture_sets.export(existing, SETS[:4], folder)
    smuggling = sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory, "django-smuggler")
    where = smuggling.new("sqlite", SITE_EXTRA_APPS="smuggler", FIXTURE_DIR=str(folder))
    code = (
        "from django.test import Client\nfrom django.contrib.auth.models import User\n"
        "from django.conf import settings\n"
        "User.objects.create_superuser('admin', 'a@example.org', 'secret')\n"
        "client = Client(SERVER_NAME='localhost')\nclient.login(username='admin', password='secret')\n"
        "page = client.get('/admin/load/').content.decode()\n"
        "found = [name for name in ('contracts', 'metiers', 'places', 'sites') if name + '.json' in page]\n"
        "import os\n"
        "paths = [os.path.join(settings.FIXTURE_DIRS[0], name) for name in os.listdir(settings.FIXTURE_DIRS[0])]\n"
        "answer = client.post('/admin/load/', {'picked_files': paths}, follow=True)\n"
        "from reference.models import Place\n"
        "print(json.dumps([found, answer.status_code, Place.objects.count()]))"
    )
    assert shell(where, code) == [["contracts", "metiers", "places", "sites"], 200, 120]
