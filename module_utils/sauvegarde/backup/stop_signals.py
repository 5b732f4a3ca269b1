"""Turn the signals that ask a run to stop into an exception."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class StopRequested(BaseException):
    """The process was asked to stop. A BaseException, so that no `except Exception` on the way handles it."""


def _raise(_number: int, _frame: FrameType | None) -> None:
    for number in SIGNALS:  # one request is enough; not SIG_IGN, which children would inherit
        signal.signal(number, lambda *_: None)
    raise StopRequested


def raise_on(*numbers: signal.Signals) -> None:
    """Let each of these signals raise StopRequested in the main thread, once."""
    for number in numbers:
        signal.signal(number, _raise)


def ignore() -> None:
    """Ignore all of them from now on: a second signal must not keep the outcome of the first from being recorded."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
