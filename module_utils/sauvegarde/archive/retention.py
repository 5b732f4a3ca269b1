"""Retention: which archives of a job stay, grandfather-father-son, and why. Plain values in, plain values out.

A rule keeps the newest archive of each of its last N periods that have one, so that days without a backup do not use
the rule up. Periods are UTC's, as the labels are. Only archives that are known to be whole count, the newest of them
stays whatever the settings, and nothing goes while one archive is damaged.
"""

import time

from ..errors import Damaged, SauvegardeError
from . import ids

RULES = ("last", "daily", "weekly", "monthly", "yearly")
DEFAULT = {"last": 3, "daily": 7, "weekly": 4, "monthly": 12, "yearly": 0, "minimum": 1}
_AHEAD = 86400  # seconds that a clock may be put forward, and back again, without a word


def policy(values=None):
    """A whole policy from what a user gave: numbers of archives by rule; unknown rules and other values are refused.

    minimum: archives that stay although no rule wants them; at least 1.
    """
    whole = dict(DEFAULT) if values is None else dict(dict.fromkeys(RULES, 0), minimum=1)
    for name, count in (values or {}).items():
        if name not in DEFAULT:
            raise SauvegardeError(
                f"Retention has no rule named {name!r}.", fix="Use {} and minimum.".format(", ".join(RULES))
            )
        least = 1 if name == "minimum" else 0
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise SauvegardeError(f"Retention's {name} is {count!r}.", fix=f"Give a whole number, {least} or more.")
        whole[name] = count
    return whole


def _period(rule, identifier):
    moment = ids.parse_id(identifier)
    if rule == "daily":
        return moment.strftime("%Y-%m-%d")
    if rule == "weekly":
        year, week, _ = moment.isocalendar()
        return f"{year}-W{week:02d}"
    if rule == "monthly":
        return moment.strftime("%Y-%m")
    if rule == "yearly":
        return moment.strftime("%Y")
    return identifier


def plan(labels, values=None):
    """What stays and what goes of whole archives' labels: a list, newest first, of {id, keep, why}.

    `why` says every rule that keeps it, or that none does.
    """
    rules = policy(values)
    newest_first = sorted(set(labels), reverse=True)
    reasons = {each: [] for each in newest_first}
    for rule in RULES:
        seen = []
        for each in newest_first:
            period = _period(rule, each)
            if period not in seen:
                if len(seen) == rules[rule]:
                    break
                seen.append(period)
                where = f"{len(seen)} of {rules[rule]}"
                reasons[each].append(f"{rule} {where}" if rule == "last" else f"{rule} {period}, {where}")
    if newest_first and not reasons[newest_first[0]]:
        reasons[newest_first[0]].append("the newest one")
    kept = sum(1 for each in newest_first if reasons[each])
    for each in newest_first:
        if kept < rules["minimum"] and not reasons[each]:
            reasons[each].append("minimum of {}".format(rules["minimum"]))
            kept += 1
    return [
        {"id": each, "keep": bool(reasons[each]), "why": "; ".join(reasons[each]) or "no rule keeps it"}
        for each in newest_first
    ]


def from_the_future(labels):
    """The labels, in their order, that are more than a day ahead of this host's clock."""
    now = ids.format_id(time.time() + _AHEAD)
    return [each for each in labels if each > now]


def refuse_future(labels, where):
    """Raise when archives from the future are among these labels. While they are the newest, periods are counted from
    them: all that is made before their time comes would fall into one period, and the good ones out of the others.
    """
    ahead = from_the_future(labels)
    if ahead:
        raise SauvegardeError(
            f"Nothing is removed from {where}: archives from the future are in it.",
            ", ".join(ahead),
            "The clock went wrong, or somebody wants the good ones pushed out. Set the clock right, look at these "
            "archives, move them elsewhere or remove them by name, and run the job.",
        )


def refuse_damaged(entries, where):
    """Raise when one of a repository's entries ({id, verified, problem}) is damaged: nothing is pruned beside it."""
    damaged = [entry for entry in entries if not entry["verified"]]
    if damaged:
        raise Damaged(
            f"Nothing is removed from {where}, because it holds damaged archives: "
            + ", ".join(entry["id"] for entry in damaged)
            + ".",
            "\n".join(entry["problem"] for entry in damaged),
            "Find out what happened to the disk. `verify` sets damaged archives aside by name, after which retention "
            "goes on with the good ones.",
        )
