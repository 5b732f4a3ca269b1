"""When jobs run: cron's five fields or a word, and the one file that cron reads.

A word is spread by host and job, so that a fleet does not start at once: daily, weekly and monthly fall between 00:00
and 05:59 of the host's own clock.
"""

import hashlib
import re

from ..errors import SauvegardeError

WORDS = ("hourly", "daily", "weekly", "monthly")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of the week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}


def _spread(seed, size):
    return int(hashlib.sha256(seed.encode("utf-8")).hexdigest(), 16) % size


def expression(schedule, host, job):
    """Cron's five fields for a schedule; words are spread by host and job, and always the same for the same two."""
    seed = f"{host}\0{job}\0"
    if schedule in WORDS:
        minute, hour = _spread(seed + "minute", 60), _spread(seed + "hour", 6)
        return {
            "hourly": f"{minute} * * * *",
            "daily": f"{minute} {hour} * * *",
            "weekly": "{} {} * * {}".format(minute, hour, _spread(seed + "weekday", 7)),
            "monthly": "{} {} {} * *".format(minute, hour, 1 + _spread(seed + "day", 28)),
        }[schedule]
    return check(schedule)


def check(schedule):
    """A cron expression, its blanks made single; anything that cron would refuse or eat is refused here."""
    fields = str(schedule).split()
    if len(fields) != len(_FIELDS) or "\n" in str(schedule).strip():
        raise _wrong(schedule, f"It has {len(fields)} fields, not 5.")
    for text, (name, low, high) in zip(fields, _FIELDS):
        for part in text.split(","):
            _part(schedule, part, name, low, high)
    return " ".join(fields)


def _part(schedule, part, name, low, high):
    found = re.match(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?\Z", part)
    if found is None:
        raise _wrong(schedule, f"{part!r} is no {name}.")
    first, last, step = found.groups()
    numbers = [_number(schedule, word, name, low, high) for word in (first, last) if word is not None]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise _wrong(schedule, f"{part!r} goes backwards.")
    if step is not None and (int(step) == 0 or (first is not None and last is None)):
        raise _wrong(schedule, f"{part!r} has a step that cron does not take.")


def _number(schedule, word, name, low, high):
    names = _NAMES.get(name, [])
    if word.lower() in names:
        return low + names.index(word.lower())
    if not re.match(r"[0-9]{1,2}\Z", word) or not low <= int(word) <= high:
        raise _wrong(schedule, f"{word!r} is no {name} between {low} and {high}.")
    return int(word)


def _wrong(schedule, why):
    return SauvegardeError(
        f"The schedule {schedule!r} is not one that cron understands.",
        why,
        "Use five fields as crontab(5) has them (15 2 * * *), or one of {}.".format(", ".join(WORDS)),
    )


def _plain(text, what):
    """A value for a line of cron's file: no line end, no blank, nothing that cron or sh would take for its own."""
    if not re.match(r"[A-Za-z0-9_/.:@+=,-]+\Z", text):
        raise SauvegardeError(f"{what} cannot stand in a cron file: {text!r}.")
    return text


def crontab(entries, host, launcher, python="/usr/bin/python3", mailto="root", header=()):
    """The text of the file in /etc/cron.d. Root starts every line: the launcher goes on as the user of the job.

    entries: {job, schedule, action} each; action is the launcher's own word (`run` for a backup).
    mailto: where cron sends what a failing job says; empty for nowhere.
    """
    lines = ["# " + line for line in header]
    # what a host's own settings would change is pinned. A percent sign, which ends a command, is never let in.
    lines += [
        "SHELL=/bin/sh",
        f"PATH={PATH}",
        "LC_ALL=C.UTF-8",
        "MAILTO={}".format(_plain(mailto, "The mail address") if mailto else '""'),
        "",
    ]
    for entry in entries:
        command = "umask 077; exec {} -I {} {} {}".format(
            _plain(python, "The path of Python"),
            _plain(launcher, "The path of the engine"),
            _plain(entry["action"], "The action"),
            _plain(entry["job"], "The job's name"),
        )
        when = expression(entry["schedule"], host, entry["job"])
        lines.append(f"{when} root {command}")
    return "\n".join(lines) + "\n"
