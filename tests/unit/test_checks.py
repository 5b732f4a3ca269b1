"""``./sauvegarde test`` counts what ran and fails where nothing did."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sauvegarde_cli import checks
from sauvegarde_cli.deprecations import deprecations
from sauvegarde_cli.system import ROOT, CommandFailed


def run(tmp_path, source):
    """The count of a real pytest run over one file, in a new folder."""
    tmp_path = tmp_path / str(len(list(tmp_path.iterdir())))
    tmp_path.mkdir()
    (tmp_path / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", str(tmp_path)]
    return checks.run_pytest_in(command, Path(sys.executable).parent, tmp_path / "reports")


def test_passed_failed_and_skipped_are_distinguished(tmp_path):
    source = """
import pytest
def test_passes(): pass
def test_fails(): assert False
@pytest.mark.skip(reason="not here")
def test_skipped(): pass
@pytest.fixture
def broken(): raise RuntimeError
def test_error(broken): pass
"""
    assert run(tmp_path, source) == checks.Count(passed=1, failed=2, skipped=1)


def test_what_failed_is_reported_again_at_the_end(tmp_path, monkeypatch, capsys):
    """The whole output of a run is long, and often cut: its last lines must be enough to know what to mend."""

    def scenario(name, reports, output):
        source = (
            "def test_rows():\n    print('x' * 9)\n    assert 41 == 42" if name == "rows" else "exit('no such host')"
        )
        (tmp_path / f"test_{name}.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", str(tmp_path / f"test_{name}.py")]
        command = command if name == "rows" else [sys.executable, "-c", source]
        return checks.run_pytest_in(command, Path(sys.executable).parent, reports / name, output)

    monkeypatch.setattr(checks, "on_hosts", scenario)
    assert checks.report(list(checks.side_by_side(["rows", "hosts"], tmp_path))) == 1
    closing = capsys.readouterr().out.partition("== Failed in")[2]
    assert "test_rows" in closing and "assert 41 == 42" in closing
    assert "no such host" in closing


def test_nothing_run_is_a_failure(tmp_path):
    assert run(tmp_path, "") == checks.Count(failed=1)
    skipped = "import pytest\n@pytest.mark.skip(reason='x')\ndef test_a(): pass\n"
    assert run(tmp_path, skipped) == checks.Count(failed=1, skipped=1)


def test_a_command_that_fails_outside_its_tests_is_counted(tmp_path):
    count = checks.run_pytest_in(["false"], Path(sys.executable).parent, tmp_path / "reports")
    assert count == checks.Count(failed=1)


def test_reports_that_the_tests_bring_from_elsewhere_are_counted_too(tmp_path):
    source = """
import os
def test_elsewhere():
    report = '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"/></testsuites>'
    open(os.environ["SAUVEGARDE_REPORTS"] + "/host.xml", "w").write(report)
"""
    assert run(tmp_path, source) == checks.Count(passed=4, failed=2, skipped=2)


def test_a_deprecation_warning_of_ansible_fails_what_passed(tmp_path):
    """Whoever starts the playbook, as here a test that does not look at its output."""
    source = f"""
import subprocess
def test_it():
    command = [{str(Path(sys.executable).with_name("ansible"))!r}, "-i", "localhost,", "all", "-m", "debug", "-o"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
"""
    count = run(tmp_path, source)
    assert (count.passed, count.skipped) == (1, 0) and count.failed > 0
    failures = checks.read_failures(tmp_path / "0" / "reports")
    assert len(failures) == count.failed
    assert all(text.startswith("deprecated in Ansible\n") for text in failures)
    assert any("oneline" in text for text in failures)


def test_only_warnings_of_ansible_itself_count_as_deprecations(monkeypatch):
    log = """2026-11-29 05:50:49,453 p=1 u=root n=ansible INFO| [DEPRECATION WARNING]: The old way. Use the new one.
Origin: /play.yml:3:1
2026-11-29 05:50:49,550 p=2 u=a user n=ansible WARNING| [DEPRECATION WARNING]: Of others.
2026-11-29 05:50:50,001 p=1 u=root n=ansible INFO| ok: [host] => msg: a text with [DEPRECATION WARNING]: in it
2026-11-29 05:50:51,002 p=3 u=root n=ansible INFO| [DEPRECATION WARNING]: The old way. Use the new one.
Origin: /play.yml:3:1
"""
    old = "The old way. Use the new one.\nOrigin: /play.yml:3:1"
    assert deprecations(log) == (old, "Of others.")
    monkeypatch.setattr("sauvegarde_cli.deprecations.EXEMPT", (r"Of others[.]",))
    assert deprecations(log) == (old,)
    assert deprecations("PLAY [all] ***\n") == ()


def test_side_by_side_all_are_counted_and_each_output_is_whole(tmp_path, monkeypatch, capsys):
    def stand_in(name, _reports, output):
        """In a scenario's place: says something, slowly, as one does."""
        code = f"import time\nfor n in range(3):\n print('{name}', n, flush=True)\n time.sleep(0.1)"
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True)
        return checks.Count(passed=len(name))

    monkeypatch.setattr(checks, "on_hosts", stand_in)
    monkeypatch.setattr(checks, "HEARTBEAT", 0.05)
    parts = list(checks.side_by_side(["one", "three", "seventh"], tmp_path))
    assert {part.name: part.count.passed for part in parts} == {"one": 3, "three": 5, "seventh": 7}
    printed = capsys.readouterr().out
    for name in ("one", "three", "seventh"):
        assert f"== {name}\n{name} 0\n{name} 1\n{name} 2\n" in printed


def test_what_takes_longest_starts_first(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(checks, "on_hosts", lambda name, *_: started.append(name) or checks.Count(passed=1))
    monkeypatch.setattr(checks, "AT_ONCE", 1)
    list(checks.side_by_side(["another", *reversed(checks.LONGEST)], tmp_path))
    assert started == [*checks.LONGEST, "another"]
    assert set(checks.LONGEST) <= set(checks.names())


def test_lint_runs_while_hosts_are_prepared(tmp_path, monkeypatch, capsys):
    started, prepared = threading.Event(), []

    def lint(output):
        output.write("a finding\n")
        started.set()
        return checks.Count(passed=1)

    def prepare(name):
        assert started.wait(60), "lint starts before the preparation ends"
        prepared.append(name)

    monkeypatch.setattr(checks, "lint", lint)
    monkeypatch.setattr(checks, "prepare", prepare)
    monkeypatch.setattr(checks, "tools", lambda: None)
    parts = checks.beside_preparation(["lint"], ["one", "two"], tmp_path)
    assert [(part.name, part.count.passed) for part in parts] == [("lint", 1)]
    assert prepared == ["one", "two"]
    assert "== lint\na finding\n" in capsys.readouterr().out


def test_the_exit_code_follows_the_count(capsys):
    assert checks.report([checks.Part("unit", checks.Count(passed=3), 1.0)]) == 0
    assert checks.report([checks.Part("unit", checks.Count(passed=3, failed=1), 1.0)]) == 1
    assert "3 passed, 1 failed, 0 skipped" in capsys.readouterr().out.splitlines()


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(CommandFailed) as refusal:
        checks.test(["lint", "nosuch"])
    assert "nosuch" in refusal.value.what
    assert "unit" in refusal.value.fix


def test_help_lists_the_commands():
    done = subprocess.run([ROOT / "sauvegarde", "--help"], capture_output=True, text=True, check=True)
    for command in ("demo", "lab", "test", "bench"):
        assert command in done.stdout
