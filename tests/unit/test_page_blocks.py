"""What the documentation tells people to type or to copy is run by a test, or says why not, and exists."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from sauvegarde_cli import pages, playbook_options
from sauvegarde_cli.system import ROOT

PAGES = pages.pages()
BLOCKS = [block for page in PAGES for block in pages.blocks(page)]
TESTS = [path for folder in ("tests", "molecule") for path in (ROOT / folder).rglob("test_*.py")]
TEMPLATE = re.compile(r"^\{\{.*\}\}$")
LINK = re.compile(r"(?<!`)\[[^]]+\]\(([^) ]+)\)")


def of_kind(kind):
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.kind == kind]


@functools.cache
def functions_of(path):
    """{name: its syntax tree} of a file's functions."""
    return {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def takes_blocks(function):
    """Whether a test has the fixture, and reads it."""
    arguments = [argument.arg for argument in function.args.args]
    read = [node.id for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return "page_blocks" in arguments and "page_blocks" in read


def test_there_are_pages_and_blocks():
    assert {"README.md", "docs/runbook.md", "docs/fr/runbook.md", "roles/backup/README.md"} <= set(PAGES)
    assert len(BLOCKS) > 40


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_who_runs_it(page):
    for block in pages.blocks(page):
        assert block.language in (*pages.TYPED, *pages.SHOWN), f"{block.place}: a language after the backticks"
        assert block.kind or block.language in pages.SHOWN, (
            f"{block.place}: <!-- run: TEST --> or <!-- not run: why -->"
        )
    text = (ROOT / page).read_text()
    lost = len(re.findall(r"<!-- (?:run|not run|as): ", text)) - sum(bool(block.kind) for block in pages.blocks(page))
    assert not lost, f"{page}: a marker stands directly above its block"


@pytest.mark.parametrize("block", of_kind("run"))
def test_the_named_test_takes_its_commands_from_the_page(block):
    name, _, function = block.about.partition("::")
    functions = functions_of(ROOT / name)
    assert function in functions and function.startswith("test_"), f"{block.place}: {block.about} does not exist"
    assert takes_blocks(functions[function]), f"{block.about} does not read the fixture page_blocks"


def test_every_test_that_takes_blocks_is_named_by_a_page():
    takers = {
        f"{path.relative_to(ROOT).as_posix()}::{name}"
        for path in TESTS
        for name, function in functions_of(path).items()
        if name.startswith("test_") and "page_blocks" in [argument.arg for argument in function.args.args]
    }
    assert takers == {block.about for block in BLOCKS if block.kind == "run"}


@pytest.mark.parametrize("block", of_kind("not run"))
def test_a_block_that_is_not_run_says_why(block):
    assert len(block.about.split()) >= 3, block.place
    for file in re.findall(r"\b(?:tests|molecule|docs)/[\w./-]+", block.about):
        assert (ROOT / file.rstrip(".,")).exists(), f"{block.place}: there is no {file}"


@pytest.mark.parametrize("block", of_kind("as"))
def test_a_repeated_block_has_the_commands_of_its_page(block):
    assert block.commands in [other.commands for other in pages.blocks(block.about)], block.place


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in BLOCKS])
def test_what_a_block_names_exists(block):
    assert pages.faults(block) == []


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/reference/")])  # generated
def test_what_a_sentence_names_exists(page):
    faults = {span: pages.span_faults(span) for span in pages.spans(page)}
    assert {span: result for span, result in faults.items() if result} == {}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for link in LINK.findall(re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page}: {link}"


def test_every_page_of_docs_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    names = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/") and page != "docs/README.md"]
    assert [name for name in names if f"({name}" not in index] == []


@pytest.mark.parametrize(
    "text",
    [
        "./sauvegarde retsore elpaso",
        "./sauvegarde restore elpaso --of-hosts prod",
        "./sauvegarde restore elpaso --mode besides",
        "sauvegarde verify",
        "ansible-playbook playbooks/restored.yml",
        "ansible-playbook playbooks/restore.yml -e restore_targets=standby",
        "ansible-playbook playbooks/restore.yml -e restore_target=a \\\n  -e '{\"restore_accept_loss\": []}'",
        "cd / && ansible-playbook playbooks/restore.yml --tags planned",
    ],
)
def test_a_wrong_name_is_found(text):
    assert len(pages.faults(pages.Block("page.md", 1, "", "sh", text))) == 1
    assert pages.faults(pages.Block("page.md", 1, "", "yaml", "backup_job: []")) == ["there is no variable backup_job"]
    assert pages.span_faults("restore_pint") and pages.span_faults("-e restore_pint=latest")


