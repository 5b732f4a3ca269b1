"""Back up a Django site's data as one fixture, as stock `dumpdata` writes it (kind `dumpdata`)."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...archive import archive_reader, compression
from ...archive.archive_writer import Stage
from ...archive.manifest import ArchiveFile, Manifest
from ...django import data_dump, fixture_fingerprint
from ...django import site as sites
from ...django.dump_check import DumpCheck
from ...django.worker_request import DumpOptions
from ...errors import Damaged, SauvegardeError
from ...system import disk_space
from ..kind import Notify, Part

PACKAGES = ()
RESTORED_BY = "playbooks/migrate.yml"
_FIRST_BYTES = 64 * 1024 * 1024  # space required where there is no earlier archive to estimate by


@dataclass(frozen=True)
class Options:
    """site: see django.site.Site. dumpdata: the options of the dump (see DumpOptions); a masking key comes as
    `key_file`, a file with its hexadecimal digits.

    archive: {"files": the fixtures of an archive, which are read in place of the site's database, "masked": whether
    they already were}. Migrations set it.
    """

    site: Mapping[str, Any]
    dumpdata: Mapping[str, Any] = field(default_factory=dict)
    archive: Mapping[str, Any] | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Options:
        return cls(values["site"], values.get("dumpdata") or {}, values.get("archive"))

    def dump_options(self) -> DumpOptions:
        """Return the complete options of the dump, with the key that is read from its file."""
        options = dict(self.dumpdata)
        key = read_key(options.pop("key_file", None))
        if key:
            options["key"] = key
        return data_dump.options(options)


@dataclass(frozen=True)
class Facts:
    """What the preflight found: the site, the complete options, and the site's description of itself."""

    site: sites.Site
    options: DumpOptions
    description: Mapping[str, Any]


def read_key(path: str | None) -> str:
    """Return the hexadecimal digits of a job's `key_file`; "" without one. Raises SauvegardeError."""
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SauvegardeError(
            f"The key of the masking cannot be read: {path}",
            str(error),
            "Write it there as hexadecimal digits, for the job's user to read.",
        ) from error


def preflight(options: Options, directory: Path, last: Manifest | None) -> Facts:
    """Start the site in its own environment and check the space. Migrations that are not applied only warn."""
    site = sites.site(options.site)
    dump_options = options.dump_options()
    description = sites.describe(site, asked=not options.archive)
    disk_space.require_space(directory, int(last.stored_bytes * 1.2) if last else _FIRST_BYTES)
    return Facts(site, dump_options, description)


def dump(options: Options, stage: Stage, facts: Facts, notify: Notify) -> Part:
    """Write one fixture, parsed and counted on its way."""
    site, description, archive = facts.site, facts.description, options.archive
    name = f"data.{facts.options.format}"

    def report(event: Mapping[str, Any]) -> None:
        notify("model", **event)

    with stage.writer(name) as target:
        if archive:
            result = data_dump.converted(site, archive["files"], facts.options, target.write, report)
        else:
            result = data_dump.stream(site, facts.options, target.write, report)
    warnings = list(result["warnings"])
    if description["unapplied"]:
        warnings.append("Migrations are not applied: {}.".format(", ".join(description["unapplied"])))
    return Part(
        source={
            "site": site.path,
            "settings": site.settings,
            "database": description["database"],
            "options": {key: value for key, value in facts.options.as_dict().items() if key not in ("key", "policy")},
            "masked": result["masked"] or bool(archive and archive["masked"]),
            "masking": result.get("masking"),
            "counts": result["counts"],
            "stock": result["stock"],
            "many": result["many"],
            "file": name,
        },
        tools=dict(compression.tool_versions(), django=description["django"], site_python=description["python"]),
        fingerprint=result["fingerprint"],
        restore_by_hand=commands_by_hand(site, [name]),
        warnings=warnings,
    )


def commands_by_hand(site: sites.Site, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the stock commands that load the files, in an archive's folder."""
    manage = f"{shlex.quote(site.python)} {shlex.quote(str(Path(site.path) / 'manage.py'))} loaddata "
    manage += " ".join(f'"$PWD/{name}"' for name in names)
    return {
        "local": ["zstd -dq -- " + " ".join(shlex.quote(name + ".zst") for name in names), manage],
        "plain": [manage],
    }


def read(path: str | Path, manifest: Manifest) -> None:
    """Parse every file and compare its content with the fingerprint, checksums included. Raises Damaged."""
    tables: dict[str, Any] = {}

    @contextlib.contextmanager
    def sink(file: ArchiveFile) -> Iterator[Callable[[bytes], object]]:
        form = "jsonl" if file.path.endswith(".jsonl") else "json"
        with DumpCheck(form) as check:
            check.many.update(manifest.source["many"])
            yield check.feed
            fingerprint = check.end()
            assert isinstance(fingerprint, fixture_fingerprint.Fingerprint)
            tables.update(fingerprint.result()["tables"])

    archive_reader.stream(path, manifest.files, sink)
    differences = fixture_fingerprint.compare(manifest.fingerprint or {"tables": {}}, {"tables": tables})
    if differences:
        raise Damaged(
            f"The archive is damaged: {path}",
            "\n".join(difference["sentence"] for difference in differences),
            "Use another archive, or the offsite copy of this one.",
        )
