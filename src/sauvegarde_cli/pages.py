"""Read the code blocks of the documentation, and check that what they name exists.

A comment on the line above a block says who runs it:

``<!-- run: tests/demo/test_demo.py::test_the_list -->``
    This test runs it. The test takes the block from the page by `run_by`, so page and test cannot differ.
``<!-- not run: needs a server on the network -->``
    No test runs it, and why. Its commands, options and variables are looked up.
``<!-- as: docs/runbook.md -->``
    That page has a block with the same commands: a translation.
"""

import argparse
import contextlib
import functools
import io
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sauvegarde_cli import playbook_options
from sauvegarde_cli.command_failed import ROOT

PATTERNS = ("*.md", "docs/**/*.md", "roles/*/README.md", "inventories/*/README.md")
# Blocks that are typed, or copied into a file, have a marker; `text` and `json` show what is printed.
TYPED, SHOWN = ("sh", "yaml", "sql"), ("text", "json")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- (run|not run|as): (.+?) -->\n\Z")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_SYNTAX = re.compile(r"[\[…|]|\b(COMMAND|NAME)\b")  # usage, such as `demo [--keep]`, which nobody types
_ENDS = {";", "&&", "||", "|", "&"}
_OUR_PREFIXES = ("postgresql", "backup", "restore", "migrate", "fixture", "policy", "list", "status")
# What a host, a site or a plugin reads, and no role declares.
_OTHER_VARIABLES = frozenset(("sauvegarde_environment", "django_site"))
_NO_VARIABLES = ("restore_by_hand",)  # keys of the manifest


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. kind: "run", "not run" or "as"; about: what the marker says; both "" without one."""

    page: str
    line: int
    section: str
    language: str
    text: str
    kind: str = ""
    about: str = ""

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a block of shell, without comments."""
        return split(self.text)


def pages(root: Path = ROOT) -> list[str]:
    """Return the pages' paths, from the root."""
    found = {path.relative_to(root).as_posix() for pattern in PATTERNS for path in root.glob(pattern)}
    return sorted(found - {"CHANGELOG.md"})  # what was true at its time


def blocks(page: str, root: Path = ROOT) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = (root / page).read_text(encoding="utf-8")
    return [_block(page, text, match) for match in _FENCE.finditer(text)]


def _block(page: str, text: str, match: "re.Match[str]") -> Block:
    before = text[: match.start()]
    marker = _MARKER.search(before)
    headings = _HEADING.findall(_FENCE.sub("", before))
    kind, about = marker.groups() if marker else ("", "")
    line = before.count("\n") + 1
    return Block(page, line, headings[-1] if headings else "", match[1], match[2], kind, about)


def run_by(test: str, root: Path = ROOT) -> list[Block]:
    """Return the blocks that name a test (`FILE::NAME`), in the order of the pages. Raises LookupError."""
    named = [
        block for page in pages(root) for block in blocks(page, root) if (block.kind, block.about) == ("run", test)
    ]
    if not named:
        raise LookupError(f"No page has a block that is run by {test}.")
    return named


def spans(page: str, root: Path = ROOT) -> list[str]:
    """Return what stands between backticks in a page's sentences."""
    text = (root / page).read_text(encoding="utf-8")
    return [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text))]


def split(text: str) -> list[list[str]]:
    """Return the words of each command of a shell text, without comments and assignments before the command."""
    commands: list[list[str]] = []
    pending = ""
    for line in text.replace("\\\n", " ").splitlines():
        pending += line
        try:
            lexer = shlex.shlex(pending, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            tokens = list(lexer)
        except ValueError:  # a quotation that goes on in the next line
            pending += "\n"
            continue
        pending = ""
        words: list[str] = []
        for word in [*tokens, ";"]:
            if word in _ENDS:
                commands += [words] if words else []
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)
    return [words for words in commands if words[0] != "export"]


def faults(block: Block) -> list[str]:
    """Return what a block names and does not exist: commands, options, playbooks, variables."""
    if block.language == "sh":
        return [fault for words in block.commands for fault in command_faults(words)]
    if block.language == "yaml":
        return [fault for name in variables(yaml.safe_load(block.text)) for fault in _variable_faults(name)]
    return []


