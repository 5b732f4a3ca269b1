"""Refuse options of pg_dump in a job's settings, each with the setting that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from ..errors import SauvegardeError

_ENGINE = "The engine chooses it: its archives have one format, and every dump is read back."
_RESTORE = "A restore decides that (playbooks/restore.yml)."
_WHOLE = "An archive holds definitions and rows, so that it can be restored by itself."
_SAME = {
    "schema": ("n", "schemas: [{}]"),
    "exclude-schema": ("N", "exclude_schemas: [{}]"),
    "table": ("t", "tables: [{}]"),
    "exclude-table": ("T", "exclude_tables: [{}]"),
    "exclude-table-data": ("", "exclude_table_data: [{}]"),
    "jobs": ("j", "workers: {}"),
    "compress": ("Z", "level: LEVEL, which is zstd's"),
    "host": ("h", "connection: {{host: {}}}"),
    "port": ("p", "connection: {{port: {}}}"),
    "username": ("U", "connection: {{user: {}}}"),
    "role": ("", "connection: {{user: {}}}"),
    "dbname": ("d", "database: {}"),
    "table-and-children": ("", "tables, with a pattern for the partitions, too: [{0}, {0}_*]"),
    "exclude-table-and-children": ("", "exclude_tables, with a pattern for the partitions, too: [{0}, {0}_*]"),
    "exclude-table-data-and-children": ("", "exclude_table_data, with a pattern for the partitions: [{0}_*]"),
    "filter": ("", "schemas, exclude_schemas, tables, exclude_tables and exclude_table_data"),
    "lock-wait-timeout": ("", "lock_timeout: SECONDS"),
    "schema-only": ("s", 'exclude_table_data: ["*.*"]'),
    "no-data": ("", 'exclude_table_data: ["*.*"]'),
}
_WHY = {
    "format": ("F", _ENGINE),
    "file": ("f", "The engine names the archive itself, below backup_directory."),
    "encoding": ("E", "The dump has the database's own encoding, so that a restore gets the same bytes."),
    "snapshot": ("", "The engine takes the snapshot, which its fingerprints share."),
    "no-synchronized-snapshots": ("", "Without one snapshot the fingerprint would be of other rows."),
    "section": ("", _WHOLE),
    "data-only": ("a", _WHOLE),
    "no-schema": ("", _WHOLE),
    "clean": ("c", _RESTORE),
    "if-exists": ("", _RESTORE),
    "create": ("C", _RESTORE),
    "no-owner": ("O", _RESTORE),
    "no-privileges": ("x", _RESTORE),
    "no-acl": ("", _RESTORE),
    "no-tablespaces": ("", _RESTORE),
    "blobs": ("b", "Large objects are in every archive that schemas and tables do not narrow."),
    "large-objects": ("", "Large objects are in every archive that schemas and tables do not narrow."),
    "no-blobs": ("B", "Large objects are left out where schemas or tables are named, and only there."),
    "no-large-objects": ("", "Large objects are left out where schemas or tables are named, and only there."),
    "extension": ("e", "Extensions are in every archive that schemas and tables do not narrow."),
    "exclude-extension": ("", "What needs the extension could not be restored."),
    "enable-row-security": ("", "Rows would be missing from the archive. Give the dump role BYPASSRLS."),
    "verbose": ("v", "Run `sauvegarde --verbose run JOB` instead."),
    "no-password": ("w", "The engine never asks for one."),
    "password": ("W", "Write connection: {password: …}, which is kept in a file of the job's user."),
    "strict-names": ("", "It is always on."),
    "inserts": ("", "COPY is what the fingerprints and the speed rest on."),
    "column-inserts": ("", "COPY is what the fingerprints and the speed rest on."),
    "rows-per-insert": ("", "COPY is what the fingerprints and the speed rest on."),
}
_SHORT = {short: name for table in (_SAME, _WHY) for name, (short, _) in table.items() if short}


def require_none(options: str | Sequence[str] | None) -> None:
    """Raise SauvegardeError for options of pg_dump. options: a job's `options`, a text or a list of words."""
    sentences = objections(options)
    if sentences:
        raise SauvegardeError("A job takes no options of pg_dump.", "\n".join(sentences), "Remove `options`.")


def objections(options: str | Sequence[str] | None) -> list[str]:
    """Return for each option of pg_dump why it is refused, and which setting does the same."""
    if not options:
        return []
    words = [word for text in ([options] if isinstance(options, str) else options) for word in shlex.split(str(text))]
    return [_objection(*option) for option in _pairs(words)]


def _pairs(words: Iterable[str]) -> Iterable[tuple[str, str, str]]:
    """Yield (option as it was written, its long name, its value)."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.lstrip("-").partition("=") if word.startswith("--") else (word, "", "")
        if not word.startswith("--") and word.startswith("-") and len(word) > 1:
            name, value = _SHORT.get(word[1], word[1]), word[2:]
        takes_value = name in _SAME and name not in ("schema-only", "no-data")
        if takes_value and not value and not has_value and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
            word = f"{word} {value}"
        yield word, name, value


def _objection(word: str, name: str, value: str) -> str:
    if name in _SAME:
        return f"{word}: write {_SAME[name][1].format(value or 'NAME')}."
    if name in _WHY:
        return f"{word}: {_WHY[name][1]}"
    return f"{word}: The engine does not pass it to pg_dump, since its archives could not be proven with it."
