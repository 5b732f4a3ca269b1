"""The bootstrap's environment: made once, made anew when its lock changes, repaired when broken."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sauvegarde_cli import environment

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "ansible-core-2.19.lock"


def one_package_of_the_lock(name):
    """The lines of the project's own lock for one package, with its hashes."""
    return re.search(rf"^{name}==.*?(?=^\S|\Z)", LOCK.read_text(), re.M | re.S).group(0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A root with a lock of one package and the environment made from it."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "requirements").mkdir()
    (root / "requirements" / LOCK.name).write_text(one_package_of_the_lock("iniconfig"))
    environment.ensure(root, "2.19")
    return root


def can_import(root, module):
    return subprocess.run([root / ".venv/bin/python", "-c", f"import {module}"], check=False).returncode == 0


def package_folder(root):
    return next((root / ".venv").glob("lib/python3*/site-packages/iniconfig"))


def test_a_whole_environment_is_left_alone(prepared, capsys):
    before = (prepared / ".venv" / environment.STAMP).stat().st_mtime_ns
    assert environment.ensure(prepared, "2.19") == prepared / ".venv"
    assert (prepared / ".venv" / environment.STAMP).stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_a_lost_module_is_noticed_and_repaired(prepared, capsys):
    shutil.rmtree(package_folder(prepared))
    assert not can_import(prepared, "iniconfig")
    environment.ensure(prepared, "2.19")
    assert can_import(prepared, "iniconfig")
    assert "iniconfig has lost" in capsys.readouterr().err


def test_a_half_made_environment_is_made_anew(prepared, capsys):
    (prepared / ".venv" / environment.STAMP).unlink()
    shutil.rmtree(prepared / ".venv" / "bin")
    environment.ensure(prepared, "2.19")
    assert can_import(prepared, "iniconfig")
    assert "did not finish" in capsys.readouterr().err


def test_another_lock_makes_another_environment(prepared, capsys):
    lock = prepared / "requirements" / LOCK.name
    lock.write_text(lock.read_text() + one_package_of_the_lock("mdurl"))
    environment.ensure(prepared, "2.19")
    assert can_import(prepared, "mdurl")
    assert "has changed" in capsys.readouterr().err


def test_a_package_that_fails_leaves_no_stamp_and_says_what_pip_printed(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / LOCK.name).write_text("iniconfig==2.3.1 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(environment.EnvironmentFailed, match="DO NOT MATCH THE HASHES"):
        environment.ensure(tmp_path, "2.19")
    assert not (tmp_path / ".venv" / environment.STAMP).exists()


@pytest.mark.parametrize(
    ("python", "core"), [((3, 11), "2.19"), ((3, 12), "2.21"), ((3, 13), "2.21"), ((3, 14), "2.21"), ((3, 99), "2.21")]
)
def test_the_newest_lock_that_this_python_runs(python, core):
    assert environment.core_version(python) == core


def test_a_python_that_is_too_old_for_every_lock():
    with pytest.raises(environment.EnvironmentFailed, match=r"Python 3\.10 is too old(.|\n)*Fix"):
        environment.core_version((3, 10))


def test_only_a_line_out_of_support_has_a_note():
    note = environment.support_note((3, 11))
    assert "2.19" in note and "November 2026" in note and "2.21" in note and "Python 3.12 or newer" in note
    assert environment.support_note((3, 12)) == environment.support_note((3, 99)) == ""


def test_the_note_is_shown_when_the_environment_is_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / LOCK.name).write_text("# nothing\n")
    monkeypatch.setattr(environment, "support_note", lambda: "a note")
    monkeypatch.setattr(environment, "build", lambda venv, _lock: venv.mkdir())
    environment.ensure(tmp_path, "2.19")
    assert "a note\n" in capsys.readouterr().err
    monkeypatch.setattr(environment, "fault", lambda *_: None)
    environment.ensure(tmp_path, "2.19")
    assert capsys.readouterr().err == ""


def locked(core):
    """{package: (version, lines of its hashes)} of a lock."""
    text = (ROOT / "requirements" / f"ansible-core-{core}.lock").read_text()
    return {
        name: (version, rest.count("--hash=sha256:"))
        for name, version, rest in re.findall(r"^([\w.-]+)==([\w.]+)(.*?)(?=^\S|\Z)", text, re.M | re.S)
    }


@pytest.mark.parametrize("lock", environment.LOCKS, ids=lambda lock: lock.core)
def test_every_lock_is_of_its_line_and_has_hashes(lock):
    packages = locked(lock.core)
    assert packages["ansible-core"][0].startswith(f"{lock.core}.")
    assert [name for name, (_, hashes) in packages.items() if not hashes] == []
    text = (ROOT / "requirements" / f"ansible-core-{lock.core}.lock").read_text()
    assert f"--python-version {environment.version_text(lock.oldest_python)} " in text
    assert "://" not in text, "a lock names no package index"


def test_every_lock_has_the_same_tools():
    first, *others = (set(locked(lock.core)) for lock in environment.LOCKS)
    assert others and all(other == first for other in others)


def run_launcher(tmp_path, **environ):
    """The result of the launcher with a Python that says who it is in place of the environment's maker."""
    shutil.copy(ROOT / "sauvegarde", tmp_path / "sauvegarde")
    maker = tmp_path / "src/sauvegarde_cli/environment.py"
    maker.parent.mkdir(parents=True, exist_ok=True)
    maker.write_text("import sys\nsys.exit(f'made by {sys.executable}')")
    return subprocess.run(
        [tmp_path / "sauvegarde"], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )


def test_the_launcher_uses_the_system_s_python_or_the_named_one(tmp_path):
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(other)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert "made by" in run_launcher(tmp_path, PATH=path).stderr
    assert "made by" in run_launcher(tmp_path, SAUVEGARDE_PYTHON=str(other)).stderr
    refused = run_launcher(tmp_path, PATH=path, SAUVEGARDE_PYTHON="/bin/false")
    assert refused.returncode == 1
    assert "SAUVEGARDE_PYTHON=/bin/false is no Python 3.11 or newer" in refused.stderr


def test_the_former_setting_warns():
    warning = environment.former_setting_warning({environment.FORMER_SETTING: "2.16"})
    assert "2.16 has no effect" in warning and "Python 3.9" in warning
    assert environment.former_setting_warning({}) == ""
    assert environment.former_setting_warning({environment.FORMER_SETTING: environment.core_version()}) == ""
