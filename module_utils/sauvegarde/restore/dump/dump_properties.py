"""Turn what a dump states about its database into the properties that a target gives to a database."""

from __future__ import annotations

import re
from typing import Any

from ...postgres import database_properties, sql_names
from .database_statements import DatabaseStatements
from .sql_text import text_of_literal, unquoted

_LITERAL = r"[Ee]?'(?:[^']|'')*'"
# One item of a list of names: pg_dump writes literals; before 11, identifiers.
_ITEM = re.compile(_LITERAL + r"""|"(?:[^"]|"")*"|[^\s,'"]+""")


def properties_of_dump(database: DatabaseStatements, tool: int) -> dict[str, Any]:
    """Return the properties that a dump has of its database, by database_properties' names.

    A property that the dump does not know is absent. tool: pg_dump's version number; before 11 it left settings, grants
    and limit to pg_dumpall. `grants` are the dump's GRANT and REVOKE statements, beside the default `acl`.
    """
    properties: dict[str, Any] = {}
    if database.owner:
        properties["owner"] = database.owner
    if database.comment is not None:
        properties["comment"] = database.comment
    is_created = "encoding" in database.options
    if is_created:
        properties.update(_locale(database.options))
    if (is_created and tool >= 110000) or database.has_properties:
        properties.update(
            comment=database.comment,
            connection_limit=database.limit,
            acl=None,
            grants=list(database.grants),
            settings={},
            role_settings={},
        )
        for role, name, value in database.settings:
            settings = properties["role_settings"].setdefault(role, {}) if role else properties["settings"]
            settings[unquoted(name)] = stored_setting(unquoted(name), value)
    return properties


def _locale(options: dict[str, str]) -> dict[str, Any]:
    both = options.get("locale", "")
    provider = options.get("locale_provider", "")
    locale = options.get("icu_locale") or options.get("builtin_locale") or both
    return {
        "encoding": options["encoding"],
        "provider": provider,
        "collate": options.get("lc_collate", both),
        "ctype": options.get("lc_ctype", both),
        "locale": locale if provider in ("icu", "builtin") else "",
        "icu_rules": options.get("icu_rules"),
    }


def stored_setting(name: str, value: str) -> str:
    """Return a setting in the form in which the server stores it, from the SQL of an ALTER … SET name TO value."""
    if database_properties.is_list(name):
        return ", ".join(sql_names.quote(_name_of_item(item)) for item in _ITEM.findall(value))
    literals = re.findall(_LITERAL, value)
    if not literals:
        return value.strip()
    texts = [text_of_literal(literal) for literal in literals]
    return texts[0] if len(texts) == 1 else ", ".join(map(sql_names.quote, texts))


def _name_of_item(item: str) -> str:
    """Return the name that an item of a list stands for: a literal, or an identifier."""
    if item.endswith("'"):
        return text_of_literal(item)
    return unquoted(item) if item.startswith('"') else item.lower()
