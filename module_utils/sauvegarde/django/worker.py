"""The inner half's door: runs in the site's virtual environment, answers in frames on its standard output.

A frame is one letter, a length in 4 bytes and that many bytes: `D` data of a dump, `P` progress, `R` the result and
`E` an error (the last three JSON). What the site's own code prints goes to standard error, where it does no harm.
"""

import gc
import json
import os
import struct
import sys
import traceback

from ..errors import SauvegardeError

_HEAD = struct.Struct(">cI")


class Output:
    """The frames' way out; `data` has the form of a binary file's write."""

    def __init__(self):
        self._file = os.fdopen(os.dup(1), "wb", 0)
        os.dup2(2, 1)

    def _frame(self, kind, payload):
        data = memoryview(_HEAD.pack(kind, len(payload)) + payload)
        while data:
            data = data[self._file.write(data) :]

    def data(self, payload):
        self._frame(b"D", payload)

    def say(self, kind, value):
        self._frame(kind, json.dumps(value).encode("ascii"))

    def progress(self, **values):
        self.say(b"P", values)


def main(request, source):
    """Run one task. `request`: {"task", "path", "settings", "options"}; `source`: the binary stream behind it."""
    output = Output()
    sys.path.insert(0, request["path"])
    os.environ["DJANGO_SETTINGS_MODULE"] = request["settings"]
    try:
        task = _task(request["task"])
        _use(request["options"])
        output.say(b"R", task(request["options"], source, output))
    except SauvegardeError as error:
        output.say(b"E", error.as_dict())
    except Exception as error:  # noqa: BLE001 - whatever the site's code raises is told word for word
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__)[-3:])
        output.say(
            b"E",
            SauvegardeError(
                "The site's own code failed: {}".format(request["task"]), trace, "Read the site's error above."
            ).as_dict(),
        )


def _task(name):
    import django

    django.setup()
    getattr(gc, "freeze", gc.collect)()  # Python 3.6 has none
    gc.enable()
    # Only now, as they import the site's Django, and only what the task needs.
    if name == "load":
        from . import worker_load

        return worker_load.load
    if name == "describe":
        from . import worker_models

        return worker_models.describe
    if name in ("survey", "migrate"):
        from . import worker_migrate

        return getattr(worker_migrate, name)
    from . import worker_dump

    return {"dump": worker_dump.dump, "convert": worker_dump.convert}[name]


def _use(options):
    """Work on the named database in place of that of the settings, in every thread."""
    from django.db import connections

    if options.get("name"):
        using = options["database"]
        connections.settings[using]["NAME"] = options["name"]
        connections[using].settings_dict["NAME"] = options["name"]
