"""What is carried out is the plan that was confirmed. No server."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import target_run
from sauvegarde.restore import restore_state, restore_swap
from sauvegarde.restore.plan_mark import PlanMark, digest
from sauvegarde.targets.sqlite_target import SqliteTarget

MARK = PlanMark(*(digest(part) for part in ("source", "target", "live", "blockers")))


def test_a_mark_survives_as_text():
    assert PlanMark.from_text(f" {MARK}\n") == MARK


@pytest.mark.parametrize("text", ["yes", str(MARK)[:-1], f"{MARK}-{digest('more')}"])
def test_anything_else_is_not_a_mark(text):
    with pytest.raises(SauvegardeError, match="is not the mark of a plan") as caught:
        PlanMark.from_text(text)
    assert caught.value.fix


@pytest.mark.parametrize(
    "part, words",
    [("source", "the archive"), ("target", "the target"), ("live", "the live database"), ("blockers", "what stops it")],
)
def test_what_changed_is_named(part, words):
    MARK.require(MARK)
    with pytest.raises(SauvegardeError) as caught:
        MARK.require(replace(MARK, **{part: digest("other")}))
    assert words in caught.value.what and "--tags plan" in caught.value.fix
    others = [other for other in ("source", "target", "live", "blockers") if other != part]
    MARK.require(replace(MARK, **{part: digest("other")}), others)


def make(path, text):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", (text,))


def content(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT x FROM t").fetchone()[0]


@pytest.fixture
def target(tmp_path):
    target = SqliteTarget(str(tmp_path / "db"))
    make(target.path, "old")
    return target


def migrated(target, mark):
    """A proven side database whose run was confirmed by this mark."""
    reservation = target_run.reserve(target, "/carried", None)
    make(reservation["side"], "new")
    target_run.record_end(target, reservation["id"], restore_state.READY, False, str(mark))
    return reservation["id"]


def test_a_swap_of_the_confirmed_plan_goes_on_while_the_site_writes(target):
    mark = replace(MARK, live=digest(target.live_facts()))
    run = migrated(target, mark)
    with contextlib.closing(sqlite3.connect(target.path, isolation_level=None)) as connection:
        connection.execute("UPDATE t SET x = 'newer'")
    restore_swap.swap_in(target, run, confirmed=mark)
    assert content(target.path) == "new"


def test_a_swap_over_another_live_database_is_refused(target):
    mark = replace(MARK, live=digest(target.live_facts()))
    run = migrated(target, mark)
    deployed = Path(target.database + ".deployed")
    make(deployed, "deployed")
    deployed.replace(target.database)
    with pytest.raises(SauvegardeError, match="changed since: the live database"):
        restore_swap.swap_in(target, run, confirmed=mark)
    assert content(target.path) == "deployed" and restore_swap.proven_run(target, run).status == restore_state.READY
    # Read again and confirmed again, it is put in place.
    restore_swap.swap_in(target, run, confirmed=replace(mark, live=digest(target.live_facts())))
    assert content(target.path) == "new"


def test_a_swap_of_another_plan_s_run_is_refused(target):
    mark = replace(MARK, live=digest(target.live_facts()))
    run = migrated(target, replace(mark, source=digest("another archive")))
    with pytest.raises(SauvegardeError, match="changed since: the archive"):
        restore_swap.swap_in(target, run, confirmed=mark)
    assert content(target.path) == "old"
    restore_swap.swap_in(target, run)  # without a mark, as before
    assert content(target.path) == "new"
