"""Write the completion scripts: commands and options from the parser, words from the files of completion_words."""

import argparse
import shlex
from collections.abc import Iterable

from sauvegarde_cli import completion_words

# Which words complete an option's value, or a positional argument, by its destination.
WORDS = {
    "limit": "hosts", "host": "hosts", "of_host": "hosts", "restore_target": "hosts", "restore_source_host": "hosts",
    "restore_of_host": "hosts", "migrate_target": "hosts", "migrate_source_host": "hosts", "fixture_hosts": "hosts",
    "restore_database": "databases", "restore_source_database": "databases", "name": "databases",
    "archive": "archives", "restore_point": "archives", "migrate_point": "archives", "job": "jobs",
}  # fmt: skip

_BASH = """\
_sauvegarde() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} words=
    local kept={folder}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W {commands} -- "$word"))
        return
    fi
    case "$command $previous" in
{values}
    esac
    if [ -z "$words" ]; then
        case "$command" in
{options}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _sauvegarde sauvegarde ./sauvegarde
"""
_ZSH = """\
#compdef sauvegarde
autoload -Uz bashcompinit && bashcompinit
"""


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _read(kinds: Iterable[str]) -> str:
    """Return the shell's words that read files of words."""
    files = " ".join(f'"$kept/{kind}"' for kind in kinds)
    return f"$(cat {files} 2>/dev/null)"


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return sorted(flag for action in parser._actions for flag in action.option_strings if flag.startswith("--"))


def _values(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return the cases of a command's options whose values are known."""
    cases = []
    for action in parser._actions:
        words = " ".join(map(str, action.choices)) if action.choices and not _subparsers(parser) else ""
        if action.dest in WORDS:
            words = _read([WORDS[action.dest]])
        if not action.option_strings or action.nargs == 0 or not words:
            continue
        pattern = "|".join(f'"{name} {flag}"' for flag in action.option_strings)
        cases.append(f'        {pattern}) words="{words}" ;;')
    return cases


def _options(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the case of a command: its options, its positional arguments' words, or its own commands."""
    words = [*_subparsers(parser), *_flags(parser)]
    kinds = []
    for action in parser._actions:
        if not action.option_strings and action.dest in WORDS:
            kinds.append(WORDS[action.dest])
        elif not action.option_strings and action.choices and not _subparsers(parser):
            words += map(str, action.choices)
    text = " ".join(filter(None, [*words, _read(dict.fromkeys(kinds)) if kinds else ""]))
    return f'            {name}) words="{text}" ;;'


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for `bash` or `zsh`, which runs it by its own bashcompinit."""
    commands = _subparsers(parser)
    values = [case for name, one in commands.items() for case in _values(name, one)]
    options = [_options(name, one) for name, one in commands.items()]
    text = _BASH.format(
        folder=shlex.quote(str(completion_words.folder())),
        commands=shlex.quote(" ".join([*commands, "--help"])),
        values="\n".join(values),
        options="\n".join(options),
    )
    return (_ZSH if shell == "zsh" else "") + text
