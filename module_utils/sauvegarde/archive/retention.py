"""Decide which archives of a job stay, and why: the newest ones, and one of each day, week, month and year.

A rule keeps the newest archive of each of its last N periods that have one, so that days without a backup do not use
the rule up. Periods are in UTC, as the ids are. Only complete archives count, the newest of them stays whatever the
policy, and nothing is removed while one archive is damaged.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..errors import Damaged, SauvegardeError
from . import ids

RULES = ("last", "daily", "weekly", "monthly", "yearly")
_AHEAD = 86400  # seconds that a clock may be put forward, and back again, without a word


@dataclass(frozen=True)
class RetentionPolicy:
    """How many archives each rule keeps. minimum: archives that stay although no rule keeps them; at least 1."""

    last: int = 3
    daily: int = 7
    weekly: int = 4
    monthly: int = 12
    yearly: int = 0
    minimum: int = 1

    @classmethod
    def from_values(cls, values: Mapping[str, Any] | None) -> RetentionPolicy:
        """Return the policy of a user's numbers by rule: 0 for a rule that is not named, the defaults for None.

        Raises SauvegardeError for unknown rules and anything but whole numbers.
        """
        if values is None:
            return cls()
        names = [field.name for field in fields(cls)]
        for name, count in values.items():
            if name not in names:
                raise SauvegardeError(
                    f"Retention has no rule named {name!r}.", fix="Use {} and minimum.".format(", ".join(RULES))
                )
            least = 1 if name == "minimum" else 0
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise SauvegardeError(f"Retention's {name} is {count!r}.", fix=f"Give a whole number, {least} or more.")
        return cls(**{**dict.fromkeys(RULES, 0), **values})


@dataclass(frozen=True)
class Decision:
    """Whether an archive stays; `why` names every rule that keeps it, or says that none does."""

    id: str
    keep: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a result."""
        return asdict(self)


def _period(rule: str, identifier: str) -> str:
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


def plan(identifiers: Iterable[str], policy: RetentionPolicy) -> list[Decision]:
    """Return what happens to each of these complete archives, newest first."""
    newest_first = sorted(set(identifiers), reverse=True)
    reasons: dict[str, list[str]] = {identifier: [] for identifier in newest_first}
    for rule in RULES:
        periods: list[str] = []
        limit = getattr(policy, rule)
        for identifier in newest_first:
            period = _period(rule, identifier)
            if period not in periods:
                if len(periods) == limit:
                    break
                periods.append(period)
                count = f"{len(periods)} of {limit}"
                reasons[identifier].append(f"{rule} {count}" if rule == "last" else f"{rule} {period}, {count}")
    if newest_first and not reasons[newest_first[0]]:
        reasons[newest_first[0]].append("the newest one")
    kept = sum(1 for identifier in newest_first if reasons[identifier])
    for identifier in newest_first:
        if kept < policy.minimum and not reasons[identifier]:
            reasons[identifier].append(f"minimum of {policy.minimum}")
            kept += 1
    return [
        Decision(identifier, bool(reasons[identifier]), "; ".join(reasons[identifier]) or "no rule keeps it")
        for identifier in newest_first
    ]


def plan_groups(groups: Mapping[str, str], policy: RetentionPolicy) -> list[Decision]:
    """Return what happens to complete archives, newest first; the policy counts those of each group by themselves.

    groups: for each id the name of its group, a database. With several groups, `why` begins with the name.
    """
    members: dict[str, list[str]] = {}
    for identifier, group in groups.items():
        members.setdefault(group, []).append(identifier)
    decisions = []
    for group, identifiers in members.items():
        prefix = f"{group}: " if len(members) > 1 else ""
        decisions += [replace(decision, why=prefix + decision.why) for decision in plan(identifiers, policy)]
    return sorted(decisions, key=lambda decision: decision.id, reverse=True)


def future_ids(identifiers: Iterable[str]) -> list[str]:
    """Return the ids, in their order, that are more than a day ahead of this host's clock."""
    now = ids.format_id(time.time() + _AHEAD)
    return [identifier for identifier in identifiers if identifier > now]


def refuse_future(identifiers: Iterable[str], where: object) -> None:
    """Raise SauvegardeError if archives from the future are among these.

    While they are the newest, periods are counted from them: every archive that is created before their time would fall
    into one period, and push the good ones out of the others.
    """
    ahead = future_ids(identifiers)
    if ahead:
        raise SauvegardeError(
            f"Nothing is removed from {where}: archives from the future are in it.",
            ", ".join(ahead),
            "The clock was wrong, or an attacker wants to displace good archives. Set the clock right, inspect these "
            "archives, move them elsewhere or remove them by name, then run the job.",
        )


def refuse_damaged(problems: Mapping[str, str], where: object) -> None:
    """Raise Damaged if a repository holds damaged archives: nothing is pruned beside them. problems: by id, what is
    wrong with each of these."""
    if problems:
        raise Damaged(
            f"Nothing is removed from {where}, because it holds damaged archives: " + ", ".join(problems) + ".",
            "\n".join(problems.values()),
            "Find out what happened to the disk. `verify` sets damaged archives aside by name, after which retention "
            "goes on with the good ones.",
        )