def span_faults(span: str) -> list[str]:
    """Return the same of what stands in a sentence: a command that can be typed, options, or a variable."""
    if span in _NO_VARIABLES:
        return []
    if re.fullmatch(rf"({'|'.join(_OUR_PREFIXES)})_[a-z_]+", span):
        return _variable_faults(span)
    if _SYNTAX.search(span) or not re.match(r"(\./sauvegarde|ansible-playbook|-e) \S", span):
        return []
    with contextlib.suppress(ValueError):
        words = shlex.split(span)
        return _extra_faults(words, None) if words[0] == "-e" else command_faults(words)
    return []


def variables(content: Any) -> list[str]:
    """Return the variables that YAML sets: at its top, or in a play's `vars`."""
    if isinstance(content, dict):
        return list(content)
    plays = [play for play in content if isinstance(play, dict)]
    roles = [role for play in plays for role in play.get("roles", ()) if isinstance(role, dict)]
    return [name for each in [*plays, *roles] for name in each.get("vars", ())]


def command_faults(words: list[str]) -> list[str]:
    """Return what a command of ours, or of Ansible's, names and does not exist; of another program nothing."""
    program, *rest = words
    if program == "./sauvegarde":
        return _parse_faults(_own_parser(), rest, words)
    if program == "sauvegarde":
        from sauvegarde import cli

        return _parse_faults(cli.parser(), rest, words)
    if Path(program).name == "ansible-playbook":
        return list(_playbook_faults(rest))
    return []


@functools.cache
def _own_parser() -> argparse.ArgumentParser:
    from sauvegarde_cli.__main__ import parser

    return parser()


def _parse_faults(parser: argparse.ArgumentParser, rest: list[str], words: list[str]) -> list[str]:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            parser.parse_args(rest)
    except SystemExit as end:
        if end.code:
            return [f"{shlex.join(words)}: {printed.getvalue().strip().splitlines()[-1]}"]
    return []


def _playbook_faults(words: list[str]) -> Iterator[str]:
    names = [word for word in words if word.startswith("playbooks/")]
    for name in names:
        if not (ROOT / name).is_file():
            yield f"there is no {name}"
    for tag in [following for word, following in itertools.pairwise(words) if word in ("--tags", "-t")]:
        if not any(re.search(rf"tags: .*\b{tag}\b", path.read_text()) for path in _tagged(names)):
            yield f"no tag {tag} in {' '.join(names)}"
    yield from _extra_faults(words, Path(names[0]).stem if names else None)


def _tagged(names: list[str]) -> Iterator[Path]:
    for name in names:
        yield ROOT / name
    yield from ROOT.glob("roles/*/tasks/*.yml")


def _extra_faults(words: list[str], playbook: str | None) -> list[str]:
    """Return a fault for each variable of `-e` that the playbook (any playbook without one) does not take."""
    named: list[str] = []
    for word, following in itertools.pairwise(words):
        if word != "-e" or following.startswith("@"):
            continue
        is_json = following.startswith("{")
        named += json.loads(following) if is_json else [following.partition("=")[0]]
    has_options = playbook and (ROOT / "playbooks" / "options" / f"{playbook}.yml").is_file()
    known = frozenset(playbook_options.read(playbook)) if has_options and playbook else known_variables()
    return [f"{playbook or 'no playbook'} takes no {name}" for name in named if name not in known | known_roles()]


def _variable_faults(name: str) -> list[str]:
    is_ours = name.split("_")[0] in _OUR_PREFIXES
    return [f"there is no variable {name}"] if is_ours and name not in known_variables() else []


@functools.cache
def known_roles() -> frozenset[str]:
    """Return the variables of the roles."""
    return frozenset(
        name
        for path in ROOT.glob("roles/*/meta/argument_specs.yml")
        for name in yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    )


@functools.cache
def known_variables() -> frozenset[str]:
    """Return all variables: of the roles, of the playbooks, and those that neither declares."""
    playbooks = [path.stem for path in (ROOT / "playbooks" / "options").glob("*.yml")]
    options = frozenset(name for each in playbooks for name in playbook_options.read(each))
    return known_roles() | options | _OTHER_VARIABLES
