"""The inner half's door: runs in the site's virtual environment, answers in frames on its standard output.

A frame is one letter, a length in 4 bytes and that many bytes: `D` data of a dump, `P` progress, `R` the result and
`E` an error (the last three JSON). What the site's own code prints goes to standard error, where it does no harm. With
its answer the process ends, whatever the site has started in it.
"""

import contextlib
import gc
import json
import os
import struct
import sys
import threading
import traceback

from ...errors import Locked, SauvegardeError
from . import site_start
from .database_guard import Guard

_HEAD = struct.Struct(">cI")


class Output:
    """The frames' way out; `data` has the form of a binary file's write."""

    def __init__(self):
        self._descriptor = os.dup(1)
        self._whole = threading.RLock()
        os.dup2(2, 1)

    def _frame(self, kind, payload):
        data = memoryview(_HEAD.pack(kind, len(payload)) + payload)
        with self._whole:
            while data:
                data = data[os.write(self._descriptor, data) :]

    def data(self, payload):
        self._frame(b"D", payload)

    def say(self, kind, value):
        self._frame(kind, json.dumps(value).encode("ascii"))

    def progress(self, **values):
        self.say(b"P", values)

    def end(self, kind, value):
        """Give the answer and end the process, past all that the site's code would still do or wait for."""
        with self._whole:
            with contextlib.suppress(OSError):  # nobody reads it
                self.say(kind, value)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(0)

    def refuse(self, error):
        """End the process with an error; also from another thread."""
        self.end(b"E", error.as_dict())


def main(request, source):
    """Run one task and end. `request`: {"task", "path", "settings", "options"}; `source`: the stream behind it."""
    output = Output()
    guard = Guard(request["task"], request["options"], output.refuse)

    def fail(error):
        output.refuse(_told(request["task"], error))

    def work():
        result = _task(request["task"])(request["options"], source, output)
        _close()
        output.end(b"R", result)

    try:
        site_start.run(request, guard, work, fail)
    except BaseException as error:  # noqa: BLE001 - whatever the site's code raises is told word for word
        fail(error)


def _told(task, error):
    if isinstance(error, SauvegardeError):
        return error
    if "lock timeout" in str(error):
        return Locked(
            "Somebody holds a table for too long: nothing was done.",
            str(error),
            "Run it again when the migration or import that holds it has ended.",
        )
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__)[-3:])
    return SauvegardeError(f"The site's own code failed: {task}", trace, "Read the site's error above.")


def _close():
    """Close the connections (SQLite then tidies its files up) and end the children that the site would have ended."""
    from django.db import connections

    with contextlib.suppress(Exception):
        connections.close_all()
    pool = sys.modules.get("multiprocessing")
    for child in pool.active_children() if pool else ():
        if child.daemon:
            child.terminate()


def _task(name):
    getattr(gc, "freeze", gc.collect)()  # Python 3.6 has none
    gc.enable()
    # Only now, as they import the site's Django, and only what the task needs.
    if name == "load":
        from . import bulk_load

        return bulk_load.load
    if name == "describe":
        from . import site_models

        return site_models.describe
    if name == "preview":
        from . import mask_examples

        return mask_examples.preview
    if name in ("survey", "migrate"):
        from . import migration_schema

        return getattr(migration_schema, name)
    from . import model_dump

    return {"dump": model_dump.dump, "convert": model_dump.convert}[name]
