"""Define `bench`."""

import argparse

from sauvegarde_cli import check_names


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    parser = commands.add_parser("bench", help="measure against what people use today")
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(check_names.benchmarks())}")
    parser.add_argument("words", nargs="*", metavar="WORD", help="what the benchmark itself takes: see benchmarks/")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run one benchmark."""
    from sauvegarde_cli import checks

    return checks.bench(arguments.name, arguments.words)
