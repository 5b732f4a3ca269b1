"""Take losses out of a manifest's fingerprint, so that everything else can be proven."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .dump.entries import one_line
from .dump.sql_text import IDENTIFIER, unquoted

# Kinds of losses, and the part of the fingerprint that they are in.
_PARTS = (
    ("TABLE DATA", "tables"),
    ("TABLE", "tables"),
    ("MATERIALIZED VIEW DATA", "matviews"),
    ("MATERIALIZED VIEW", "matviews"),
    ("SEQUENCE SET", "sequences"),
    ("SEQUENCE", "sequences"),
    ("BLOB", "large_objects"),
    ("BLOBS", "large_objects"),
    ("BLOB METADATA", "large_objects"),
)


def surviving_fingerprint(fingerprint: Mapping[str, Any], lost: Iterable[str]) -> dict[str, Any]:
    """Return the fingerprint without the objects that were lost. lost: names of losses."""
    names: dict[str, set[str]] = {}
    for loss in lost:
        for kind, part in _PARTS:
            if loss.startswith(kind + " "):
                names.setdefault(part, set()).add(loss[len(kind) + 1 :])
    surviving = dict(fingerprint)
    for part in ("tables", "matviews", "sequences"):
        if part in fingerprint:
            surviving[part] = {
                key: value for key, value in fingerprint[part].items() if plain_key(key) not in names.get(part, ())
            }
    if names.get("large_objects"):
        surviving.pop("large_objects", None)
    return surviving


def affected_partitions(
    fingerprint: Mapping[str, Any], lost: Iterable[str], roots: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the partitioned tables that a loss is part of, and all partitions of these, as names of losses.

    A manifest's fingerprint has one hash for a partitioned table, so nothing of it can be proven if a part is lost.
    roots: each partition of the restored database to its partitioned table, both `schema.name`. A partitioned table
    that could not be attached to another one is such a table there, and the manifest does not mention it.
    """
    names = {
        loss[len(kind) + 1 :]
        for loss in lost
        for kind in ("TABLE", "TABLE ATTACH", "TABLE DATA")
        if loss.startswith(kind + " ")
    }
    names.update([leaf for leaf, root in roots.items() if root in names])
    tables, partitions = [], []
    for key, entry in fingerprint.get("tables", {}).items():
        leaves = [plain_key(leaf) for leaf in entry.get("partitions", ())]
        if leaves and not names.isdisjoint([plain_key(key), *leaves]):
            tables.append("TABLE DATA " + plain_key(key))
            partitions += ["TABLE DATA " + leaf for leaf in leaves]
    return tables, partitions


def plain_key(key: str) -> str:
    """Return `schema.name` of a fingerprint's key, whose parts are quoted."""
    return ".".join(one_line(unquoted(part)) for part in re.findall(IDENTIFIER, key))
