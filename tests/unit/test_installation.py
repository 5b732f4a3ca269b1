"""The engine's copy on a host: whole, replaced at once, and told apart from the controller's."""

import re
import subprocess
import zipfile
from pathlib import Path

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
    root = tmp_path / "engine"
    assert not installation.current(root, files, NOTE) and installation.differences(root, files) == sorted(files)
    installation.install(root, files, NOTE)
    assert installation.current(root, files, NOTE) and installation.differences(root, files) == []
    done = subprocess.run([root / "run", "--version"], capture_output=True, text=True, check=True)
    assert re.match(r"\d+\.\d+\.\d+$", done.stdout)
    assert not list(root.rglob("__pycache__"))


def test_a_changed_file_is_found_and_mended(tmp_path):
    files = installation.sources()
    installation.install(tmp_path, files, NOTE)
    victim = next(tmp_path.glob("engine-*/sauvegarde/backup/pipeline.py"))
    victim.write_text("import this\n")
    assert not installation.current(tmp_path, files, NOTE)
    assert installation.differences(tmp_path, {"backup/pipeline.py": files["backup/pipeline.py"]}) == [
        "backup/pipeline.py"
    ]
    installation.install(tmp_path, files, NOTE)
    assert installation.current(tmp_path, files, NOTE)


def test_the_version_before_stays_for_who_runs_it_and_older_ones_go(tmp_path):
    files = installation.sources()
    names = []
    for number in range(3):
        installation.install(tmp_path, dict(files, **{"extra.py": b"# %d" % number}), NOTE)
        names.append({each.name for each in tmp_path.glob("engine-*")})
    assert [len(each) for each in names] == [1, 2, 2] and names[2] & names[1] and not names[2] & names[0]


def test_read_from_the_archive_that_ansible_sends(tmp_path, monkeypatch):
    archive = tmp_path / "payload.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("ansible/module_utils/sauvegarde/__init__.py", "x = 1\n")
        target.writestr("ansible/module_utils/sauvegarde/kinds/a.py", "y = 2\n")
        target.writestr("ansible/module_utils/basic.py", "")
    monkeypatch.setattr(installation, "__file__", f"{archive}/ansible/module_utils/sauvegarde/system/installation.py")
    assert installation.sources() == {"__init__.py": b"x = 1\n", "kinds/a.py": b"y = 2\n"}
