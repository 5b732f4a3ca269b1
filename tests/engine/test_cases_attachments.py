"""What is tied to a database beside its content: a swap says what becomes of it, and a clean-up does not stop there."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import restores
from conftest import ENGINE, running, wait_until
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import attachments, postgres_server, sql_names
from sauvegarde.restore import pg_cron, recovery, restore_state
from sauvegarde.targets import side_database, swap

DATA = (
    "CREATE TABLE offers (id int PRIMARY KEY, title text);"
    " INSERT INTO offers SELECT i, 'é' || i FROM generate_series(1, 9) i"
)
PG_CRON = "SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = 'pg_cron'"


@pytest.fixture(scope="module")
def logical():
    """A server that publishes and subscribes, with pg_cron's scheduler where the extension is installed."""
    with running() as server:
        with (server.data / "postgresql.conf").open("a") as settings:
            settings.write("wal_level = logical\n")
            if server.execute(PG_CRON):
                settings.write("shared_preload_libraries = 'pg_cron'\ncron.database_name = 'scheduled'\n")
        server.stop()
        server.start()
        yield server


@pytest.fixture()
def live(logical):
    """A database `live` with rows, and a publication of them."""
    logical.execute("CREATE DATABASE live TEMPLATE template0")
    logical.execute(DATA, "live")
    logical.execute("CREATE PUBLICATION offers FOR TABLE offers", "live")
    yield logical
    with contextlib.closing(logical.connect()) as connection:
        for (slot,) in postgres_server.query(connection, "SELECT slot_name FROM pg_replication_slots WHERE NOT active"):
            postgres_server.execute(connection, "SELECT pg_drop_replication_slot(%s)", (slot,))
        result = "SELECT datname FROM pg_database WHERE datname ~ '^(live|scheduled)'"
        for (name,) in postgres_server.query(connection, result):
            side_database.drop(connection, name)


@pytest.fixture()
def spec(live, repository):
    """The specification of a restore of `live` from an archive of it."""

    def back_up(database="live"):
        job = {"name": "demo", "kind": "pg_dump", "connection": live.values, "database": database}
        archive = kinds.back_up(job, repository)
        return {
            "connection": live.values,
            "path": str(repository / "demo" / archive["id"]),
            "database": database,
            "directory": str(repository.parent / "restores"),
        }

    return back_up


def rows(server, database):
    return server.execute("SELECT count(*), min(title), max(title) FROM offers", database)


def subscribe(server, database, slot="NONE"):
    """A disabled subscription in a database; to no server that answers, since one cannot be its own publisher."""
    server.execute(
        "CREATE SUBSCRIPTION receiver CONNECTION 'host=/nonexistent dbname=x' PUBLICATION offers"
        f" WITH (connect = false, enabled = false, slot_name = {slot})",
        database,
    )


def test_side_database_with_a_subscription_is_removed_by_the_next_run(live, spec):
    subscribe(live, "live", "'wanted'")
    request = spec()
    first = restores.fill(request)
    second = restores.fill(dict(request, jobs=1))
    recovery.clean(restores.target(request), own=second["id"])
    with contextlib.closing(live.connect()) as connection:
        assert side_database.drop(connection, first["side"]) is True
        assert side_database.drop(connection, second["side"]) is True
    assert live.execute("SELECT subname FROM pg_subscription") == [("receiver",)]  # the live one's
    live.execute("ALTER SUBSCRIPTION receiver SET (slot_name = NONE); DROP SUBSCRIPTION receiver", "live")


def test_slot_is_in_the_plan_and_in_the_report(live, spec):
    live.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')", "live")
    request = spec()
    planned = restores.plan(request)
    (warning,) = [each for each in planned["warnings"] if "slot reader" in each["what"]]
    assert "pg_drop_replication_slot('reader')" in warning["fix"]
    result = restores.swap_in(request, restores.fill(request)["id"])
    assert any("slot reader" in line and "pg_drop_replication_slot" in line for line in result["lines"])
    # What was said is true: the slot went along with the previous database.
    assert live.execute("SELECT database FROM pg_replication_slots") == [(result["kept"],)]
    assert rows(live, "live") == rows(live, result["kept"])


