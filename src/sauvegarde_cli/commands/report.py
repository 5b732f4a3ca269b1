"""Define `report`: what an earlier run did."""

import argparse


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "what a run did: who, what, when, steps with seconds, result"
    parser = commands.add_parser("report", help=text, description=text)
    parser.add_argument("id", nargs="?", default="last", metavar="last|ID", help="the run; the newest without it")
    parser.add_argument("--all", action="store_true", help="list the runs that are kept")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a report, or the list of runs."""
    import json

    from sauvegarde_cli import run_record
    from sauvegarde_cli.terminal import console

    if arguments.all:
        names = run_record.runs()
        text = json.dumps({"runs": names}) if arguments.json else "\n".join(names) or "There is no report yet."
    else:
        report = run_record.read(arguments.id)
        place = run_record.folder() / report["run"]
        text = json.dumps(report, indent=2) if arguments.json else (place / run_record.TEXT).read_text().rstrip()
    console.print(text, markup=False)
    return 0
