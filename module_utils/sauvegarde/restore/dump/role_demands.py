"""Find what an entry's SQL demands of the role that runs it, beyond owning the objects."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .entries import Entry, one_line
from .sql_text import IDENTIFIER, unquoted

# Kinds of entries that an ordinary role can load if it owns their objects. All others need a superuser.
ORDINARY_KINDS = frozenset(
    (
        "ACL", "AGGREGATE", "BLOB", "BLOB METADATA", "BLOBS", "CHECK CONSTRAINT", "COLLATION", "COMMENT", "CONSTRAINT",
        "DEFAULT", "DEFAULT ACL", "DOMAIN", "FK CONSTRAINT", "FUNCTION", "INDEX", "INDEX ATTACH", "MATERIALIZED VIEW",
        "MATERIALIZED VIEW DATA", "OPERATOR", "POLICY", "PROCEDURE", "PUBLICATION", "PUBLICATION TABLE", "ROW SECURITY",
        "RULE", "SCHEMA", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "STATISTICS", "STATISTICS DATA", "TABLE",
        "TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TRIGGER", "TYPE", "VIEW",
    )
)  # fmt: skip
_ROUTINES = ("FUNCTION", "PROCEDURE")
_LANGUAGE = re.compile(rf"^    LANGUAGE ({IDENTIFIER})", re.MULTILINE)
_SETTING = re.compile(rf"^    SET ({IDENTIFIER}(?:\.{IDENTIFIER})*) TO ", re.MULTILINE)
_REFERENCES = re.compile(rf" REFERENCES (?:({IDENTIFIER})\.)?({IDENTIFIER})\(")
# What only a superuser may do in an entry of an ordinary kind: (kinds, its SQL, in words).
_SUPERUSER = (
    (ORDINARY_KINDS, re.compile(r"^SET SESSION AUTHORIZATION ", re.MULTILINE), "is made in the name of several roles"),
    (("AGGREGATE",), re.compile(r"^    M?STYPE = internal\b", re.MULTILINE), "keeps its state in the type internal"),
    (_ROUTINES, re.compile(r"^    LANGUAGE .* LEAKPROOF\b", re.MULTILINE), "is LEAKPROOF"),
    (_ROUTINES, re.compile(r"^    LANGUAGE .* SUPPORT ", re.MULTILINE), "has a support function"),
    (("PUBLICATION",), re.compile(r" FOR (?:ALL TABLES|TABLES IN SCHEMA)\b"), "is of all tables"),
    (("TABLE",), re.compile(r" FORCE ROW LEVEL SECURITY;"), "hides rows from its owner, too"),
)


@dataclass(frozen=True)
class Demand:
    """What one entry demands of the role that loads it.

    subject: 'language', 'setting' or 'references' (a table), of which the target says whether the role may use it; or
    'superuser'. name: of the language, setting or table; the reason why only a superuser may load the entry.
    """

    entry: Entry
    subject: str
    name: str


def demands_of(entry: Entry, text: str) -> list[Demand]:
    """Return the demands in the SQL `text` of one entry."""
    demands = [
        Demand(entry, "superuser", reason)
        for kinds, pattern, reason in _SUPERUSER
        if entry.kind in kinds and pattern.search(text)
    ]
    if entry.kind in _ROUTINES:
        head = text.split("\n    AS ", 1)[0]
        demands += [Demand(entry, "language", unquoted(language)) for language in _LANGUAGE.findall(head)[:1]]
        demands += [Demand(entry, "setting", unquoted(name)) for name in _SETTING.findall(head)]
    if entry.kind == "FK CONSTRAINT":
        for schema, name in _REFERENCES.findall(text):
            demands.append(
                Demand(entry, "references", one_line(f"{unquoted(schema) or entry.schema}.{unquoted(name)}"))
            )
    return demands
