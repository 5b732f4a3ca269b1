"""Check schedules and write the cron file of the jobs.

A schedule is cron's five fields or a word. A word's time depends on the host and the job, so that a fleet does not
start all at once: daily, weekly and monthly fall between 00:00 and 05:59 of the host's own clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import SauvegardeError

WORDS = ("hourly", "daily", "weekly", "monthly")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = field(default=())  # words for `low`, `low` + 1 …


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)

NUMBERS = {name: entry.low + place for entry in _FIELDS for place, name in enumerate(entry.names)}  # jan: 1, sun: 0


def _spread(seed: str, size: int) -> int:
    return int(hashlib.sha256(seed.encode("utf-8")).hexdigest(), 16) % size


def expression(schedule: str, host: str, job: str) -> str:
    """Return cron's five fields for a schedule; words are spread by host and job, and always the same for both."""
    seed = f"{host}\0{job}\0"
    if schedule in WORDS:
        minute, hour = _spread(seed + "minute", 60), _spread(seed + "hour", 6)
        return {
            "hourly": f"{minute} * * * *",
            "daily": f"{minute} {hour} * * *",
            "weekly": f"{minute} {hour} * * {_spread(seed + 'weekday', 7)}",
            "monthly": f"{minute} {hour} {1 + _spread(seed + 'day', 28)} * *",
        }[schedule]
    return check(schedule)


def check(schedule: str) -> str:
    """Return a cron expression with single blanks. Raises if cron would refuse or misread it."""
    fields = str(schedule).split()
    if len(fields) != len(_FIELDS) or "\n" in str(schedule).strip():
        raise _error(schedule, f"It has {len(fields)} fields, not 5.")
    for text, definition in zip(fields, _FIELDS):
        for part in text.split(","):
            _check_part(schedule, part, definition)
    return " ".join(fields)


def _check_part(schedule: str, part: str, definition: _Field) -> None:
    match = re.match(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?\Z", part)
    if match is None:
        raise _error(schedule, f"{part!r} is no {definition.name}.")
    first, last, step = match.groups()
    numbers = [_number(schedule, word, definition) for word in (first, last) if word is not None]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise _error(schedule, f"{part!r} goes backwards.")
    if step is not None and (int(step) == 0 or (first is not None and last is None)):
        raise _error(schedule, f"{part!r} has a step that cron does not take.")


def _number(schedule: str, word: str, definition: _Field) -> int:
    if word.lower() in definition.names:
        return definition.low + definition.names.index(word.lower())
    if not re.match(r"[0-9]{1,2}\Z", word) or not definition.low <= int(word) <= definition.high:
        raise _error(schedule, f"{word!r} is no {definition.name} between {definition.low} and {definition.high}.")
    return int(word)


def _error(schedule: str, why: str) -> SauvegardeError:
    return SauvegardeError(
        f"cron does not understand the schedule {schedule!r}.",
        why,
        f"Use five fields as in crontab(5) (15 2 * * *), or one of {', '.join(WORDS)}.",
    )


def _plain_word(text: str, name: str) -> str:
    """Return a word for a line of cron's file. Raises if cron or sh would interpret it: a line end, a blank, a percent
    sign (which ends a command for cron)."""
    if not re.match(r"[A-Za-z0-9_/.:@+=,-]+\Z", text):
        raise SauvegardeError(f"{name} cannot be written to a cron file: {text!r}.")
    return text


def crontab(
    entries: Sequence[Mapping[str, str]],
    host: str,
    command: str,
    mailto: str = "root",
    header: Iterable[str] = (),
) -> str:
    """Return the text of the file in /etc/cron.d. Root starts every line; the command continues as the job's user.

    entries: {job, schedule, action} each; action is a subcommand of the host's command (`run` for a backup).
    mailto: where cron sends the output of a failed job; empty for nowhere.
    """
    lines = ["# " + line for line in header]
    # Set everything that a host's own settings could change.
    lines += [
        "SHELL=/bin/sh",
        f"PATH={PATH}",
        "LC_ALL=C.UTF-8",
        "MAILTO={}".format(_plain_word(mailto, "The mail address") if mailto else '""'),
        "",
    ]
    for entry in entries:
        words = (
            _plain_word(command, "The path of the command"),
            _plain_word(entry["action"], "The action"),
            _plain_word(entry["job"], "The job's name"),
        )
        fields = expression(entry["schedule"], host, entry["job"])
        lines.append(f"{fields} root umask 077; exec {' '.join(words)}")
    return "\n".join(lines) + "\n"
