"""Find the newest readable manifest of a job's folder, or of each database in the folder of a job of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..archive import archive_reader, ids
from ..archive.manifest import Manifest
from ..errors import SauvegardeError


def newest_first(directory: Path) -> Iterator[Manifest]:
    """Yield the manifests that can be read; the catalog reports the others."""
    for identifier in reversed(ids.list_ids(directory)):
        try:
            manifest = archive_reader.read_manifest(directory / identifier)
        except SauvegardeError:
            continue  # an older one serves as well
        yield manifest


class LastManifests:
    """The newest manifest of each database of a job. Each manifest of the folder is read at most once."""

    def __init__(self, directory: Path) -> None:
        self._manifests = newest_first(directory)
        self._newest: dict[str, Manifest] = {}

    def of(self, database: str) -> Manifest | None:
        """Return the newest manifest of a database; None without one."""
        while database not in self._newest:
            manifest = next(self._manifests, None)
            if manifest is None:
                return None
            self._newest.setdefault(str(manifest.source.get("database", "")), manifest)
        return self._newest[database]
