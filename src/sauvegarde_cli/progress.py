"""Show how far a run is: one changing line on a terminal, plain lines in a pipe, nothing on stdout for JSON.

Plain output names only tasks that take long: what a run does in a moment would hide what it says.
"""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from sauvegarde_cli.terminal import console, errors

if TYPE_CHECKING:
    from rich.status import Status

SLOW = 5  # seconds after which plain output names the task that runs
SILENCE = 15  # seconds without a line after which it says that the task still runs


class Progress:
    """Gets (kind, text) of a running playbook: kind is "task", "line" or "warning"; `tick` is called every moment."""

    def __init__(self, is_json: bool = False) -> None:
        self._console = errors if is_json else console
        self._status: Status | None = None
        self._task = self._line = ""
        self._began = self._shown_at = self._task_began = time.monotonic()
        self._is_named = True

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, kind: str, text: str) -> None:
        """Show an event."""
        if kind == "task":
            self._task, self._line = text, ""
            self._task_began, self._is_named = time.monotonic(), False
        elif kind == "line":
            self._line, self._is_named = text, True
        if kind == "warning" or (kind == "line" and self._status is None):
            self._print(text if kind != "line" else f"  {text}")
        self.tick()

    def tick(self) -> None:
        """Show the time that has passed."""
        elapsed = f"{time.monotonic() - self._began:.0f} s"
        if self._status is not None:
            from rich.markup import escape

            self._status.update(escape(" · ".join(filter(None, (elapsed, self._line or self._task)))))
        elif not self._is_named and time.monotonic() - self._task_began > SLOW:
            self._is_named = True
            self._print(f"  {self._task}")
        elif time.monotonic() - self._shown_at > SILENCE:
            self._is_named = True
            self._print(f"  {self._task}, {elapsed}")

    def _print(self, text: str) -> None:
        self._shown_at = time.monotonic()
        self._console.print(text, markup=False)
        self._console.file.flush()
