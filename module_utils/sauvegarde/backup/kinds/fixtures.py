"""Back up a Django site's fixture sets, one file each, and on request into a git repository (kind `fixtures`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...archive import compression
from ...archive.archive_writer import Stage
from ...archive.manifest import Manifest
from ...django import fixture_set, fixture_sets, set_privacy
from ...django import site as sites
from ...errors import SauvegardeError
from ...system import disk_space, git
from ..kind import GitRepository, Notify, Part
from . import dumpdata

PACKAGES = ("git",)
RESTORED_BY = "playbooks/fixtures.yml"
read = dumpdata.read
_FIRST_BYTES = 16 * 1024 * 1024  # space required where there is no earlier archive to estimate by
_POINTER = "{}: Git LFS stores it (.gitattributes), so that git shows a pointer instead of its changes."


@dataclass(frozen=True)
class Options:
    """site: see django.site.Site. sets: see django.fixture_sets; by default its SETS. people: `keep` where the sets may
    hold people's data (django.set_privacy). key_file: a file with the masking's key (hexadecimal), for sets with masks.
    repository: where the files are committed."""

    site: Mapping[str, Any]
    sets: Sequence[Mapping[str, Any]] = ()
    people: str = ""
    key_file: str | None = None
    repository: GitRepository | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Options:
        repository = GitRepository.from_values(values.get("repository"))
        return cls(
            values["site"], values.get("sets") or (), values.get("people") or "", values.get("key_file"), repository
        )


@dataclass(frozen=True)
class Facts:
    """What the preflight found: the site, its description of itself, the complete sets, the masking key, warnings."""

    site: sites.Site
    description: Mapping[str, Any]
    sets: Sequence[Mapping[str, Any]]
    key: str
    warnings: list[str]


def preflight(options: Options, directory: Path, last: Manifest | None) -> Facts:
    """Start the site, check the sets, the space, and that the repository can take the files."""
    site = sites.site(options.site)
    sets = fixture_sets.checked(options.sets or fixture_sets.SETS, options.people or fixture_set.PRIVATE)
    key = dumpdata.read_key(options.key_file)
    set_privacy.require_key(sets, key)
    warnings = _check_repository(options.repository, sets)
    description = sites.describe(site)
    # A set that does not say enough about its people stops here, before anything is read.
    chosen = [
        label
        for label in description["models"]
        if any(fixture_set.names(name, label) for chosen_set in sets for name in chosen_set["models"])
    ]
    set_privacy.actions(description["models"], sets, chosen)
    disk_space.require_space(directory, int(last.stored_bytes * 1.2) if last else _FIRST_BYTES)
    return Facts(site, description, sets, key, warnings)


def _check_repository(repository: GitRepository | None, sets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Raise unless the repository can take the files of the sets; return warnings."""
    if repository is None:
        return []
    if not (Path(repository.path) / ".git").exists():
        raise SauvegardeError(
            f"There is no git repository for the fixtures: {repository.path}",
            fix="Clone the site's repository there, or correct the job's “repository”.",
        )
    files = [str(Path(repository.folder) / chosen_set["file"]) for chosen_set in sets]
    git.require_committable(repository.path, files, repository.user)
    return [_POINTER.format(file) for file in git.stored_by_lfs(repository.path, files, repository.user)]


def dump(options: Options, stage: Stage, facts: Facts, notify: Notify) -> Part:
    """Write each set's file into the archive, and into the repository where it changed."""
    tables: dict[str, Any] = {}
    many: dict[str, Any] = {}
    results = fixture_sets.read(facts.site, facts.sets, key=facts.key)
    for result in results:
        notify("set", name=result["name"], objects=result["objects"])
        tables.update(result["fingerprint"]["tables"])
        many.update(result["many"])
        with stage.writer(result["file"]) as target:
            target.write(result["text"].encode("utf-8"))
    emptied = fixture_sets.private_sentences(results)
    if emptied:
        notify("private", fields=emptied)
    description = facts.description
    return Part(
        source={
            "site": facts.site.path,
            "settings": facts.site.settings,
            "database": description["database"],
            "sets": facts.sets,
            "many": many,
            "private": {model: rules for result in results for model, rules in result["private"].items()},
            "commit": _publish(options.repository, results, notify),
        },
        tools=dict(compression.tool_versions(), django=description["django"], site_python=description["python"]),
        fingerprint={"algorithm": fixture_sets.ALGORITHM, "tables": tables},
        restore_by_hand=dumpdata.commands_by_hand(facts.site, [chosen_set["file"] for chosen_set in facts.sets]),
        warnings=facts.warnings + fixture_sets.doubts(results),
    )


def _publish(repository: GitRepository | None, results: Sequence[Mapping[str, Any]], notify: Notify) -> str | None:
    """Commit exactly what was archived; return the new commit, or None where nothing changed."""
    if repository is None:
        return None
    path = Path(repository.path)
    written = fixture_sets.put(results, path / repository.folder, owner=repository.user)
    result = git.commit(
        path,
        [Path(file["path"]).relative_to(path) for file in written],
        repository.message or "Update the fixtures",
        push=repository.push,
        user=repository.user,
        name=repository.name,
        email=repository.email,
    )
    notify("committed", commit=result.committed, pushed=result.pushed)
    return result.committed
