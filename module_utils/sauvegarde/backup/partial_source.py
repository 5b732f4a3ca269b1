"""Narrow the manifest's source to what a partial dump holds, and warn of what cannot be restored from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report.name_list import name_list
from .dump_entries import DumpEntries


def narrow(source: Mapping[str, Any], partial: Mapping[str, Any], entries: DumpEntries) -> dict[str, Any]:
    """Return the source with `partial`, and with only those extensions, rows of extensions and sequences that are in
    the dump or that its objects need."""
    result = dict(source, partial=dict(partial))
    spatial = source["spatial_ref_sys"]
    if not any(line.startswith("TABLE DATA ") and " spatial_ref_sys " in line for line in entries.lines):
        # The dump lacks the custom rows: the manifest has them, as it has the changed ones.
        result["spatial_ref_sys"] = dict(spatial, custom=[], changed=spatial["custom"] + spatial["changed"])
    if partial["everything_else"]:
        return result
    # Without the extensions in the dump, those that it needs are created by the manifest.
    result["extensions"] = [entry for entry in source["extensions"] if entry["name"] in partial["extensions"]]
    if not any(entry["name"] == "postgis" for entry in result["extensions"]):
        result["spatial_ref_sys"] = dict(spatial, custom=[], changed=[])
    schemas = {entry["schema"] for entry in result["extensions"]}
    result["extension_sequences"] = [
        sequence for sequence in source["extension_sequences"] if sequence["table"].split(".")[0].strip('"') in schemas
    ]
    return result


def warnings(partial: Mapping[str, Any] | None) -> list[str]:
    """Return sentences about objects in a partial dump that need others which it does not hold."""
    if partial is None:
        return []
    sentences = []
    objects = [entry["object"] + ": " + entry["why"] for entry in partial["unrestorable"]]
    if objects:
        sentences.append(
            "Objects in the archive need others that it does not hold, and a restore loses them unless it finds these:"
            f" {name_list(objects)}"
        )
    if partial["foreign_keys"]:
        keys = name_list(partial["foreign_keys"])
        sentences.append(
            f"The archive has foreign keys to tables without rows: {keys}. A restore cannot create such a key where"
            " rows refer to a row that the archive lacks."
        )
    return sentences
