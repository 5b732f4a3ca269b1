"""Run one task inside the site's virtual environment, and answer in frames on standard output.

A frame is one letter, a length in 4 bytes and that many bytes: `D` data of a dump, `P` progress, `R` the result and
`E` an error (the last three are JSON). What the site's own code prints goes to standard error, where it does no harm.
With its answer the process ends, whatever the site has started in it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import struct
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from ...errors import Locked, SauvegardeError
from ..worker_request import WorkerRequest
from . import site_start
from .database_guard import Guard

if TYPE_CHECKING:
    from .django_types import Source

Task = Callable[[WorkerRequest, "Source", "FrameOutput"], "dict[str, Any]"]

_HEAD = struct.Struct(">cI")
_LARGE = 1 << 16  # bytes that are not copied once more to be written with their head


class FrameOutput:
    """Writes frames to what was standard output; standard output itself becomes standard error."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        self._lock = threading.RLock()
        os.dup2(2, 1)

    def _frame(self, kind: bytes, payload: bytes) -> None:
        head = _HEAD.pack(kind, len(payload))
        with self._lock:
            for part in (head, payload) if len(payload) > _LARGE else (head + payload,):
                data = memoryview(part)
                while data:
                    data = data[os.write(self._descriptor, data) :]

    def data(self, payload: bytes) -> None:
        self._frame(b"D", payload)

    def progress(self, **values: Any) -> None:
        self._json(b"P", values)

    def _json(self, kind: bytes, value: Any) -> None:
        self._frame(kind, json.dumps(value).encode("ascii"))

    def end(self, kind: bytes, value: Any) -> NoReturn:
        """Send the answer and end the process, without running what the site has registered for its end."""
        self._lock.acquire()
        with contextlib.suppress(OSError):  # the reader is gone
            self._json(kind, value)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(0)

    def refuse(self, error: SauvegardeError) -> NoReturn:
        """End the process with an error; also from another thread."""
        self.end(b"E", error.as_dict())


def main(values: Mapping[str, Any], source: Source) -> None:
    """Run one task and end the process. `values`: a `WorkerRequest`; `source`: the stream behind it."""
    request = WorkerRequest.from_dict(values)
    output = FrameOutput()
    guard = Guard(request, output.refuse)

    def fail(error: BaseException) -> NoReturn:
        output.refuse(_as_sauvegarde_error(request.task, error))

    def work() -> NoReturn:
        result = _task(request.task)(request, source, output)
        _close()
        output.end(b"R", result)

    try:
        site_start.run(request, guard, work, fail)
    except BaseException as error:  # noqa: BLE001 - whatever the site's code raises is reported word for word
        fail(error)


def _as_sauvegarde_error(task: str, error: BaseException) -> SauvegardeError:
    if isinstance(error, SauvegardeError):
        return error
    if "lock timeout" in str(error):
        return Locked(
            "Another session holds a lock on a table for too long: nothing was done.",
            str(error),
            "Run it again when the migration or import that holds it has ended.",
        )
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__)[-3:])
    return SauvegardeError(f"The site's own code failed: {task}", trace, "Read the site's error above.")


def _close() -> None:
    """Close the connections, so that SQLite cleans up its files, and end the children that a normal exit would end."""
    from django.db import connections

    with contextlib.suppress(Exception):
        connections.close_all()
    pool = sys.modules.get("multiprocessing")
    for child in pool.active_children() if pool else ():
        if child.daemon:
            child.terminate()


def _task(name: str) -> Task:
    gc.freeze()
    gc.enable()
    # Imported only now, since they import the site's Django, and only what the task needs.
    if name == "load":
        from .fixture_load import load

        return load
    if name == "describe":
        from .model_description import describe

        return describe
    if name == "preview":
        from .mask_examples import preview

        return preview
    if name == "survey":
        from .migration_survey import survey

        return survey
    if name == "migrate":
        from .migration_schema import migrate

        return migrate
    from .fixture_dump import convert, dump

    return {"dump": dump, "convert": convert}[name]
