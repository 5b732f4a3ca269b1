"""Dump a site's data: stream it, check it while it is written, publish it by rename.

This is the outer half. `worker.fixture_dump` reads the database.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Union

from ..errors import SauvegardeError
from . import data_load, fixture_stream, set_privacy
from .dump_check import DumpCheck
from .fixture_file import COMPRESSIONS, compressed, replaced
from .fixture_fingerprint import Count, Fingerprint
from .leak_scan import Scanner
from .site import Readable, Site, run
from .worker_request import DEFAULT_EXCLUDE, ConvertOptions, DumpOptions, DumpReport

EXCLUDE = DEFAULT_EXCLUDE

Values = Union[Mapping[str, Any], DumpOptions]
Write = Callable[[bytes], object]
Progress = Callable[[dict[str, Any]], object]


def options(values: Values) -> DumpOptions:
    """Return the options of a dump. Unknown and impossible ones raise."""
    whole = values if isinstance(values, DumpOptions) else DumpOptions.from_values(values)
    if whole.sets and not whole.compared:
        set_privacy.require_key(whole.sets, whole.key)
    return whole


def stream(
    site: Site,
    values: Values,
    write: Write,
    progress: Progress | None = None,
    prove: bool = True,
    many: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    """Dump into the function `write`. What passes by is parsed and counted, and fingerprinted to `prove` it later.

    `many`: a dict that is filled with the many-to-many fields before the first data come.

    Returns the values of a `DumpReport`, and "fingerprint" (None unless `prove`) and "many". Raises if the parsed
    counts differ from the worker's.
    """
    whole = options(values)
    with DumpCheck(whole.format, prove, many) as check:
        report = _run(site, "dump", whole, None, write, check, progress)
        return _completed(report, check)


def parsed(take: Callable[[dict[str, Any]], object]) -> Write:
    """Return a function for `stream`, with the format jsonl, that passes each object to `take`."""
    rest = b""

    def write(piece: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                take(json.loads(line.decode("utf-8")))

    return write


def converted(
    site: Site,
    paths: Sequence[str | Path],
    values: Values,
    write: Write,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Do as `stream`, but from fixtures (an archive's) and the site's models. The site's database is not asked."""
    whole = options(values)
    with contextlib.ExitStack() as stack, DumpCheck(whole.format) as check:
        # To mask, the names in the files are collected first, so they are read twice.
        sources = [*paths, *paths] if whole.policy else paths
        source = data_load.FramedSources([data_load.opened(stack, path) for path in sources])
        convert = ConvertOptions(**whole.as_dict(), files=len(paths))
        report = _run(site, "convert", convert, source, write, check, progress)
        return _completed(report, check)


def _run(
    site: Site,
    task: str,
    whole: DumpOptions,
    source: Readable | None,
    write: Write,
    check: DumpCheck,
    progress: Progress | None,
) -> DumpReport:
    """Run the task. Its data go to the caller and to the check."""

    def data(payload: bytes) -> None:
        write(payload)
        check.feed(payload)

    def progress_of(event: dict[str, Any]) -> None:
        if "many" in event:
            check.many.update(event["many"])
        elif "originals" in event:
            policy = event.get("policy") or whole.policy or {}
            check.scanner = Scanner(policy, bytes.fromhex(whole.key), event["originals"])
        elif "unmasked" in event:
            check.unmasked.update(event["unmasked"])
        elif progress is not None:
            progress(event)

    return DumpReport.from_dict(run(site, task, whole.as_dict(), source=source, data=data, progress=progress_of))


def _completed(report: DumpReport, check: DumpCheck) -> dict[str, Any]:
    """Return the worker's report with the result of the check. Raises if they differ."""
    counted: Count = check.end()
    if check.scanner is not None and report.masking is not None:
        report.masking["search"] = check.scanner.facts
    written = {label: rows for label, rows in report.counts.items() if rows}
    if written != counted.counts:
        raise SauvegardeError(
            "The dump does not hold what was read: it is not published.",
            f"Written: {written}\nFound in the stream: {counted.counts}",
            "Run it again; if it stays so, report it.",
        )
    fingerprint = counted.result() if isinstance(counted, Fingerprint) else None
    return dict(report.as_dict(), fingerprint=fingerprint, many=check.many)


def to_file(
    site: Site,
    values: Mapping[str, Any],
    path: str | Path,
    progress: Progress | None = None,
    write: bool = True,
    prove: bool = False,
) -> dict[str, Any]:
    """Dump to a file, compressed as its name says. An existing file stays until the new one is complete.

    `write`: whether to keep the file; without it the data are only dumped and checked. Returns what `stream`
    does, and "path", "bytes" and "changed".
    """
    path = Path(path)
    form, compression = fixture_stream.kind_of(path.name)
    if compression not in (None, *COMPRESSIONS):
        raise SauvegardeError(
            f"A dump cannot be compressed as {compression}.", fix="Use one of: {}.".format(", ".join(COMPRESSIONS))
        )
    values = dict(values, format=form)
    if not write:
        return dict(stream(site, values, lambda piece: None, progress, prove), path=str(path), bytes=0, changed=True)
    try:
        with replaced(path) as target:
            with compressed(target, compression) as sink:
                result = stream(site, values, sink.write, progress, prove)
            target.flush()
            changed = not path.exists() or not filecmp.cmp(path, target.name, shallow=False)
    except OSError as error:
        raise SauvegardeError(
            f"The dump could not be written: {path}",
            str(error),
            "Correct the path, or free space there; an existing file is unchanged.",
        ) from error
    return dict(result, path=str(path), bytes=path.stat().st_size, changed=changed)
