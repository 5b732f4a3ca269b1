"""Folders that a group may write into: harmless where the group is the owner's alone."""

import grp
import os
import pwd
import stat
from types import SimpleNamespace

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.system import private_directory, user_groups

ADA = SimpleNamespace(pw_name="ada", pw_uid=5001, pw_gid=5001)
BOB = SimpleNamespace(pw_name="bob", pw_uid=5002, pw_gid=5002)


def status(mode, gid=5001):
    return SimpleNamespace(st_uid=5001, st_gid=gid, st_mode=stat.S_IFDIR | mode)


@pytest.mark.parametrize(
    ("mode", "name", "members", "users", "others"),
    [
        (0o755, "staff", ["bob"], [ADA, BOB], False),
        (0o775, "ada", [], [ADA, BOB], False),
        (0o2775, "ada", ["ada"], [ADA, BOB], False),
        (0o777, "ada", [], [ADA, BOB], True),
        (0o775, "ada", ["bob"], [ADA, BOB], True),
        (0o775, "staff", [], [ADA, BOB], True),  # somebody may be added to it
        (0o775, "ada", [], [ADA, SimpleNamespace(pw_name="eve", pw_uid=5003, pw_gid=5001)], True),
    ],
)
def test_who_else_may_write(monkeypatch, tmp_path, mode, name, members, users, others):
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: ADA)
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name=name, gr_mem=members, gr_gid=gid))
    assert user_groups.others_may_write(tmp_path, status(mode)) is others


def test_a_list_of_rights_may_name_others(monkeypatch, tmp_path):
    monkeypatch.setattr(user_groups, "_is_private", lambda uid, gid: True)
    assert not user_groups.others_may_write(tmp_path, status(0o775))
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks: ["system.posix_acl_access"])
    assert user_groups.others_may_write(tmp_path, status(0o775))


def test_a_place_is_looked_at_before_it_is_made(monkeypatch, tmp_path):
    tmp_path.chmod(0o775)
    monkeypatch.setattr(user_groups, "_is_private", lambda uid, gid: False)
    with pytest.raises(SauvegardeError, match="not private"):
        private_directory.check_private_if_present(tmp_path / "runs")
    monkeypatch.setattr(user_groups, "_is_private", lambda uid, gid: True)
    private_directory.check_private_if_present(tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o755)  # whatever the umask
    with pytest.raises(SauvegardeError, match="not private"):
        private_directory.check_private_if_present(tmp_path / "runs")
