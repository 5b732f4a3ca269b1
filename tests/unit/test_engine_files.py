"""The engine reaches hosts and sites complete: a new file needs no list."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader
from sauvegarde.django import site
from sauvegarde.system import engine_files, installation

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "module_utils" / "sauvegarde"

action_loader.add_directory(str(ROOT / "plugins/action"))
Sending = action_loader.get("sauvegarde_with_engine", class_only=True)
sender = sys.modules[Sending.__module__]
# Every module that asks for the files, by its own argument.
ASKING = sorted(path.stem for path in (ROOT / "library").glob("*.py") if "engine_files.ARGUMENT" in path.read_text())


@pytest.fixture()
def received(tmp_path, monkeypatch):
    """A copy of the engine with new files, received as a module receives it."""
    copy = tmp_path / "sauvegarde"
    shutil.copytree(ENGINE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "new_at_the_top.py",
        "postgres/new_file.py",
        "django/worker/new_worker.py",
        "backup/kinds/new_kind.py",
    ):
        (copy / name).write_text(f"NAME = {name!r}\n")
    monkeypatch.setattr(engine_files, "_received", {})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    site.modules.cache_clear()
    engine_files.receive(sender.engine_archive(copy))
    yield copy
    site.modules.cache_clear()


def test_a_new_file_reaches_the_host(received, tmp_path):
    root, command = tmp_path / "engine", tmp_path / "command"
    installation.install(root, command, engine_files.engine_files(), "A note.")
    assert installation.installed(command) == engine_files.read_folder(received)
    assert subprocess.run([command, "--version"], check=False).returncode == 0


def test_a_new_file_reaches_the_site(received):
    modules = site.modules()
    assert modules["sauvegarde.django.worker.new_worker"] == "NAME = 'django/worker/new_worker.py'\n"
    files = ["errors.py", *(str(path.relative_to(received)) for path in (received / "django").rglob("*.py"))]
    names = {"sauvegarde." + name[: -len(".py")].replace("/", ".").replace(".__init__", "") for name in files}
    assert set(modules) == {"sauvegarde", *names}


@pytest.mark.usefixtures("received")
def test_a_new_file_can_be_imported_though_ansible_did_not_send_it():
    try:
        for name in ("new_at_the_top", "backup.kinds.new_kind"):
            module = importlib.import_module("sauvegarde." + name)
            assert name.replace(".", "/") + ".py" == module.NAME
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("sauvegarde.postgres.nothing")
    finally:
        for name in [name for name in sys.modules if ".new_" in name]:
            del sys.modules[name]


def test_the_same_files_make_the_same_archive(tmp_path):
    copy = shutil.copytree(ENGINE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    assert sender.engine_archive(copy) == sender.engine_archive(ENGINE)


@pytest.mark.parametrize("name", ASKING)
def test_modules_that_ask_for_the_engine_get_it(name, monkeypatch):
    """Their action plugin adds the argument to whatever it runs."""
    plugin = action_loader.get(name, class_only=True)
    assert issubclass(plugin, Sending)
    calls = []
    monkeypatch.setattr(ActionBase, "_execute_module", lambda _self, **options: calls.append(options))
    one = plugin.__new__(plugin)
    one._execute_module(module_name=name, module_args={"a": 1}, task_vars={})
    assert calls[0]["module_args"] == {"a": 1, "engine": sender.engine_archive()} and calls[0]["task_vars"] == {}


def test_modules_that_run_tasks_in_a_site_ask_for_the_engine():
    """Those that describe a site among their arguments run its tasks."""
    needing = {path.stem for path in (ROOT / "library").glob("*.py") if "site_arguments" in path.read_text()}
    needing |= {path.stem for path in (ROOT / "library").glob("*.py") if "migration_arguments" in path.read_text()}
    assert needing <= set(ASKING) and {"sauvegarde_engine", "sauvegarde_dumpdata"} <= set(ASKING)