def test_previous_database_with_a_subscription_is_removed_only_after_it_was_dropped(live, spec):
    subscribe(live, "live", "'remote'")
    request = spec()
    result = restores.swap_in(request, restores.fill(request)["id"])
    assert any("restored database has the subscription receiver" in line for line in result["lines"])
    with pytest.raises(SauvegardeError) as refused:
        restores.remove(request, result["kept"])
    assert "subscription receiver" in refused.value.why
    # The fix, as it is written.
    for statement in ('ALTER SUBSCRIPTION "receiver" DISABLE', 'ALTER SUBSCRIPTION "receiver" SET (slot_name = NONE)'):
        assert statement in refused.value.fix
        live.execute(statement, result["kept"])
    live.execute('DROP SUBSCRIPTION "receiver"', result["kept"])
    assert restores.remove(request, result["kept"]) is True


def test_enabled_subscription_is_in_the_plan(live):
    subscribe(live, "live", "'remote'")
    live.execute("ALTER SUBSCRIPTION receiver ENABLE", "live")
    with contextlib.closing(live.connect()) as connection:
        result = attachments.read(connection, "live")
        assert result.enabled == ["receiver"]
        (warning,) = attachments.warnings(result, "live")
    assert 'ALTER SUBSCRIPTION "receiver" DISABLE' in warning["fix"]
    live.execute('ALTER SUBSCRIPTION "receiver" DISABLE', "live")
    wait_until(lambda: not live.execute("SELECT 1 FROM pg_stat_subscription WHERE pid IS NOT NULL"))


def test_template_is_kept_found_and_removed(live, spec):
    live.execute("ALTER DATABASE live WITH IS_TEMPLATE true")
    request = spec()
    older = restores.swap_in(request, restores.fill(request)["id"])["kept"]
    live.execute("UPDATE offers SET title = 'newer'", "live")
    newer = restores.swap_in(request, restores.fill(request)["id"])["kept"]
    assert [each["name"] for each in restores.kept(request)] == [newer, older]
    # The newest one comes back, not an older one that happens to be no template.
    back = restores.roll_back(request)
    assert back["restored"] == newer
    assert rows(live, "live") == [(9, "newer", "newer")]
    for name in (back["kept"], older):
        assert restores.remove(request, name) is True


def test_closed_previous_database_is_removed(live, spec):
    request = spec()
    kept = restores.swap_in(request, restores.fill(request)["id"])["kept"]
    live.execute(f"ALTER DATABASE {sql_names.quote(kept)} WITH ALLOW_CONNECTIONS false")
    assert restores.remove(request, kept) is True


def test_swap_says_that_the_scheduler_of_pg_cron_ends(live, spec):
    if not live.execute(PG_CRON):
        pytest.skip("pg_cron is not installed")
    live.execute("CREATE DATABASE scheduled TEMPLATE template0")
    live.execute("CREATE TABLE offers (id int, title text); INSERT INTO offers VALUES (1, 'a')", "scheduled")
    request = spec("scheduled")
    (warning,) = [each for each in restores.plan(request)["warnings"] if "pg_cron" in each["what"]]
    assert "restart the server" in warning["fix"]
    result = restores.swap_in(request, restores.fill(request)["id"])
    assert any("pg_cron" in line for line in result["lines"])
    with contextlib.closing(live.connect()) as connection:
        assert not attachments.read(connection, "live").scheduler
        swap.remove(live.server, "scheduled", result["kept"])


JOBS = "SELECT jobid, schedule, command, database, active, jobname FROM cron.job ORDER BY 1"


def schedule(server):
    """Make the database `scheduled` with two jobs of pg_cron's; returns them."""
    if not server.execute(PG_CRON):
        pytest.skip("pg_cron is not installed")
    server.execute("CREATE DATABASE scheduled TEMPLATE template0")
    server.execute(
        "CREATE EXTENSION pg_cron; SELECT cron.schedule('nightly', '0 3 * * *', E'SELECT $$é\\t\\\\$$');"
        "SELECT cron.schedule('hourly', '7 * * * *', 'VACUUM'); CREATE TABLE offers AS SELECT 1 AS id",
        "scheduled",
    )
    server.execute("UPDATE cron.job SET active = false WHERE jobname = 'hourly'", "scheduled")
    return server.execute(JOBS, "scheduled")


