"""Fixture sets in folders of their own, indented; what git would refuse is found before the work."""

import json
import shutil
import subprocess

import pytest
from sample_site import ENVIRONMENTS, manage, sites_of
from sauvegarde.backup import kinds
from sauvegarde.django import fixture_sets
from sauvegarde.errors import SauvegardeError
from sauvegarde.system import git, process

SETS = [
    {"name": "trades", "file": "reference/data.json", "indent": 2, "models": ["reference.Trade"]},
    {"name": "sites", "file": "base/data.json", "models": ["sites.site"]},
]


@pytest.fixture(scope="module")
def sites(cluster, tmp_path_factory):
    return sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory)


@pytest.fixture()
def clone(tmp_path):
    folder = tmp_path / "clone"
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def test_sets_of_one_job_go_into_several_folders(sites, clone, tmp_path):
    where = sites.new("sqlite", filled=True)
    (tmp_path / "root" / "sets").mkdir(mode=0o700, parents=True)
    repository = {"path": str(clone), "folder": "", "name": "F", "email": "f@example.org"}
    job = {"name": "sets", "kind": "fixtures", "site": where.as_dict(), "sets": SETS, "repository": repository}
    with pytest.raises(SauvegardeError, match="does not exist in the repository") as caught:
        kinds.back_up(job, str(tmp_path / "root"))
    assert str(clone / "base") in caught.value.what and caught.value.fix
    for name in ("reference", "base"):
        (clone / name).mkdir()
    manifest = kinds.back_up(job, str(tmp_path / "root"))
    assert manifest["source"]["commit"]
    kinds.verify(str(tmp_path / "root" / "sets" / manifest["id"]))
    text = (clone / "reference" / "data.json").read_text(encoding="utf-8")
    assert text == manage(where, "dumpdata", "reference.Trade", "--indent", "2").decode("utf-8")
    assert len(json.loads((clone / "base" / "data.json").read_text(encoding="utf-8"))) == 1
    # The same files are brought in again: two of one name.
    assert not fixture_sets.bring_in(where, SETS, clone)["changed"]


def test_what_git_ignores_is_found_before_the_work(clone):
    (clone / "data").mkdir()
    (clone / ".gitignore").write_text("*.json\n", encoding="utf-8")
    git.require_committable(clone, ["data/one.jsonl"])
    with pytest.raises(SauvegardeError, match="git ignores") as caught:
        git.require_committable(clone, ["data/one.jsonl", "data/two.json"])
    assert ".gitignore:1:*.json\tdata/two.json" in caught.value.why and "one" not in caught.value.why
    # A file that git tracks is taken all the same.
    (clone / "data" / "two.json").write_text("[]", encoding="utf-8")
    subprocess.run(["git", "-C", str(clone), "add", "--force", "data/two.json"], check=True)
    git.require_committable(clone, ["data/two.json"])
    # A later rule takes a file back.
    (clone / ".gitignore").write_text("*.json\n!three.json\n", encoding="utf-8")
    git.require_committable(clone, ["data/three.json"])


def test_a_filter_that_is_not_set_up_is_found_before_the_work(clone, monkeypatch, tmp_path):
    """git would commit the whole file, or fail in the end."""
    monkeypatch.setattr(git, "home", lambda user: str(tmp_path))  # without the configuration of whoever runs this
    monkeypatch.setitem(process.BASE_ENVIRONMENT, "GIT_CONFIG_NOSYSTEM", "1")
    collected = {"git": shutil.which("git"), "git-lfs": "git-lfs"}
    monkeypatch.setattr(process, "find", lambda name: collected[name])
    (clone / ".gitattributes").write_text("*.sqlite3 filter=lfs\n*.key filter=crypt\n*.txt -filter\n", encoding="utf-8")
    git.require_committable(clone, ["one.json", "a.txt"])
    for file, what in (("dev.sqlite3", "git lfs install"), ("one.key", "Configure the filter")):
        with pytest.raises(SauvegardeError, match="not set up here") as caught:
            git.require_committable(clone, ["one.json", file])
        assert caught.value.what.startswith(file) and what in caught.value.fix
    for name in ("lfs", "crypt"):
        subprocess.run(["git", "-C", str(clone), "config", f"filter.{name}.clean", "cat"], check=True)
    git.require_committable(clone, ["dev.sqlite3", "one.key"])
    assert git.stored_by_lfs(clone, ["dev.sqlite3", "one.key"]) == ["dev.sqlite3"]
    del collected["git-lfs"]
    with pytest.raises(KeyError):  # for a real one: it is not installed
        git.require_committable(clone, ["dev.sqlite3"])


@pytest.mark.parametrize("file", ["../a.json", "/a.json", "a/../../b.json", ".git/a.json", "a//b.json", "a.txt"])
def test_a_set_stays_inside_its_folder(file):
    with pytest.raises(SauvegardeError, match="cannot be"):
        fixture_sets.checked([{"name": "a", "file": file, "models": ["a"]}])


def test_lines_are_not_indented():
    with pytest.raises(SauvegardeError, match="cannot be indented"):
        fixture_sets.checked([{"name": "a", "file": "a.jsonl", "indent": 2, "models": ["a"]}])
