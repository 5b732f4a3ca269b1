"""Compute when cron last started a schedule, by the host's own clock."""

from __future__ import annotations

import datetime
import re
import time
from pathlib import Path

from . import schedule

CRON_FILE = "/etc/cron.d/sauvegarde"
_LINE = re.compile(r"((?:\S+ ){5})root .*\b(?P<action>run|forget) (?P<job>\S+)\Z")
_MOST_DAYS = 366 * 5  # the 29th of February comes within that time, except around 2100
_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def schedules(cron_file: str | Path = CRON_FILE, action: str = "run") -> dict[str, str]:
    """Return cron's five fields of each job in the role's cron file; none where the file cannot be read."""
    try:
        lines = Path(cron_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    matches = filter(None, map(_LINE.match, lines))
    return {match["job"]: match[1].strip() for match in matches if match["action"] == action}


def _number(word: str) -> int:
    return schedule.NUMBERS[word.lower()] if word.lower() in schedule.NUMBERS else int(word)


def _numbers(text: str, low: int, high: int) -> set[int]:
    """Return the numbers that a field of a cron expression stands for."""
    numbers: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (_number(first), _number(last or first))
        numbers.update(range(start, end + 1, int(step or 1)))
    return numbers


def last_due(expression: str, before: float) -> float | None:
    """Return the last time at or before `before` (seconds since the epoch) at which cron starts an expression.

    None if there is none within five years. Raises SauvegardeError for an expression that cron does not understand.
    """
    texts = schedule.check(expression).split()
    minutes, hours, days, months, weekdays = (_numbers(text, *limits) for text, limits in zip(texts, _LIMITS))
    weekdays |= {0} if 7 in weekdays else set()
    # crontab(5): if both days are restricted, either is enough.
    is_either = not texts[2].startswith("*") and not texts[4].startswith("*")
    day = datetime.date.fromtimestamp(before)
    for _ in range(_MOST_DAYS):
        fits = (day.day in days, day.isoweekday() % 7 in weekdays)
        if day.month in months and (any(fits) if is_either else all(fits)):
            for hour in sorted(hours, reverse=True):
                for minute in sorted(minutes, reverse=True):
                    moment = time.mktime((day.year, day.month, day.day, hour, minute, 0, 0, 0, -1))
                    if moment <= before:
                        return moment
        day -= datetime.timedelta(days=1)
    return None
