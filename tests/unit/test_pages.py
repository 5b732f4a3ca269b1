"""Pages of docs/ that name tests, files and linters: what they name exists."""

import re
from pathlib import Path

import pytest
import yaml

from sauvegarde_cli import checks, reference

ROOT = Path(__file__).resolve().parents[2]
FAULTS = (ROOT / "docs" / "faults.md").read_text()


# Variables of the roles, which playbooks read too.
ROLES = set(
    yaml.safe_load((ROOT / "roles/backup/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
)


def test_every_fault_has_a_test_that_exists():
    rows = [line for line in FAULTS.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        tests = re.findall(r"`((?:tests|molecule)/[^`]+)`", row)
        assert tests, row
        for test in tests:
            path, _, function = test.partition("::")
            assert (ROOT / path).is_file(), test
            assert not function or f"def {function}(" in (ROOT / path).read_text(), test


def test_tests_name_only_faults_of_the_table():
    highest = max(int(number) for number in re.findall(r"^\| (\d+) \|", FAULTS, re.MULTILINE))
    for path in [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("molecule/*/tests/test_*.py")]:
        for number in re.findall(r"\bFaults? (\d+)", path.read_text(), re.IGNORECASE):
            assert 1 <= int(number) <= highest, (path, number)


def test_pre_commit_runs_the_linters_of_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == [" ".join(words) for words in checks.LINTERS]


def test_the_map_names_folders_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = re.findall(r"`([a-z_/]+/)`", text.partition("## The map")[2].partition("##")[0])
    assert folders and all((ROOT / folder).is_dir() for folder in folders if folder != "_shared/"), folders


def test_the_rooms_of_the_design_are_the_packages_of_the_engine():
    engine = ROOT / "module_utils" / "sauvegarde"
    table = (ROOT / "docs" / "design.md").read_text().partition("## Packages of the engine")[2].partition("\n## ")[0]
    rooms = set(re.findall(r"^\| `([a-z_/]+?)/?` \|", table, re.MULTILINE))
    folders = {path.parent.relative_to(engine).as_posix() for path in engine.rglob("__init__.py")} - {"."}
    files = {path.stem for path in engine.glob("[!_]*.py")}
    nested = {"django/worker", "backup/kinds"}
    assert rooms - {"cli"} == (folders - nested) | (files - {"cli"})  # cli: the host's command


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_that_of_its_sources(name):
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name](), (
        "Run: PYTHONPATH=src:module_utils .venv/bin/python -m sauvegarde_cli.reference"
    )


def test_the_playbooks_read_their_options_and_no_others():
    for path in sorted((ROOT / "playbooks" / "options").glob("*.yml")):
        text = (ROOT / "playbooks" / path.name).read_text()
        code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        options = yaml.safe_load(path.read_text())["options"]
        assert [name for name in options if not re.search(rf"\b{name}\b", code)] == [], path.name
        prefix = {"rollback": "restore", "cleanup": "restore", "fixtures": "fixture"}.get(path.stem, path.stem)
        read = set(re.findall(rf"\b({prefix}_[a-z_]+)(?= is (?:not )?defined| \| default)", code))
        computed = set(re.findall(r"^ +([a-z_]+):", code, re.MULTILINE)) | set(re.findall(r"register: (\w+)", code))
        assert read - computed - ROLES - set(options) == set(), path.name
