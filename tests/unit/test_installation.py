"""The engine's copy on a host: whole, replaced at once, and told apart from the controller's."""

import re
import subprocess

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.system import engine_files, installation

NOTE = "A note."


def test_installed_started_and_equal(tmp_path):
    files = engine_files.engine_files()
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
    root, command, files = tmp_path / "engine", tmp_path / "sauvegarde", engine_files.engine_files()
    old = root / "engine-0123456789abcdef"
    (old / "sauvegarde").mkdir(parents=True)
    (root / "run").write_text(f"import sys\nsys.path.insert(0, {str(old)!r})\nfrom sauvegarde.runner import main\n")
    assert not installation.is_current(root, command, files, NOTE)
    installation.install(root, command, files, NOTE)
    assert installation.is_current(root, command, files, NOTE)
    assert old.exists(), "a job that runs keeps its files"


@pytest.mark.parametrize("other", ["file", "binary", "link"])
def test_another_program_of_that_name_is_refused(tmp_path, other):
    root, command, files = tmp_path / "engine", tmp_path / "sauvegarde", engine_files.engine_files()
    if other == "link":
        command.symlink_to("/nowhere")
    else:
        command.write_bytes(b"#!/bin/sh\n" if other == "file" else b"\x7fELF\xff\xfe")
    for step in (installation.is_current, installation.install):
        with pytest.raises(SauvegardeError, match="another program"):
            step(root, command, files, NOTE)
    assert not root.exists() and (other == "link" or b"sauvegarde" not in command.read_bytes())


def test_a_changed_file_is_detected_and_replaced(tmp_path):
    files = engine_files.engine_files()
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
    files = engine_files.engine_files()
    names = []
    for number in range(3):
        changed = dict(files, **{"extra.py": b"# %d" % number})
        installation.install(tmp_path, tmp_path / "sauvegarde", changed, NOTE)
        names.append({path.name for path in tmp_path.glob("engine-*")})
    assert [len(each) for each in names] == [1, 2, 2] and names[2] & names[1] and not names[2] & names[0]
