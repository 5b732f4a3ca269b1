"""Recognize extensions that have left PostGIS and that nothing in a dump needs: a restore leaves them out.

PostGIS 3.7 no longer brings them, and many databases only have them because an image or a hoster installs everything.
Something needs one if an entry of the dump depends on it or its text names a function, a type or a schema of it, or if
its own tables have rows of the site.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .dump.contents import Contents, is_about_extension
from .dump.entries import Entry


@dataclass(frozen=True)
class _Extension:
    """tables: its own, whose rows a dump may hold. uses: words of definitions that need it."""

    uses: re.Pattern[str]
    tables: tuple[str, ...] = ()


_RETIRED = {
    "address_standardizer": _Extension(
        re.compile(r"\b(?:debug_)?standardize_address\b|\bparse_address\b|\bstdaddr\b", re.IGNORECASE)
    ),
    "address_standardizer_data_us": _Extension(
        re.compile(r"\bus_(?:gaz|lex|rules)\b", re.IGNORECASE), ("us_gaz", "us_lex", "us_rules")
    ),
    "postgis_tiger_geocoder": _Extension(
        re.compile(
            r"\btiger(?:_data)?\b|\b(?:reverse_)?geocode(?:_\w+)?\b|\b(?:pagc_)?normalize_address\b|\bnorm_addy\b"
            r"|\bpprint_addy\b|\bloader_\w+_script\b",
            re.IGNORECASE,
        ),
        ("geocode_settings", "pagc_gaz", "pagc_lex", "pagc_rules"),
    ),
}


def is_retired(name: str) -> bool:
    """Return whether the extension has left PostGIS."""
    return name in _RETIRED


def own_rows(name: str, contents: Contents) -> list[Entry]:
    """Return the entries of rows that a dump holds, or may hold, for the extension's own tables."""
    schema = contents.extensions.get(name, "")
    return [Entry("TABLE DATA", schema, table) for table in _RETIRED[name].tables]


def users(name: str, contents: Contents, dependents: Collection[Entry], filled: Collection[str]) -> list[Entry]:
    """Return the entries that need the extension.

    dependents: entries that depend on it as far as the dump states dependencies. filled: `schema.name` of the tables
    that have rows.
    """
    own = {entry.key for entry in own_rows(name, contents)}
    uses = _RETIRED[name].uses
    needing = [entry for entry in dependents if entry.kind != "TABLE DATA" or entry.key not in own]
    for entry, text in contents.texts.items():
        if entry not in needing and not is_about_extension(entry) and uses.search(_code(text)):
            needing.append(entry)
    return needing + [entry for entry in own_rows(name, contents) if ".".join(entry.key) in filled]


def _code(text: str) -> str:
    """Return a definition without comments, and without what only sets the session."""
    skipped = ("--", "SET ", "SELECT pg_catalog.set_config")
    return "\n".join(line for line in text.splitlines() if not line.startswith(skipped))
