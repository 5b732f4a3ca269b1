"""Swap a side file in for a live SQLite file, and roll back."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sauvegarde.errors import Locked, SauvegardeError
from sauvegarde.migrate import target_run
from sauvegarde.restore import previous_databases, restore_state, restore_swap
from sauvegarde.targets.sqlite_target import SqliteTarget
from sauvegarde.targets.target_choice import choose_target, label_of

ID, LATER = "20261124T030000Z", "20261124T040000Z"


def make(path, text, mode="DELETE"):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", (text,))


def content(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT x FROM t").fetchone()[0]


@pytest.fixture
def live(tmp_path):
    path = tmp_path / "site's é.sqlite3"
    make(path, "old")
    make(SqliteTarget(str(path)).side_name(ID), "new")
    return str(path)


@pytest.fixture
def target(live):
    return SqliteTarget(live)


def test_side_and_previous_files_are_named_beside_the_live_one():
    side = SqliteTarget("/srv/a very/long/path/" + "x" * 80).side_name(ID)
    assert side.startswith("/srv/a very/long/path/x") and side.endswith("__restore_" + ID)
    assert len(Path(side).name) <= 63
    assert SqliteTarget("/srv/db.sqlite3").label == label_of("/srv/db.sqlite3") == "db.sqlite3"
    assert label_of("el/paso") == "el/paso"


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_swap_and_rollback(tmp_path, mode):
    live = SqliteTarget(str(tmp_path / "db"))
    make(live.path, "old", mode)
    make(live.side_name(ID), "new", mode)
    result = live.swap_in(live.side_name(ID), ID)
    assert content(live.path) == "new" and result.kept == live.previous_name(ID) and content(result.kept) == "old"
    assert [database.id for database in live.kept()] == [ID]
    assert live.roll_back(LATER).restored == live.previous_name(ID)
    assert content(live.path) == "old" and content(live.previous_name(LATER)) == "new"
    assert live.side_databases() == []


def test_the_log_of_a_killed_writer_goes_with_the_previous_file(tmp_path):
    """A WAL that nobody merged into its file goes with the previous file, never with the new one."""
    live = SqliteTarget(str(tmp_path / "db"))
    make(live.path, "old", "WAL")
    make(live.side_name(ID), "new", "WAL")
    code = (
        "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute(\"UPDATE t SET x = 'latest'\")\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, live.database], check=False)
    assert Path(live.database + "-wal").stat().st_size > 0
    result = live.swap_in(live.side_name(ID), ID)
    assert content(live.path) == "new" and content(result.kept) == "latest"


def test_a_writer_in_a_transaction_prevents_the_swap(live, target):
    with contextlib.closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked) as caught:
            target.swap_in(target.side_name(ID), ID, fence=0.2)
        assert "as it was" in caught.value.what
        writer.execute("COMMIT")
    assert content(live) == "old" and target.kept() == [] and content(target.side_name(ID)) == "new"


def test_a_process_that_has_the_previous_file_open_cannot_write_to_it(live, target):
    with contextlib.closing(sqlite3.connect(live, isolation_level=None)) as connection:
        assert connection.execute("SELECT x FROM t").fetchone() == ("old",)
        target.swap_in(target.side_name(ID), ID)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("UPDATE t SET x = 'lost'")
    assert content(live) == "new" and content(target.previous_name(ID)) == "old"


def test_a_swap_killed_between_link_and_rename_is_repeated(live, target):
    os.link(live, target.previous_name(ID))
    assert target.kept() == []  # a second name of the live file is not a previous database
    target.swap_in(target.side_name(ID), LATER)
    assert content(live) == "new"
    assert [database.id for database in target.kept()] == [LATER]
    assert content(target.previous_name(LATER)) == "old"


def test_the_first_swap_has_no_previous_database(tmp_path):
    live = SqliteTarget(str(tmp_path / "db"))
    assert live.live_facts() == {}
    make(live.side_name(ID), "new")
    assert live.swap_in(live.side_name(ID), ID).kept is None
    assert content(live.path) == "new" and live.live_facts()
    with pytest.raises(SauvegardeError, match="nothing to go back to"):
        live.choose_previous()


def test_the_live_facts_follow_the_file_through_a_swap_and_back(target):
    before = target.live_facts()
    target.swap_in(target.side_name(ID), ID)
    assert target.live_facts() not in ({}, before)
    target.roll_back(LATER)
    assert target.live_facts() == before


def test_rollback_and_cleanup_of_a_file(live):
    """As the playbooks call them, by its owner."""
    target = choose_target(live, {}, "/nonexistent")
    target.swap_in(target.side_name(ID), ID)
    assert target.choose_previous() == target.previous_name(ID)
    assert not target.runs_directory.exists(), "a check writes nothing"
    restore_swap.roll_back(target)
    assert content(live) == "old"
    kept = target.kept()[0].name
    with pytest.raises(SauvegardeError, match="not a file kept"):
        previous_databases.remove(target, live)
    assert previous_databases.remove(target, kept) and not Path(kept).exists() and content(live) == "old"


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.restore import restore_state, restore_swap
from sauvegarde.targets.sqlite_target import SqliteTarget
change = restore_state.change
def dying(directory, identifier, **values):
    if values.get("status") == restore_state.SWAPPED:
        os.kill(os.getpid(), signal.SIGKILL)
    change(directory, identifier, **values)
restore_state.change = dying
restore_swap.swap_in(SqliteTarget(sys.argv[2]), sys.argv[3])
"""


def test_a_masked_migration_is_known_as_one_even_if_its_swap_was_killed(tmp_path):
    target = SqliteTarget(str(tmp_path / "db"))
    live = target.path
    make(live, "old")

    def proven(masked):
        reservation = target_run.reserve(target, "/carried", None)
        make(reservation["side"], "new")
        target_run.record_end(target, reservation["id"], restore_state.READY, masked)
        return reservation["id"]

    masked = proven(True)
    engine = str(Path(restore_swap.__file__).parents[2])
    command = [sys.executable, "-c", KILLED, engine, str(live), masked]
    assert subprocess.run(command, check=False).returncode == -9
    assert content(live) == "new" and target_run.is_masked(target)
    written = {path: path.read_bytes() for path in target.runs_directory.rglob("*") if path.is_file()}
    assert target.choose_previous()
    with pytest.raises(SauvegardeError, match="Its state is swapped"):
        restore_swap.proven_run(target, masked)
    assert {path: path.read_bytes() for path in target.runs_directory.rglob("*") if path.is_file()} == written
    unmasked = proven(False)
    assert target_run.is_masked(target)
    restore_swap.swap_in(target, unmasked)
    assert not target_run.is_masked(target)
    restore_swap.roll_back(target)
    assert target_run.is_masked(target)
    restore_swap.roll_back(target)
    assert not target_run.is_masked(target)
    restore_swap.roll_back(target, min(database.name for database in target.kept()))
    assert content(live) == "old" and not target_run.is_masked(target)