@pytest.mark.parametrize("form", ["archive", "-Fc", "-Fp"])
def test_jobs_of_pg_cron_are_made_again_after_the_swap(live, spec, tmp_path, form):
    """It exists in one database only, so in no side database; what the dump holds of it comes after the swap."""
    expected = schedule(live)
    request = spec("scheduled")
    if form != "archive":
        live.run("pg_dump", form, "-C", "-f", tmp_path / "dump", database="scheduled")
        request = dict(request, path=str(tmp_path / "dump"))
    live.execute("SELECT cron.unschedule('nightly')", "scheduled")
    planned = restores.plan(request)
    assert planned["obstacles"] == []
    assert any("created after the swap" in each["what"] for each in planned["warnings"])
    filled = restores.fill(request)
    assert {each["object"]: each["kept"] for each in filled["losses"]}["EXTENSION pg_cron"] == "for after the swap"
    result = restores.swap_in(request, filled["id"])
    assert any("2 job(s)" in line and "restarted" in line for line in result["lines"]), result["lines"]
    assert live.execute(JOBS, "scheduled") == expected
    live.stop()
    live.start()
    runs = "SELECT 1 FROM pg_stat_activity WHERE datname = 'scheduled' AND application_name ~ '^pg_cron'"
    wait_until(lambda: live.execute(runs))
    assert live.execute("SELECT cron.schedule('weekly', '0 0 * * 0', 'VACUUM')", "scheduled") == [(3,)]
    swap.remove(live.server, "scheduled", result["kept"])


HERE = Path(__file__).parent
KILLED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(1, sys.argv[3])
import restores
from sauvegarde.restore import pg_cron, restore_state
wanted, identifier, moment = json.loads(sys.argv[2])
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "before":
    pg_cron.make = kill
elif moment == "within":  # after the extension and before its jobs
    pg_cron.merge = kill
else:
    change = restore_state.change
    restore_state.change = lambda *which, **values: kill() if "status" in values else change(*which, **values)
restores.swap_in(wanted, identifier)
"""


@pytest.mark.parametrize("moment", ["before", "within", "after"])
@pytest.mark.parametrize("way", ["restore", "swap"])
def test_jobs_of_pg_cron_are_made_once_if_the_swap_is_killed(live, spec, way, moment):
    """Before, within and after the transaction that makes them: by the same restore, or the same swap, run again."""
    expected = schedule(live)
    request = spec("scheduled")
    filled = restores.fill(request)
    words = [sys.executable, "-c", KILLED, ENGINE, json.dumps([request, filled["id"], moment]), str(HERE)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    existing = "SELECT 1 FROM pg_extension WHERE extname = 'pg_cron'"
    wait_until(lambda: bool(live.execute(existing, "scheduled")) == (moment == "after"))
    if moment == "after":  # what was changed since is not undone
        live.execute("SELECT cron.unschedule('nightly')", "scheduled")
        del expected[0]
    if way == "swap":
        with pytest.raises(SauvegardeError) as refused:
            restores.swap_in(request, filled["id"])
        assert "Its state is swapped" in refused.value.why
        assert restore_state.swapped(restores.target(request).runs_directory, "scheduled").id == filled["id"]
    else:
        again = restores.fill(request)
        assert any("2 job(s)" in note for note in again["notes"]) == (moment != "after")
    assert live.execute(JOBS, "scheduled") == expected
    live.execute("SELECT cron.unschedule('hourly')", "scheduled")
    if way == "restore":
        live.execute("DROP TABLE offers", "scheduled")
        restores.swap_in(request, again["id"])
        assert live.execute("SELECT count(*) FROM cron.job", "scheduled") == [(2,)]
        assert live.execute("SELECT * FROM offers", "scheduled") == [(1,)]
    else:
        with pytest.raises(SauvegardeError):
            restores.swap_in(request, filled["id"])
        assert live.execute(JOBS, "scheduled") == expected[:-1]


def test_jobs_of_pg_cron_that_cannot_be_made_are_in_the_report(live):
    """The statements that make them, as psql runs them."""
    kept = [
        {
            "schema": "cron",
            "table": "job",
            "statement": "COPY cron.job (jobid, command) FROM stdin;\n",
            "encoding": "utf-8",
            "rows": "1\tSELECT 'é'\n".encode().decode("latin-1"),
        }
    ]
    (line,) = pg_cron.make(live.server, "live", kept, "live")
    assert line.endswith("CREATE EXTENSION pg_cron;\nCOPY cron.job (jobid, command) FROM stdin;\n1\tSELECT 'é'\n\\.")
    assert pg_cron.make(live.server, "live", None, "live") == []
