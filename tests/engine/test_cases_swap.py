"""What is said and kept of a swap when the server fails around it."""

import contextlib
import dataclasses

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import postgres_server
from sauvegarde.restore import restore_state
from sauvegarde.targets import side_database, swap


@pytest.fixture()
def site(cluster):
    cluster.execute("CREATE DATABASE swapped TEMPLATE template0")
    cluster.execute("CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 3)", "swapped")
    yield cluster
    with contextlib.closing(cluster.connect()) as connection:
        for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^swapped'"):
            side_database.drop(connection, name)


@pytest.fixture()
def spec(site, repository):
    job = {"name": "demo", "kind": "pg_dump", "connection": site.values, "database": "swapped"}
    return {
        "connection": site.values,
        "path": str(repository / "demo" / kinds.back_up(job, repository)["id"]),
        "database": "swapped",
        "directory": str(repository.parent / "restores"),
    }


def status(spec, identifier):
    (state,) = (run.values for run in restore_state.runs(spec["directory"], "swapped") if run.id == identifier)
    return state


def refuse_after_the_swap(server, monkeypatch):
    """Let clients take all the slots as soon as the restored database is in place."""
    connect = side_database.maintenance

    def exchange(*arguments, real=swap.exchange):
        result = real(*arguments)

        def refused(_):
            return connect(dataclasses.replace(server, port=1))

        monkeypatch.setattr(side_database, "maintenance", refused)
        return result

    monkeypatch.setattr(swap, "exchange", exchange)


def test_a_swap_whose_notes_cannot_be_read_has_happened(site, spec, monkeypatch):
    done = restores.fill(spec)
    with monkeypatch.context() as patch:
        refuse_after_the_swap(site.server, patch)
        result = restores.swap_in(spec, done["id"])
    (note,) = result["notes"]
    assert "could not be read" in note and "swap is done" in note
    matches = status(spec, done["id"])
    assert matches["status"] == restore_state.SWAPPED and matches["swap"]["kept"] == result["kept"]
    assert restores.roll_back(spec)["restored"] == result["kept"]
    assert status(spec, done["id"])["status"] == restore_state.BACK


def test_an_error_after_the_renames_does_not_hide_them(site, spec, monkeypatch):
    """The connection is lost while COMMIT is on its way."""
    done = restores.fill(spec)

    def exchange(*arguments, real=swap.exchange):
        real(*arguments)
        raise SauvegardeError("The swap of swapped did not happen.", "server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(swap, "exchange", exchange)
        with pytest.raises(SauvegardeError):
            restores.swap_in(spec, done["id"])
    assert status(spec, done["id"])["status"] == restore_state.SWAPPED


def test_a_refused_swap_leaves_the_run_ready(site, spec, monkeypatch):
    done = restores.fill(spec)

    def exchange(*_):
        raise SauvegardeError("The swap of swapped did not happen.")

    with monkeypatch.context() as patch:
        patch.setattr(swap, "exchange", exchange)
        with pytest.raises(SauvegardeError):
            restores.swap_in(spec, done["id"])
    result = status(spec, done["id"])
    assert result["status"] == restore_state.READY and not result["swapped_at"]
    assert restores.swap_in(spec, done["id"])["kept"]


def half_drop(server, name):
    server.execute(f"UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{name}'")


def test_a_half_dropped_side_database_does_not_block_the_next_restore(site, spec):
    left = "swapped__restore_20200101T000000Z"
    site.execute(f'CREATE DATABASE "{left}" TEMPLATE template0')
    half_drop(site, left)
    with contextlib.closing(site.connect()) as connection:
        assert [each.name for each in swap.kept(connection, "swapped")] == [left]
    done = restores.fill(spec)
    assert done["cleaned"] == [left]
    half_drop(site, done["side"])
    with pytest.raises(SauvegardeError, match="interrupted"):
        restores.swap_in(spec, done["id"])
    assert site.execute("SELECT count(*) FROM t", "swapped") == [(3,)]
    assert restores.waiting(spec) is None
    again = restores.fill(dict(spec, jobs=1))
    assert again["cleaned"] == [done["side"]]
    assert restores.swap_in(spec, again["id"])["kept"]
