"""What the on-call commands share: inventory, variables, the record of a run, and the outcome of a playbook."""

import json
import stat

import pytest

from sauvegarde_cli import commands, inventory, on_call, playbook_run, run_record
from sauvegarde_cli.__main__ import parser
from sauvegarde_cli.command_failed import CommandFailed

CANARY = "zorgolim-7f3a"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the inventories that are shipped."""
    monkeypatch.chdir(tmp_path)
    for name in inventory.SHIPPED:
        (tmp_path / "inventories" / name).mkdir(parents=True)
    return tmp_path


def test_every_file_of_the_folder_is_a_command():
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    for name in commands.names():
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([name, "--help"])
        assert ended.value.code == 0


def test_the_only_inventory_is_taken(checkout):
    (checkout / "inventories" / "site").mkdir()
    assert inventory.choose([], {}, checkout) == (str(checkout / "inventories/site"),)


def test_an_inventory_is_named_by_option_before_environment(checkout):
    environ = {"ANSIBLE_INVENTORY": "inventories/lab"}
    assert inventory.choose(["inventories/demo"], environ, checkout) == (str(checkout / "inventories/demo"),)
    assert inventory.choose([], environ, checkout) == (str(checkout / "inventories/lab"),)
    assert inventory.choose(["a,b,"], {}, checkout) == ("a,b,",)


@pytest.mark.parametrize(
    ("own", "named", "words"),
    [
        (["one", "two"], [], "inventories/one, inventories/two"),
        ([], [], "inventories/demo"),
        (["one"], ["nosuch"], "inventories/one"),
    ],
)
def test_an_unclear_inventory_is_a_usage_error_that_lists_them(checkout, own, named, words):
    for name in own:
        (checkout / "inventories" / name).mkdir()
    with pytest.raises(CommandFailed) as refusal:
        inventory.choose(named, {}, checkout)
    assert refusal.value.code == 2 and words in refusal.value.why and "-i" in refusal.value.fix


def test_extra_variables_are_read_as_ansible_reads_them(tmp_path):
    words = ["a=1 b='two words'", '{"c": [1]}', f"@{tmp_path}/f.yml"]
    assert on_call.extra_variables(words) == ({"a": "1", "b": "two words", "c": [1]}, (f"{tmp_path}/f.yml",))
    for wrong in ("{nope", "word"):
        with pytest.raises(CommandFailed) as refusal:
            on_call.extra_variables([wrong])
        assert refusal.value.code == 2


def test_a_record_is_private_and_free_of_secrets(tmp_path):
    record = run_record.RunRecord("restore", [CANARY, f"-----KEY\n{CANARY}x\n"], tmp_path / "runs")
    record.log(f"the password is {CANARY}")
    report = record.finish({"result": {"password": CANARY}, "exit_code": 0}, [f"with {CANARY}x"])
    assert report["result"]["password"] == run_record.HIDDEN
    files = sorted(path.name for path in record.path.iterdir())
    assert files == [run_record.LOG, run_record.JSON, run_record.TEXT]
    for path in record.path.iterdir():
        assert CANARY not in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.path.stat().st_mode) == stat.S_IMODE(record.path.parent.stat().st_mode) == 0o700
    assert (
        run_record.read("last", tmp_path / "runs") == json.loads((record.path / run_record.JSON).read_text()) == report
    )


def test_old_records_are_removed_and_ids_never_collide(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "KEPT", 3)
    collected = [run_record.RunRecord("backup", place=tmp_path).id for _ in range(6)]
    assert len(set(collected)) == 6
    assert run_record.runs(tmp_path) == sorted(collected)[-3:]


def test_an_unknown_report_is_refused_with_the_ones_there_are(tmp_path):
    with pytest.raises(CommandFailed) as refusal:
        run_record.read("last", tmp_path)
    assert refusal.value.code == 2


def test_values_of_variables_are_not_recorded():
    words = ["restore", "elpaso", "-e", f"a={CANARY}", f"-eb={CANARY}", f"--extra-vars=c={CANARY}", "--target", "db"]
    assert CANARY not in " ".join(run_record.typed(words))
    assert run_record.typed(words)[-2:] == ["--target", "db"]


def test_a_failure_has_the_modules_own_words():
    result = {"failed": True, "msg": "x", "what": "No repository.", "why": "stat", "fix": "init", "exit_code": 10}
    failure = playbook_run.Failure.of("db", "Fetch", result)
    assert (failure.what, failure.why, failure.fix, failure.exit_code) == ("No repository.", "stat", "init", 10)
    state = {"failed": True, "error": {"what": "Locked.", "exit_code": 11}, "msg": "Locked."}
    assert playbook_run.Failure.of("db", "Restore", state).exit_code == 11
    loop = {"failed": True, "results": [{"msg": "fine"}, {"failed": True, "msg": "Broken. Fix: mend it."}]}
    failure = playbook_run.Failure.of("db", "Loop", loop)
    assert (failure.what, failure.fix) == ("Broken.", "mend it.")


def run_playbook(tmp_path, text, **settings):
    """The outcome of a playbook on this machine, and what its log holds."""
    path = tmp_path / "play.yml"
    path.write_text(text)
    record = run_record.RunRecord("test", settings.pop("secrets", ()), tmp_path / "runs")
    outcome = playbook_run.run(path, on_call.Settings(inventories=("localhost,",), **settings), record=record)
    return outcome, (record.path / run_record.LOG).read_text()


def test_a_failing_task_says_it_once_and_secrets_stay_out_of_the_log(tmp_path):
    text = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Hide
      ansible.builtin.set_fact: {a: "{{ secret }}"}
      no_log: true
    - name: Show
      ansible.builtin.debug: {msg: "asked {{ secret }}"}
    - name: Rescue
      block:
        - ansible.builtin.fail: {msg: not the reason}
      rescue:
        - ansible.builtin.debug: {msg: rescued}
    - name: Stop
      ansible.builtin.fail: {msg: "It is broken. Fix: mend it."}
"""
    outcome, log = run_playbook(tmp_path, text, variables={"secret": CANARY}, secrets=[CANARY])
    assert outcome.code and outcome.result("Show")["msg"] == f"asked {CANARY}"
    error = outcome.error()
    assert (error.what, error.fix, error.code) == ("It is broken.", "mend it.", 1)
    assert "TASK [Stop]" in log and CANARY not in log
    assert [step["task"] for step in outcome.steps][-1] == "Stop"


def test_an_inventory_without_its_vaults_password_says_so(tmp_path):
    secret = "$ANSIBLE_VAULT;1.1;AES256\\n6162\\n"
    text = "- hosts: localhost\n  gather_facts: false\n  vars_files: [v.yml]\n  tasks: []\n"
    (tmp_path / "v.yml").write_text(secret.replace("\\n", "\n"))
    outcome, _ = run_playbook(tmp_path, text)
    assert outcome.code and "--vault-password-file" in outcome.error().fix
