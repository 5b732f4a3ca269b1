"""The bootstrap's environment: made once, made anew when its lock changes, repaired when broken."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sauvegarde_cli import environment

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "ansible-core-2.19.lock"


def one_package_of_the_lock(name):
    """The lines of the project's own lock for one package, with its hashes."""
    return re.search(rf"^{name}==.*?(?=^\S|\Z)", LOCK.read_text(), re.M | re.S).group(0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
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


def test_a_whole_environment_is_left_alone(made, capsys):
    before = (made / ".venv" / environment.STAMP).stat().st_mtime_ns
    assert environment.ensure(made, "2.19") == made / ".venv"
    assert (made / ".venv" / environment.STAMP).stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_a_lost_module_is_noticed_and_mended(made, capsys):
    shutil.rmtree(package_folder(made))
    assert not can_import(made, "iniconfig")
    environment.ensure(made, "2.19")
    assert can_import(made, "iniconfig")
    assert "iniconfig has lost" in capsys.readouterr().err


def test_a_half_made_environment_is_made_anew(made, capsys):
    (made / ".venv" / environment.STAMP).unlink()
    shutil.rmtree(made / ".venv" / "bin")
    environment.ensure(made, "2.19")
    assert can_import(made, "iniconfig")
    assert "did not finish" in capsys.readouterr().err


def test_another_lock_makes_another_environment(made, capsys):
    lock = made / "requirements" / LOCK.name
    lock.write_text(lock.read_text() + one_package_of_the_lock("mdurl"))
    environment.ensure(made, "2.19")
    assert can_import(made, "mdurl")
    assert "has changed" in capsys.readouterr().err


def test_a_package_that_fails_leaves_no_stamp_and_says_what_pip_said(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / LOCK.name).write_text("iniconfig==2.3.1 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(environment.EnvironmentFailed, match="DO NOT MATCH THE HASHES"):
        environment.ensure(tmp_path, "2.19")
    assert not (tmp_path / ".venv" / environment.STAMP).exists()


def test_the_newest_line_that_this_python_runs():
    assert environment.core_version((3, 11)) == "2.19"
    assert environment.core_version((3, 99)) == environment.LOCKS[-1][0]
    with pytest.raises(environment.EnvironmentFailed, match=r"Python 3\.10 is too old(.|\n)*Fix"):
        environment.core_version((3, 10))


def test_the_former_setting_warns():
    warning = environment.former_setting_warning({environment.FORMER_SETTING: "2.16"})
    assert "2.16 has no effect" in warning and "Python 3.9" in warning
    assert environment.former_setting_warning({}) == ""
    assert environment.former_setting_warning({environment.FORMER_SETTING: environment.core_version()}) == ""
