"""Write to the system's journal, without a library; to syslog where there is no journal.

Everything goes through the logger `sauvegarde` of Python's logging. `log` writes the one structured line of a step:
MESSAGE is `job=… step=… status=… key=value …` (values as JSON where they are not plain words); SAUVEGARDE_JOB,
SAUVEGARDE_STEP and SAUVEGARDE_STATUS are fields of their own. Other modules of the engine use
`logging.getLogger("sauvegarde")`, mostly for debug lines, which `show_debug` prints and the journal does not get.

Whatever a value holds, a record stays one line, and passwords in addresses are left out.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SOCKET = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
LOGGER = "sauvegarde"
_LEVELS = {"start": logging.INFO, "ok": logging.INFO, "warning": logging.WARNING, "failed": logging.ERROR}
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # the others: 7, debug
_DAEMON = 3 << 3  # syslog's facility
_LONGEST = 6000  # characters of a value; far below what a datagram holds
_PLAIN = re.compile(r"[A-Za-z0-9_./:+@-]+\Z")
_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]{0,20}://[^/@:\s]{0,200}):[^/@\s]{0,1000}@", re.IGNORECASE)


def redact(text: str) -> str:
    """Return the text without the passwords of the addresses (scheme://user:password@…) in it."""
    return _PASSWORD.sub(r"\g<before>:***@", text)


def _one_line(text: str) -> str:
    """Return the text with line ends and everything else that does not print escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _word(value: object) -> str:
    if isinstance(value, float):
        value = round(value, 3)
    if not isinstance(value, str):
        return json.dumps(value)
    value = redact(value)
    if len(value) > _LONGEST:
        value = value[:_LONGEST] + "…"
    if _PLAIN.match(value):
        return value
    # JSON escapes line ends and control characters; U+0085, U+2028 … are escaped after that.
    return _one_line(json.dumps(value, ensure_ascii=False))


def message(job: str, step: str, status: str, values: Mapping[str, Any]) -> str:
    """Return the line of a step, for people and programs. Empty values are left out."""
    words = [f"job={_word(job)}", f"step={_word(step)}", f"status={_word(status)}"]
    words += [f"{key}={_word(values[key])}" for key in values if values[key] not in (None, "", [])]
    return " ".join(words)


def log(_job: str, _step: str, _status: str, **values: Any) -> None:
    """Write the line of a step. status: start, ok, warning or failed. A missing journal never fails a backup."""
    logger = _logger()
    fields = {"SAUVEGARDE_JOB": _job, "SAUVEGARDE_STEP": _step, "SAUVEGARDE_STATUS": _status}
    logger.log(_LEVELS[_status], "%s", message(_job, _step, _status, values), extra={"journal_fields": fields})


def show_debug() -> None:
    """Print every record on standard error, debug lines included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactedFormatter("%(levelname)-7s %(message)s"))
    _logger().addHandler(handler)
    _logger().setLevel(logging.DEBUG)


def collect_debug(verbosity: int) -> list[str]:
    """Return a list that every record is appended to from now on, if Ansible's verbosity is 2 (-vv) or more."""
    lines: list[str] = []
    if verbosity >= 2:
        handler = _ListHandler(lines)
        handler.setFormatter(_RedactedFormatter("%(levelname)s %(message)s"))
        _logger().addHandler(handler)
        _logger().setLevel(logging.DEBUG)
    return lines


def debug_values(lines: list[str]) -> dict[str, list[str]]:
    """Return what a module's result gets of the lines of `collect_debug`: nothing if there are none."""
    return {"debug": lines} if lines else {}


def copy_debug(path: Path) -> None:
    """Append every record from now on to a file, mode 0600, if debug lines are shown or collected in this process.

    A detached run has no standard error, and the module that started it does not wait for its end.
    """
    if logging.getLogger(LOGGER).level == logging.DEBUG:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        path.chmod(0o600)
        handler.setFormatter(_RedactedFormatter("%(asctime)s %(levelname)-7s %(message)s"))
        _logger().addHandler(handler)


def _logger() -> logging.Logger:
    """Return the engine's logger, with its journal handler."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(handler, JournalHandler) for handler in logger.handlers):
        logger.addHandler(JournalHandler(logging.INFO))
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


class _RedactedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _ListHandler(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


class JournalHandler(logging.Handler):
    """Sends records to journald in its native format, or to syslog. Never raises."""

    def emit(self, record: logging.LogRecord) -> None:
        text = _one_line(redact(record.getMessage()))
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        fields: dict[str, str] = getattr(record, "journal_fields", {})
        native = _native(
            [("MESSAGE", text), ("PRIORITY", str(priority)), ("SYSLOG_IDENTIFIER", "sauvegarde"), *fields.items()]
        )
        syslog = f"<{_DAEMON | priority}>sauvegarde: {text}".encode("utf-8", "replace")
        for address, data in ((SOCKET, native), (SYSLOG, syslog)):
            if _send(address, data):
                return


def _native(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return the datagram of a record: NAME=value lines; the length before a value that holds a line end."""
    data = b""
    for name, value in fields:
        encoded = value.encode("utf-8", "replace")
        if b"\n" in encoded:
            data += name.encode("ascii") + b"\n" + struct.pack("<Q", len(encoded)) + encoded + b"\n"
        else:
            data += name.encode("ascii") + b"=" + encoded + b"\n"
    return data


def _send(address: str, data: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.settimeout(2)
            channel.sendto(data, address)
            return True
        except OSError:
            return False
