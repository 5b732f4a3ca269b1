"""Record the step that a run is at: `progress.json` for readers, one journal line for each finished step."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import Any

from .. import VERSION
from ..config import Job
from ..report import journal
from ..system import atomic_file

FILE = "progress.json"
_logger = logging.getLogger(journal.LOGGER)
_REPEATED = ("dumping",)  # reported many times during a step: progress within it, not steps of their own


class Progress:
    """A kind's `notify`: call it with the step that begins (which ends the one before), or with new values of the
    current step.

    common_values: added to every step while they are set.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._path = job.state / FILE
        self._run_started = time.time()
        self._step = ""
        self._step_started = 0.0
        self._values: dict[str, Any] = {}
        self.common_values: dict[str, Any] = {}

    def __call__(self, step: str, **values: Any) -> None:
        _logger.debug("%s %s", step, values)
        if step == "cleaned":
            journal.log(self._job.name, step, "warning", **{**self.common_values, **values})
        elif step in _REPEATED or step == self._step:
            self._values.update(values)
        else:
            self.end_step()
            self._step, self._step_started, self._values = step, time.time(), {**self.common_values, **values}
        self._write()

    def end_step(self, status: str = "ok", **values: Any) -> None:
        """End the current step: write its journal line."""
        if self._step:
            seconds = time.time() - self._step_started
            journal.log(self._job.name, self._step, status, seconds=seconds, **dict(self._values, **values))
            self._step = ""

    def _write(self) -> None:
        content = {
            "since": self._run_started,
            "step": self._step,
            "values": self._values,
            "pid": os.getppid(),
            "now": time.time(),
            "version": VERSION,
        }
        with contextlib.suppress(OSError):  # a full state folder is reported at the end, and fails no backup
            atomic_file.replace(self._path, json.dumps(content), sync=False)
