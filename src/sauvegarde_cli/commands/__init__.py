"""Find the commands of ``./sauvegarde``: each file of this folder is one command and adds its parser.

A command's file has ``add(commands)``, which adds a parser with ``set_defaults(run=FUNCTION)``; FUNCTION takes the
parsed arguments and returns the exit code. A file imports at its top what its parser needs, and inside FUNCTION
all that its work needs: ``./sauvegarde --help`` and completion load no Ansible.
"""

import argparse
import importlib
import pkgutil


def names() -> list[str]:
    """Return the names of the commands' files."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of every command."""
    for name in names():
        importlib.import_module(f"{__name__}.{name}").add(commands)