def test_a_block_without_a_marker_and_one_of_a_marker_are_distinguished(tmp_path):
    text = "# A\n\n```sh\na\n```\n\n## B\n\n<!-- not run: why -->\n```sh\nb\n```\n"
    (tmp_path / "page.md").write_text(text)
    first, second = pages.blocks("page.md", tmp_path)
    assert (first.kind, first.section, first.line) == ("", "A", 3)
    assert (second.kind, second.about, second.section, second.commands) == ("not run", "why", "B", [["b"]])
    with pytest.raises(LookupError):
        pages.run_by("tests/test_x.py::test_x", tmp_path)


def first_page(page, last):
    """The commands of a page's blocks until one of its sections."""
    result = pages.blocks(page)
    sections = [block.section for block in result]
    end = len(sections) - sections[::-1].index(last)
    return [block.commands for block in result[:end]]


def test_the_french_page_has_the_commands_of_the_first_page_in_their_order():
    assert first_page("docs/fr/runbook.md", "Recopier des lignes") == first_page("docs/runbook.md", "Copy rows back")


def test_the_french_page_says_in_sentences_what_the_first_page_says():
    english = (ROOT / "docs/runbook.md").read_text().partition("\n## ")[0]
    french = (ROOT / "docs/fr/runbook.md").read_text()
    typed = [re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) for text in (english, french)]
    assert sorted(set(typed[0])) == sorted(set(typed[1]))


def test_the_first_page_is_three_commands():
    first = first_page("docs/runbook.md", "Get data back")
    assert [len(commands) for commands in first] == [1, 1, 1]


def specification(name):
    """The argument specification of a variable of a role or a playbook; None if none declares it."""
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        options = yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
        if name in options:
            return options[name]
    for path in (ROOT / "playbooks" / "options").glob("*.yml"):
        options = playbook_options.read(path.stem)
        if name in options:
            return options[name]
    return None


def typed_values(value, option):
    """A value whose templates stand for something of the option's type."""
    if isinstance(value, str) and TEMPLATE.match(value):
        return {"dict": {}, "list": [], "int": 0, "bool": False}.get(option.get("type"), value)
    if isinstance(value, list):
        return [typed_values(each, {"type": option.get("elements"), **option, "elements": None}) for each in value]
    if isinstance(value, dict):
        options = option.get("options") or {}
        return {key: typed_values(each, options.get(key, {})) for key, each in value.items()}
    return value


def test_variables_are_accepted(page_blocks):
    for block in page_blocks:
        content = yaml.safe_load(block.text)
        plays = content if isinstance(content, list) else [{"vars": content}]
        for values in [each["vars"] for play in plays for each in [play, *play.get("roles", ())] if "vars" in each]:
            declared = {name: option for name in values if (option := specification(name))}
            assert declared, block.place
            value = {name: typed_values(values[name], option) for name, option in declared.items()}
            result = ArgumentSpecValidator(declared).validate(value)
            assert not result.error_messages, f"{block.place}: {result.error_messages}"


def test_the_first_inventory(page_blocks, tmp_path):
    """In a copy of the inventories, with what the lines name: the vault's password and Ansible's programs."""
    shutil.copytree(ROOT / "inventories", tmp_path / "inventories")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.vault-password").write_text("example of a vault's password")
    programs = tmp_path / ".venv/bin"
    programs.parent.mkdir()
    programs.symlink_to(Path(sys.executable).parent)
    lines = "".join(block.text for block in page_blocks)
    environ = {**os.environ, "HOME": str(tmp_path / "home")}
    subprocess.run(["bash", "-euc", lines], cwd=tmp_path, env=environ, check=True, capture_output=True)
    vaults = list((tmp_path / "inventories/mine").rglob("vault.yml"))
    assert len(vaults) == 3 and all(vault.read_text().startswith("$ANSIBLE_VAULT;") for vault in vaults)
