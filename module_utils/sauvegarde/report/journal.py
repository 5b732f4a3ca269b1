"""One structured line a step in the system's journal, without a library; syslog where there is no journal.

Fields: MESSAGE (`job=… step=… status=… key=value …`, values as JSON where they are not plain words), PRIORITY,
SYSLOG_IDENTIFIER=sauvegarde, SAUVEGARDE_JOB, SAUVEGARDE_STEP, SAUVEGARDE_STATUS.
Whatever a value holds, the line stays one line, and passwords in addresses are left out.
"""

import json
import re
import socket
import struct

SOCKET = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_PRIORITIES = {"start": 6, "ok": 6, "warning": 4, "failed": 3}
_LONGEST = 6000  # characters of a value; far below what a datagram holds
_PLAIN = re.compile(r"[A-Za-z0-9_./:+@-]+\Z")
_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]{0,20}://[^/@:\s]{0,200}):[^/@\s]{0,1000}@", re.IGNORECASE)


def redact(text):
    """The text without the passwords of the addresses (scheme://user:password@…) in it."""
    return _PASSWORD.sub(r"\g<before>:***@", text)


def _word(value):
    if isinstance(value, float):
        value = round(value, 3)
    if not isinstance(value, str):
        return json.dumps(value)
    value = redact(value)
    if len(value) > _LONGEST:
        value = value[:_LONGEST] + "…"
    if _PLAIN.match(value):
        return value
    # JSON escapes line ends and control characters; what is left of those (U+0085, U+2028 …) is escaped here.
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in quoted)


def message(job, step, status, values):
    """The line as people and programs read it."""
    words = [f"job={_word(job)}", f"step={_word(step)}", f"status={_word(status)}"]
    words += [f"{key}={_word(values[key])}" for key in values if values[key] not in (None, "", [])]
    return " ".join(words)


def _fields(fields):
    data = b""
    for name, value in fields:
        encoded = value.encode("utf-8", "replace")
        if b"\n" in encoded:
            data += name.encode("ascii") + b"\n" + struct.pack("<Q", len(encoded)) + encoded + b"\n"
        else:
            data += name.encode("ascii") + b"=" + encoded + b"\n"
    return data


def log(_job, _step, _status, **values):
    """Write one line. status: start, ok, warning or failed. A journal that is not there fails no backup."""
    text = message(_job, _step, _status, values)
    priority = _PRIORITIES[_status]
    native = _fields(
        [
            ("MESSAGE", text),
            ("PRIORITY", str(priority)),
            ("SYSLOG_IDENTIFIER", "sauvegarde"),
            ("SAUVEGARDE_JOB", _job),
            ("SAUVEGARDE_STEP", _step),
            ("SAUVEGARDE_STATUS", _status),
        ]
    )
    daemon = 3 << 3
    syslog = f"<{daemon | priority}>sauvegarde: {text}".encode("utf-8", "replace")
    for address, data in ((SOCKET, native), (SYSLOG, syslog)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            try:
                channel.settimeout(2)
                channel.sendto(data, address)
                return
            except OSError:
                continue
