"""Which databases the `databases` and `exclude` of a job choose."""

from __future__ import annotations

import pytest
from sauvegarde.archive import retention
from sauvegarde.archive.retention import RetentionPolicy
from sauvegarde.config import Job
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres.database_selection import DatabaseSelection, ServerDatabase, escape, literal_name

ODD = [
    "all",
    "a*b",
    "[x]",
    "what?",
    "Ünï",
    "sp ace",
    "do.t",
    "qu\"o'te",
    "a,b",
    "line\nend",
    "]",
    "[",
    "a]b[",
    "%s",
    "-x",
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_addressed_by_its_escape_alone(name):
    pattern = escape(name)
    assert literal_name(pattern) == name
    choice = DatabaseSelection((pattern,)).choose([ServerDatabase(other) for other in [*ODD, "aXb", "x", "whatx"]])
    assert choice.names == (name,) and choice.missing == ()


@pytest.mark.parametrize("pattern", ["all", "*", "a?", "[ab]c", "[!a]", "[a-c]"])
def test_a_pattern_names_no_single_database(pattern):
    assert literal_name(pattern) is None


def test_patterns_leave_out_what_is_no_ordinary_database():
    side, previous = "shop__restore_20260101T000000Z", "shop__before_20260101T000000Z"
    databases = [
        ServerDatabase("shop"),
        ServerDatabase("Shop"),
        ServerDatabase("template1", is_template=True),
        ServerDatabase("shut", accepts_connections=False),
        ServerDatabase("half", half_dropped=True),
        ServerDatabase(side),
        ServerDatabase(previous),
        ServerDatabase("scratch"),
    ]
    choice = DatabaseSelection(("all",), ("scr*",)).choose(databases)
    assert choice.names == ("shop", "Shop")
    assert choice.left_out == {
        "template1": "a template",
        "shut": "it accepts no connections",
        "half": "an interrupted DROP DATABASE left it",
        side: "the side database of a restore",
        previous: "the previous database of a swap",
        "scratch": "excluded by scr*",
    }
    choice = DatabaseSelection((previous, "template1", "absent", "s*p")).choose(databases)
    assert choice.names == ("shop", "template1", previous) and choice.missing == ("absent",)
    assert choice.left_out == {}


def job(**values):
    whole = {"name": "every", "kind": "pg_dump", "user": "root", "host": "db1", "root": "/a", "state": "/s", **values}
    return Job.from_values(whole)


def test_one_text_stands_for_a_list_of_it():
    assert job(databases="all").selection == DatabaseSelection(("all",))
    assert job(databases=["a", 7], exclude=["b"]).selection == DatabaseSelection(("a", "7"), ("b",))
    assert job(database="a").selection is None and "databases" not in job(databases=["a"]).kind_values("a")
    assert job(databases=["a*"]).kind_values("ab") == {"name": "every", "kind": "pg_dump", "database": "ab"}


@pytest.mark.parametrize(
    "values",
    [
        {"databases": ["a"], "database": "a"},
        {"databases": ["a"], "kind": "globals"},
        {"database": "a", "exclude": ["b"]},
        {"databases": ["a", "b"], "exclude": ["?"]},
        {"databases": [""]},
        {"databases": [["a"]]},
        {"databases": {"a": "b"}},
    ],
)
def test_settings_that_contradict_each_other_are_refused(values):
    with pytest.raises(SauvegardeError):
        job(**values)


def test_retention_counts_each_database_by_itself():
    dates = {f"202601{day:02d}T000000Z": "shop" if day > 2 else "crm" for day in range(1, 7)}
    decisions = retention.plan_groups(dates, RetentionPolicy.from_values({"last": 1}))
    assert [decision.id for decision in decisions] == sorted(dates, reverse=True)
    assert [decision.id[6:8] for decision in decisions if decision.keep] == ["06", "02"]
    assert decisions[0].why == "shop: last 1 of 1"
    alone = retention.plan_groups({"20260101T000000Z": "shop"}, RetentionPolicy())
    assert alone == retention.plan(["20260101T000000Z"], RetentionPolicy())
