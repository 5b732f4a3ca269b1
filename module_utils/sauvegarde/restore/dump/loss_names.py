"""Name the objects that a restore can lose, and read the list of names that are accepted as losses (loss_ledger
applies the list).

A loss has the name of its entry in the dump's table of contents: `VIEW public.v`, `CONSTRAINT public.child child_fkey`,
`TABLE DATA public.t` (the rows of a table), `EXTENSION pg_cron`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

from ...errors import SauvegardeError
from .contents import Contents
from .entries import Entry

SETTING = "restore_accept_losses"
_CONSTRAINT_KINDS = ("FK CONSTRAINT", "CHECK CONSTRAINT")
_KINDS_ABOUT_OBJECTS = ("ACL", "COMMENT", "SECURITY LABEL")


def loss_name(entry: Entry) -> str:
    """Return the name by which the loss of the entry is accepted."""
    kind = "CONSTRAINT" if entry.kind in _CONSTRAINT_KINDS else entry.kind
    if not entry.schema:
        return f"{kind} {entry.name}"
    about = re.match(r"([A-Z][A-Z ]*) (.*)", entry.name, re.DOTALL) if kind in _KINDS_ABOUT_OBJECTS else None
    if about:
        return f"{kind} {about.group(1)} {entry.schema}.{about.group(2)}"
    return f"{kind} {entry.schema}.{entry.name}"


def normalized_name(name: str) -> str:
    """Return an accepted name in the form of `loss_name`: pg_restore's list says FK CONSTRAINT, for example."""
    name = name.strip().rstrip(";")
    for kind in _CONSTRAINT_KINDS:
        if name.startswith(kind + " "):
            return "CONSTRAINT " + name[len(kind) + 1 :]
    return name


def accepted_names(value: object) -> list[str]:
    """Return the value of the setting as a list of names; raise for anything else.

    A text is one name, or a list as JSON.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text.startswith("[") else [text]
        except ValueError:
            value = [text]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise SauvegardeError(
            "accept_losses is not a list of names.",
            repr(value),
            f'{SETTING}: ["VIEW public.v", …], as the failed restore prints it.',
        )
    return [normalized_name(name) for name in value if name.strip()]


def setting(names: Iterable[str]) -> str:
    """Return the setting that accepts these losses, in a form that both YAML and JSON read."""
    return f"{SETTING}: {json.dumps(list(names), ensure_ascii=False)}"


def acceptable_names(contents: Contents) -> set[str]:
    """Return every name that can be accepted as a loss of this dump."""
    names = {"EXTENSION " + name for name in contents.extensions} | {"EXTENSION postgis_raster"}
    for entry in contents.entries:
        names.update(loss_name(related) for related in (entry, *entry.data_entries()))
    names.update(loss_name(Entry("TABLE DATA", rows.schema, rows.table)) for rows in contents.merged)
    return names


def unknown_names(accepted: Iterable[str], contents: Contents) -> list[dict[str, str]]:
    """Return an obstacle (what, why, fix) for each accepted name that the dump does not contain.

    A name with a typing error would accept nothing, and one from another dump too much.
    """
    acceptable = acceptable_names(contents)
    obstacles = []
    for name in accepted:
        if name in acceptable:
            continue
        nearest = difflib.get_close_matches(name, sorted(acceptable), 1)
        obstacles.append(
            {
                "what": f"The dump contains no {name}, which {SETTING} accepts as a loss.",
                "why": f"The nearest name in it is {nearest[0]}." if nearest else "No name in it is similar.",
                "fix": f"Remove it from {SETTING}, or write it as the failed restore prints it.",
            }
        )
    return obstacles
