"""Define `completion`: the script that completes commands, options, hosts, databases and archive ids in a shell."""

import argparse

SHELLS = ("bash", "zsh")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = 'print a completion script: eval "$(./sauvegarde completion bash)"'
    parser = commands.add_parser("completion", help=text, description=text)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from sauvegarde_cli import completion_script
    from sauvegarde_cli.__main__ import parser

    print(completion_script.script(parser(), arguments.shell), end="")
    return 0
