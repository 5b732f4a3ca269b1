"""Retention: what stays, what goes, and that the newest good archive always stays."""

import datetime
import random

import pytest
from sauvegarde.archive import retention
from sauvegarde.errors import Damaged, SauvegardeError

START = datetime.datetime(2026, 1, 1, 2, 0, 0)


def labels(days, start=START, step=datetime.timedelta(days=1)):
    return [(start + number * step).strftime("%Y%m%dT%H%M%SZ") for number in range(days)]


def decide(names, policy):
    return retention.plan(names, retention.RetentionPolicy.from_values(policy))


def kept(names, policy):
    return {decision.id for decision in decide(names, policy) if decision.keep}


def test_last_and_daily_by_hand():
    hourly = labels(48, step=datetime.timedelta(hours=1))
    assert kept(hourly, {"last": 2, "daily": 2}) == {"20260103T010000Z", "20260103T000000Z", "20260102T230000Z"}


def test_weeks_months_and_years_by_hand():
    daily = labels(400)  # until 2027-02-04, a Thursday
    assert kept(daily, {"weekly": 2}) == {"20270204T020000Z", "20270131T020000Z"}
    assert kept(daily, {"monthly": 3}) == {"20270204T020000Z", "20270131T020000Z", "20261231T020000Z"}
    assert kept(daily, {"yearly": 5}) == {"20270204T020000Z", "20261231T020000Z"}


def test_the_year_of_a_week_is_the_calendars_own():
    # 2026-12-28 to 2027-01-03 are one ISO week.
    names = ["20261228T000000Z", "20270103T000000Z"]
    assert kept(names, {"weekly": 2}) == {"20270103T000000Z"}


def test_every_line_says_why():
    decisions = decide(labels(10), {"last": 1, "weekly": 1})
    assert decisions[0].why == "last 1 of 1; weekly 2026-W02, 1 of 1"
    assert {decision.why for decision in decisions if not decision.keep} == {"no rule keeps it"}


def test_a_policy_of_zeros_keeps_the_minimum():
    assert kept(labels(5), {"minimum": 2}) == set(labels(5)[-2:])
    assert kept(labels(5), {}) == set(labels(5)[-1:])


def test_a_week_of_failures_costs_nothing():
    """Fault 4: rules count archives that exist, so days that left none push no good archive out."""
    policy = {"last": 1, "daily": 7}
    before = kept(labels(14), policy)
    late = [*labels(14), "20260121T020000Z"]  # a week without an archive, then one
    assert before - kept(late, policy) == {min(before)}


def test_anything_kept_stays_kept_until_something_newer_comes():
    chance = random.Random(4)
    for _ in range(300):
        policy = {name: chance.randrange(5) for name in retention.RULES}
        policy["minimum"] = chance.randrange(1, 4)
        names = set(labels(chance.randrange(1, 200), step=datetime.timedelta(hours=chance.choice([1, 7, 24, 100]))))
        names = set(chance.sample(sorted(names), chance.randrange(1, len(names) + 1)))
        stay = kept(names, policy)
        assert max(names) in stay
        assert len(stay) >= min(len(names), policy["minimum"])
        assert kept(stay, policy) == stay, "a second pruning removes nothing more"
        assert len(stay) <= max(sum(policy.values()), 1)


@pytest.mark.parametrize(
    "policy", [{"minimum": 0}, {"daily": -1}, {"daily": "7"}, {"daily": True}, {"dayly": 7}, {"last": 1.5}]
)
def test_a_wrong_policy_is_refused(policy):
    with pytest.raises(SauvegardeError):
        retention.RetentionPolicy.from_values(policy)


def test_a_damaged_repository_is_not_pruned():
    with pytest.raises(SauvegardeError) as caught:
        retention.refuse_damaged({"b": "x is gone"}, "/srv/x")
    assert caught.value.exit_code == Damaged.exit_code and "x is gone" in caught.value.why and "b" in caught.value.what
    retention.refuse_damaged({}, "/srv/x")
