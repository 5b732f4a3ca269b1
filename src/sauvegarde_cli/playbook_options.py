"""Turn a playbook's options (playbooks/options/) into options of a command, and these back into variables."""

import argparse
import json
from collections.abc import Iterable
from typing import Any

import yaml

from sauvegarde_cli.command_failed import ROOT, CommandFailed

USAGE = 2


def read(playbook: str) -> dict[str, dict[str, Any]]:
    """Return the options of a playbook by name."""
    text = (ROOT / "playbooks" / "options" / f"{playbook}.yml").read_text()
    options: dict[str, dict[str, Any]] = yaml.safe_load(text)["options"]
    return options


def flag(variable: str) -> str:
    """Return the option of a variable: `--of-host` of `restore_of_host`."""
    return "--" + variable.partition("_")[2].replace("_", "-")


def add(parser: argparse.ArgumentParser, playbook: str, without: Iterable[str] = ()) -> None:
    """Add an option for each of a playbook's variables, but for secret ones and those in `without`."""
    group = parser.add_argument_group(f"options of playbooks/{playbook}.yml")
    for name, option in read(playbook).items():
        if option.get("no_log") or name in without:
            continue
        text = str(option.get("description", "")).replace("%", "%%")
        kind = option.get("type")
        if kind == "bool":
            group.add_argument(flag(name), dest=name, action="store_true", default=None, help=text)
        elif kind == "list" and option.get("elements") == "str":
            group.add_argument(flag(name), dest=name, action="append", metavar="NAME", help=text + " Repeatable.")
        elif kind in ("list", "dict"):
            group.add_argument(flag(name), dest=name, type=_json, metavar="JSON", help=text)
        else:
            choices = option.get("choices")
            group.add_argument(flag(name), dest=name, choices=choices, metavar=None if choices else "VALUE", help=text)


def _json(text: str) -> Any:
    """Return the value of a JSON text. Raises ArgumentTypeError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error


def variables(arguments: argparse.Namespace, playbook: str) -> dict[str, Any]:
    """Return the playbook's variables that the arguments set."""
    values = {name: getattr(arguments, name, None) for name in read(playbook)}
    return {name: value for name, value in values.items() if value is not None}


def words(values: dict[str, Any], positional: Iterable[str] = ()) -> list[str]:
    """Return the words of a command line that sets these variables."""
    shown = [str(values[name]) for name in positional if values.get(name)]
    for name, value in values.items():
        if name in positional or value in (None, False):
            continue
        if value is True:
            shown.append(flag(name))
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            shown += [part for each in value for part in (flag(name), each)]
        else:
            shown += [flag(name), value if isinstance(value, str) else json.dumps(value)]
    return shown


def require(values: dict[str, Any], command: str, names: Iterable[str], positional: Iterable[str] = ()) -> None:
    """Raise CommandFailed, a usage error, unless all these variables are set."""
    missing = [
        name.partition("_")[2].upper() if name in positional else flag(name) for name in names if not values.get(name)
    ]
    if missing:
        raise CommandFailed(
            f"{command} needs {' and '.join(missing)}.", fix=f"See ./sauvegarde {command} --help.", code=USAGE
        )
