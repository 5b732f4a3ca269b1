"""What a host prints around a raw command's output is left out: sudo's empty line, greetings, line ends."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.loader import action_loader

from sauvegarde_cli.system import ROOT

action_loader.add_directory(str(ROOT / "plugins/action"))
Transfer = action_loader.get("sauvegarde_transfer", class_only=True)
Restore = action_loader.get("sauvegarde_restore", class_only=True)
transfer = sys.modules[Transfer.__module__]

# What comes before and after the output, in the forms that hosts were seen to have.
AROUND = {
    "nothing": ("", ""),
    "sudo's empty line": ("\n", ""),
    "a lecture": ("\nWe trust you have received the usual lecture.\n#1) Respect the privacy of others.\n\n", ""),
    "a prompt": ("[sudo via ansible, key=abc] password:\n", ""),
    "a login's files": ("Welcome to db1\n3 updates\n", "logout\n"),
    "a mesg that complains": ("mesg: ttyname failed: Inappropriate ioctl for device\n", "\n"),
}


class Host:
    """A host that is this machine, behind a terminal or not; `around` is printed before and after."""

    def __init__(self, around, terminal):
        self.around, self.terminal = around, terminal
        self._host, self._task = "here", SimpleNamespace(name="Carry it")
        self._started = self._last_line = time.monotonic()

    def _low_level_execute_command(self, command, in_data=None):
        terminal = self.terminal and in_data is None  # Ansible asks for one only where nothing is sent
        errors = subprocess.STDOUT if terminal else subprocess.PIPE
        done = subprocess.run(["sh", "-c", command], input=in_data, stdout=subprocess.PIPE, stderr=errors, check=False)
        out, err = self.around[0] + done.stdout.decode() + self.around[1], (done.stderr or b"").decode()
        if terminal:
            out, err = out.replace("\n", "\r\n"), "Connection to db1 closed.\r\n"
        return {"rc": done.returncode, "stdout": out, "stderr": err}


class Carrier(Host, Transfer):
    pass


class Watcher(Host, Restore):
    pass


@pytest.fixture(params=sorted(AROUND))
def around(request):
    return AROUND[request.param]


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def terminal(request):
    return request.param


@pytest.mark.parametrize("way", ["_pull", "_push"])
def test_a_folder_is_carried(tmp_path, monkeypatch, around, terminal, way):
    monkeypatch.setattr(transfer, "PIECE", 1000)
    source = tmp_path / "source"
    source.mkdir()
    content = {"a": bytes(range(256)) * 10, "b c é": b"x\r\ny", "empty": b""}
    for name, data in content.items():
        (source / name).write_bytes(data)
    for moved in (sum(map(len, content.values())), 0):
        assert getattr(Carrier(around, terminal), way)(str(source), str(tmp_path / "there")) == moved
    assert {each.name: each.read_bytes() for each in (tmp_path / "there").iterdir()} == content
    (tmp_path / "there" / "a").write_bytes(content["a"][:1500])
    assert getattr(Carrier(around, terminal), way)(str(source), str(tmp_path / "there")) == 1060, "it goes on"


def test_what_is_missing_is_reported(tmp_path, around, terminal):
    with pytest.raises(AnsibleActionFail, match="There is nothing at"):
        Carrier(around, terminal)._pull(str(tmp_path / "nothing"), str(tmp_path / "there"))
    with pytest.raises(AnsibleActionFail, match="No such file"):
        Carrier(around, terminal)._command("cat /no/such/file")


def test_the_state_of_a_run_is_read(tmp_path, around, terminal):
    options = {"status": "running", "line": "é, 3 of 7", "heartbeat": 7}
    path = tmp_path / "a state.json"
    path.write_text(json.dumps(options, indent=1), encoding="utf-8")
    assert Watcher(around, terminal)._ask(str(path)) == options


@pytest.mark.parametrize("output", ["", "12", "12\n", "\n12\n\n", "a\r\nb", "a\nb"])
def test_output_is_kept_to_the_byte_without_a_terminal(output, around):
    assert Carrier(around, False)._shell(f"printf %s '{output}'")["stdout"] == output


def test_an_answer_that_was_cut_is_no_output():
    class Cut(Carrier):
        def _low_level_execute_command(self, command, in_data=None):
            answer = super()._low_level_execute_command(command, in_data)
            return dict(answer, stdout=answer["stdout"][:-5])

    with pytest.raises(AnsibleConnectionFailure, match="not whole"):
        Cut(("", ""), False)._command("echo 12")
    with pytest.raises(AnsibleActionFail, match="sudo: a password is required"):
        refused = Carrier(("", ""), False)
        refused._low_level_execute_command = lambda *_, **__: {
            "rc": 1,
            "stdout": "",
            "stderr": "sudo: a password is required",
        }
        refused._command("echo 12")
