"""The engine's copy on a host: whole, replaced at once, and told apart from the controller's."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.system import installation

ROOT = Path(__file__).resolve().parents[2]
NOTE = "A note."


def test_the_module_brings_every_file_of_the_engine():
    text = (ROOT / "library/sauvegarde_engine.py").read_text()
    brought = set()
    for package, names in re.findall(
        r"from ansible\.module_utils\.sauvegarde(\S*) import \(.*?\n(.*?)\)", text, re.DOTALL
    ):
        brought |= {
            (package[1:].replace(".", "/") + "/" if package else "") + name + ".py"
            for name in re.findall(r"\w+", names)
        }
    files = {name for name in installation.sources() if not name.endswith("__init__.py")}
    assert brought == files


def test_installed_started_and_equal(tmp_path):
    files = installation.sources()
    root, command = tmp_path / "engine", tmp_path / "sbin" / "sauvegarde"
    assert not installation.is_current(root, command, files, NOTE)
    assert installation.differences(command, files) == sorted(files)
    installation.install(root, command, files, NOTE)
    assert installation.is_current(root, command, files, NOTE) and installation.differences(command, files) == []
    for launcher in (command, root / "run"):  # the second: its former path
        done = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True)
        assert re.match(r"\d+\.\d+\.\d+$", done.stdout)
    assert not list(root.rglob("__pycache__"))


def test_a_host_with_the_former_launcher_gets_the_command(tmp_path):
    """As the version before the command installed it: the launcher at `run`, which imports the runner."""
    root, command, files = tmp_path / "engine", tmp_path / "sauvegarde", installation.sources()
    old = root / "engine-0123456789abcdef"
    (old / "sauvegarde").mkdir(parents=True)
    (root / "run").write_text(f"import sys\nsys.path.insert(0, {str(old)!r})\nfrom sauvegarde.runner import main\n")
    assert not installation.is_current(root, command, files, NOTE)
    installation.install(root, command, files, NOTE)
    assert installation.is_current(root, command, files, NOTE)
    assert old.exists(), "a job that runs keeps its files"


@pytest.mark.parametrize("other", ["file", "binary", "link"])
def test_another_program_of_that_name_is_refused(tmp_path, other):
    root, command, files = tmp_path / "engine", tmp_path / "sauvegarde", installation.sources()
    if other == "link":
        command.symlink_to("/nowhere")
    else:
        command.write_bytes(b"#!/bin/sh\n" if other == "file" else b"\x7fELF\xff\xfe")
    for step in (installation.is_current, installation.install):
        with pytest.raises(SauvegardeError, match="another program"):
            step(root, command, files, NOTE)
    assert not root.exists() and (other == "link" or b"sauvegarde" not in command.read_bytes())


def test_a_changed_file_is_detected_and_replaced(tmp_path):
    files = installation.sources()
    root, command = tmp_path, tmp_path / "sauvegarde"
    installation.install(root, command, files, NOTE)
    victim = next(tmp_path.glob("engine-*/sauvegarde/backup/pipeline.py"))
    victim.write_text("import this\n")
    assert not installation.is_current(root, command, files, NOTE)
    assert installation.differences(command, {"backup/pipeline.py": files["backup/pipeline.py"]}) == [
        "backup/pipeline.py"
    ]
    installation.install(root, command, files, NOTE)
    assert installation.is_current(root, command, files, NOTE)


def test_the_version_before_stays_for_running_jobs_and_older_ones_are_removed(tmp_path):
    files = installation.sources()
    names = []
    for number in range(3):
        changed = dict(files, **{"extra.py": b"# %d" % number})
        installation.install(tmp_path, tmp_path / "sauvegarde", changed, NOTE)
        names.append({path.name for path in tmp_path.glob("engine-*")})
    assert [len(each) for each in names] == [1, 2, 2] and names[2] & names[1] and not names[2] & names[0]


def test_read_from_the_archive_that_ansible_sends(tmp_path, monkeypatch):
    archive = tmp_path / "payload.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("ansible/module_utils/sauvegarde/__init__.py", "x = 1\n")
        target.writestr("ansible/module_utils/sauvegarde/kinds/a.py", "y = 2\n")
        target.writestr("ansible/module_utils/basic.py", "")
    monkeypatch.setattr(installation, "__file__", f"{archive}/ansible/module_utils/sauvegarde/system/installation.py")
    assert installation.sources() == {"__init__.py": b"x = 1\n", "kinds/a.py": b"y = 2\n"}
