"""An archive carried through Ansible's connection: whole, resumed after a break, never half a file that looks whole."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.loader import action_loader

action_loader.add_directory(str(Path(__file__).resolve().parents[2] / "plugins/action"))
Plugin = action_loader.get("sauvegarde_transfer", class_only=True)
transfer = sys.modules[Plugin.__module__]


class Link(Plugin):
    """The plugin with a host that is this machine; the link breaks at a given command."""

    def __init__(self, breaks_at=0):
        self.breaks_at, self.commands = breaks_at, []
        self._host, self._task = "here", SimpleNamespace(name="Carry it")
        self._started = self._last_line = time.monotonic()

    def _low_level_execute_command(self, command, in_data=None):
        self.commands.append(command)
        if len(self.commands) == self.breaks_at:
            raise AnsibleConnectionFailure("the link is cut")
        done = subprocess.run(["sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PIECE", 1000)
    source = tmp_path / "-a folder's $(id) é"
    (source / "dump").mkdir(parents=True)
    (source / "manifest.json").write_bytes(b"{}")
    (source / "dump" / "-1.dat").write_bytes(os.urandom(4321))
    (source / "dump" / "empty").write_bytes(b"")
    return source


def content(path):
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


@pytest.mark.parametrize("way", ["_pull", "_push"])
def test_a_folder_arrives_whole_and_private(folder, tmp_path, way):
    target = tmp_path / "there" / "-x"
    link = Link()
    assert getattr(link, way)(str(folder), str(target)) == 4323
    assert content(target) == content(folder)
    assert {stat.S_IMODE(each.stat().st_mode) for each in target.rglob("*") if each.is_file()} == {0o600}
    assert getattr(Link(), way)(str(folder), str(target)) == 0, "what is there is not carried again"


@pytest.mark.parametrize("way", ["_pull", "_push"])
def test_it_goes_on_where_the_link_broke(folder, tmp_path, way):
    target = tmp_path / "there"
    breaks = 0
    while True:
        try:
            moved = getattr(Link(breaks_at=6), way)(str(folder), str(target))
            break
        except AnsibleConnectionFailure:
            breaks += 1
            assert breaks < 10
    assert breaks and moved < 4323
    assert content(target) == content(folder)


@pytest.mark.parametrize("way", ["_pull", "_push"])
def test_a_file_and_what_is_not_there(folder, tmp_path, way):
    target = tmp_path / "one" / "file"
    getattr(Link(), way)(str(folder / "dump" / "-1.dat"), str(target))
    assert target.read_bytes() == (folder / "dump" / "-1.dat").read_bytes()
    getattr(Link(), way)(str(folder / "dump" / "empty"), str(target))
    assert target.read_bytes() == b""
    for other in (9999, 4321, 1000):
        target.write_bytes(os.urandom(other))
        getattr(Link(), way)(str(folder / "dump" / "-1.dat"), str(target))
        assert target.read_bytes() == (folder / "dump" / "-1.dat").read_bytes(), "another file of the same name"
    with pytest.raises(AnsibleActionFail):
        getattr(Link(), way)(str(tmp_path / "nothing"), str(tmp_path / "x"))


@pytest.mark.parametrize("way", ["_pull", "_push"])
def test_it_says_how_far_it_is(tmp_path, way, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "PIECE", 1000000)
    monkeypatch.setattr(Plugin, "SAY", 0)
    (tmp_path / "large").write_bytes(os.urandom(3000000))
    getattr(Link(), way)(str(tmp_path / "large"), str(tmp_path / "there"))
    assert "here: Carry it, 2.0 of 3.0 MB, " in capsys.readouterr().out
