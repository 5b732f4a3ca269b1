"""Choose the inventory that a command works on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sauvegarde_cli.command_failed import ROOT, CommandFailed

# They come with the checkout, to try things on.
SHIPPED = ("demo", "example", "lab")
USAGE = 2


def own(root: Path = ROOT) -> list[str]:
    """Return the inventories of this checkout that are not shipped with it."""
    return [name for name in every(root) if name.split("/")[1] not in SHIPPED]


def every(root: Path = ROOT) -> list[str]:
    """Return all inventories of this checkout, as paths from its root."""
    return sorted(f"inventories/{path.name}" for path in (root / "inventories").glob("[!_.]*") if path.is_dir())


def choose(named: Sequence[str], environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> tuple[str, ...]:
    """Return the inventories to use: of `-i`, of ANSIBLE_INVENTORY, or the only one there is. Paths are absolute.

    Raises CommandFailed if one does not exist, or if it is not clear which is meant.
    """
    words = list(named) or [word for word in environ.get("ANSIBLE_INVENTORY", "").split(",") if word]
    if words:
        return tuple(_existing(word, root) for word in words)
    candidates = own(root)
    if len(candidates) == 1:
        return (str(root / candidates[0]),)
    if candidates:
        raise CommandFailed(
            "It is not clear which inventory is meant.",
            f"There are several: {', '.join(candidates)}.",
            f"Name one: -i {candidates[0]}, or ANSIBLE_INVENTORY={candidates[0]} for all commands of this shell.",
            USAGE,
        )
    raise CommandFailed(
        "There is no inventory of yours.",
        f"Those that came with the checkout are to try things on: {', '.join(every(root)) or 'none'}.",
        "Name one: -i inventories/NAME, or set ANSIBLE_INVENTORY. For the hosts of the demo: -i inventories/demo.",
        USAGE,
    )


def _existing(word: str, root: Path) -> str:
    """Return an inventory's path, from the current folder or else from the checkout; a list of hosts as it is."""
    if "," in word:
        return word
    for path in (Path(word).expanduser(), root / word, root / "inventories" / word):
        if path.exists():
            return str(path.resolve())
    raise CommandFailed(
        f"There is no inventory {word}.",
        f"This checkout has: {', '.join(every(root)) or 'none'}.",
        "Name one of these with -i, or the path of your own.",
        USAGE,
    )
