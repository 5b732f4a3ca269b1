"""What comes between the end of pg_dump and the end of the sums: nobody waits for them, and the dump is published."""

import contextlib
import threading
import time

import pytest
from conftest import wait_until
from sauvegarde.backup import dump_attempts, kinds, snapshot_fingerprint
from sauvegarde.postgres import fingerprint, postgres_server, sql_names
from test_cases_locks import job, restored
from test_faults import fake

TABLES = """
CREATE TABLE big (i int, t text); ALTER TABLE big ALTER t SET STORAGE PLAIN;
INSERT INTO big SELECT i, repeat(md5(i::text), 60) FROM generate_series(1, 4000) i;
CREATE TABLE big_2 (i int, t text); ALTER TABLE big_2 ALTER t SET STORAGE PLAIN;
INSERT INTO big_2 SELECT i, repeat(md5(i::text), 60) FROM generate_series(1, 2000) i;
CREATE TABLE a AS SELECT i FROM generate_series(1, 100) i; CREATE INDEX of_a ON a (i);
CREATE TABLE z AS SELECT i FROM generate_series(1, 100) i;
ANALYZE big; ANALYZE big_2
"""
NAMES = [f'"public"."{name}"' for name in ("a", "big", "big_2", "z")]
SLOW = 300  # seconds: somebody who waited for them all is told from a busy machine


@pytest.fixture()
def before_sum(monkeypatch):
    """Calls found[table's name](connection) at its first sum."""
    result, original = {}, fingerprint.sum_table

    def sum_table(connection, table, *more):
        result.pop(table.name, lambda _: None)(connection)
        return original(connection, table, *more)

    monkeypatch.setattr(fingerprint, "sum_table", sum_table)
    return result


def asleep(connection):
    postgres_server.query(connection, f"SELECT pg_sleep({SLOW})")


def reasons(result):
    return {each["object"]: each["why"] for each in result["fingerprint"].get("unproven", [])}


@pytest.mark.parametrize(
    "slow, statement, lost",
    [
        ("big", "TRUNCATE big", ["TABLE public.big"]),
        ("big", "ALTER TABLE big ADD more int", []),
        ("big_2", "TRUNCATE big", ["TABLE public.big"]),  # which the session has locked before
        ("a", "DROP INDEX of_a", []),
    ],
)
def test_nobody_waits_for_a_sum(cluster, database, repository, tmp_path, before_sum, slow, statement, lost):
    """A statement that is behind a sum only, for pg_dump has ended, is let through at once."""
    cluster.execute(TABLES, database)
    took, threads = [], []
    before_sum[slow] = asleep

    def change():
        wait_until(lambda: cluster.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"))
        began = time.monotonic()
        cluster.execute(statement, database)
        took.append(time.monotonic() - began)

    def notify(step, **_values):
        if step == "read_back":
            threads.append(threading.Thread(target=change))
            threads[0].start()

    result = kinds.back_up(dict(job(cluster, database), workers=1), repository, notify)
    threads[0].join()
    assert took[0] < SLOW / 4
    assert sorted(reasons(result)) == lost
    assert len(result["fingerprint"]["tables"]) == len(NAMES) - len(lost)
    restored(cluster, repository, result, tmp_path)


def test_an_index_is_rebuilt_while_pg_dump_runs(cluster, database, before_sum):
    """pg_dump locks no index, so nobody who wants one waits for stock."""
    cluster.execute(TABLES, database)
    took = []

    def rebuild():
        began = time.monotonic()
        cluster.execute("REINDEX INDEX of_a", database)
        took.append(time.monotonic() - began)

    thread = threading.Thread(target=rebuild)

    def slow(connection):
        # It locks the index, as the sum does.
        postgres_server.query(connection, "SELECT count(*) FROM public.a WHERE i = 1")
        thread.start()
        asleep(connection)

    before_sum["a"] = slow
    with contextlib.ExitStack() as stack:
        leader, *dumps = (
            stack.enter_context(contextlib.closing(postgres_server.connect(cluster.server, database, application)))
            for application in ("sauvegarde", "like pg_dump", "like pg_dump")
        )
        name = stack.enter_context(postgres_server.snapshot(leader))
        postgres_server.execute(dumps[0], "BEGIN; LOCK TABLE a, z, big, big_2 IN ACCESS SHARE MODE")
        tables = fingerprint.tables(leader)
        sums = snapshot_fingerprint.Summing(lambda: cluster.connect(database), name, 1, "like pg_dump")
        with sums:
            wait_until(lambda: thread.ident)
            thread.join(SLOW)
            assert took and took[0] < SLOW / 4
            postgres_server.execute(dumps[0], "COMMIT")
            sums.dumped()
            assert "unproven" not in sums.result(tables)


@pytest.mark.parametrize("seconds", [2, None])
def test_an_index_that_somebody_has_to_himself_is_not_waited_for(cluster, database, repository, monkeypatch, seconds):
    """REINDEX keeps a query from being planned; no other path helps there. A moment later it may be free."""
    monkeypatch.setattr(snapshot_fingerprint, "_PATIENCE", snapshot_fingerprint._PATIENCE if seconds else 1)
    cluster.execute(TABLES, database)
    other = cluster.connect(database)
    postgres_server.execute(other, "BEGIN; REINDEX INDEX of_a")
    timer = threading.Timer(seconds or 600, lambda: postgres_server.execute(other, "COMMIT"))
    timer.start()
    try:
        result = kinds.back_up(job(cluster, database), repository)
        assert seconds or timer.is_alive(), "it has waited until the index was free"
        assert list(reasons(result)) == ([] if seconds else ["TABLE public.a"])
    finally:
        timer.cancel()
        timer.join()
        other.close()


# In pg_dump's place: it ends, and its locks with it, as soon as a sum has begun.
ENDS_LATE = """
wait() {{ until [ -e {0} ]; do sleep 0.05; done; }}
(echo 'BEGIN; LOCK TABLE a, z, big, big_2 IN ACCESS SHARE MODE;'; wait) | "${{REAL%/*}}/psql" -Xq &
"$REAL" "$@"; code=$?; wait; wait %1; exit $code
"""


def test_a_table_that_is_emptied_just_after_the_dump_is_unproven(
    cluster, database, repository, tmp_path, before_sum, monkeypatch
):
    """TRUNCATE is not hidden by a snapshot, and its lock may come before it is known that pg_dump has ended."""
    cluster.execute(TABLES, database)
    emptied, dumped, begun = threading.Event(), snapshot_fingerprint.Summing.dumped, tmp_path / "begun"
    fake(monkeypatch, tmp_path, "pg_dump", ENDS_LATE.format(begun))

    def begin(_):
        begun.touch()
        assert emptied.wait(300)

    before_sum["a"] = begin

    def later(sums):
        cluster.execute("TRUNCATE z", database)
        emptied.set()
        wait_until(lambda: sums._missed or sums._sums.has(fingerprint.Table("public", "z")))
        dumped(sums)

    monkeypatch.setattr(snapshot_fingerprint.Summing, "dumped", later)
    monkeypatch.setattr(snapshot_fingerprint, "_HELD_AHEAD", 0)
    result = kinds.back_up(job(cluster, database), repository)
    assert list(reasons(result)) == ["TABLE public.z"]
    restored(cluster, repository, result, tmp_path)


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_few_connections_make_no_backup_fail(cluster, database, repository, limit):
    """pg_dump goes first; what sessions there are then sum the tables."""
    cluster.execute(f"CREATE ROLE few LOGIN CONNECTION LIMIT {limit}")
    try:
        cluster.execute(f"GRANT ALL ON DATABASE {sql_names.quote(database)} TO few")
        cluster.execute(f"GRANT CREATE ON SCHEMA public TO few; SET ROLE few; {TABLES}", database)
        result = kinds.back_up(job(cluster, database, connection=dict(cluster.values, user="few")), repository)
        assert list(result["fingerprint"]["tables"]) == NAMES and reasons(result) == {}
    finally:
        cluster.execute("DROP OWNED BY few CASCADE", database)
        cluster.execute(f"REVOKE ALL ON DATABASE {sql_names.quote(database)} FROM few; DROP ROLE few")


def ended(connection):
    postgres_server.query(connection, "SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize("table, lost", [("big", []), ("a", ["TABLE public.a"])])
def test_a_lost_session_makes_no_backup_fail(cluster, database, repository, tmp_path, before_sum, table, lost):
    """A standby ends sessions whose snapshot is in the way. What another session can sum later is summed."""
    cluster.execute(TABLES, database)
    before_sum[table] = ended
    result = kinds.back_up(job(cluster, database), repository)
    left = reasons(result)
    # Which of the server's words arrive is libpq's matter.
    assert all("terminating connection" in why or "server closed the connection" in why for why in left.values()), left
    left.pop(fingerprint.LARGE_OBJECTS, None)
    assert sorted(left) == lost
    restored(cluster, repository, result, tmp_path)


def without_room(connection):
    """As where pg_dump's locks have filled the server's lock table."""
    words = "RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200'"
    postgres_server.execute(connection, f"DO $$BEGIN {words}; END$$")


@pytest.mark.parametrize("times", [1, 2])
def test_a_sum_without_room_for_its_locks_is_taken_later(cluster, database, repository, before_sum, times):
    """Its indexes need locks as well; when pg_dump has ended there is room for them."""
    cluster.execute(TABLES, database)

    def again(connection):
        if times > 1:
            before_sum["a"] = without_room
        without_room(connection)

    before_sum["a"] = again
    left = reasons(kinds.back_up(job(cluster, database), repository))
    assert list(left) == ([] if times == 1 else ["TABLE public.a"])
    assert all(why.startswith("out of shared memory") for why in left.values())


def test_without_any_session_the_dump_is_published(cluster, database, repository, monkeypatch):
    def refused(_):
        raise postgres_server.SauvegardeError("No connection.", "FATAL:  sorry, too many clients already")

    cluster.execute(TABLES, database)
    monkeypatch.setattr(snapshot_fingerprint.Summing, "_session", refused)
    result = kinds.back_up(job(cluster, database), repository)
    assert result["fingerprint"]["tables"] == {} and len(reasons(result)) == 5
    assert all("too many clients" in why for why in reasons(result).values())
    assert kinds.verify(repository / "demo" / result["id"])["checksum"] == result["checksum"]


def test_a_cancelling_that_is_lost_is_repeated(cluster, database, before_sum, monkeypatch):
    cluster.execute(TABLES, database)
    before_sum["z"] = asleep
    lost, cancel = [], fingerprint.cancel
    monkeypatch.setattr(fingerprint, "cancel", lambda all_: cancel(all_) if len(lost) > 1 else lost.append(all_))
    leader = cluster.connect(database)
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(postgres_server.snapshot(leader))
        sums = stack.enter_context(snapshot_fingerprint.Summing(lambda: cluster.connect(database), name, 1, "nothing"))
        sums.dumped()
        wait_until(lambda: cluster.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"))
        began = time.monotonic()
    assert time.monotonic() - began < SLOW / 4 and len(lost) == 2
    leader.close()


def test_the_last_attempt_says_what_has_changed(cluster, database, repository, monkeypatch):
    cluster.execute(TABLES, database)
    monkeypatch.setattr(dump_attempts, "_ATTEMPTS", 1)
    monkeypatch.setattr(snapshot_fingerprint.Summing, "stale", lambda _: ['"public"."z"'])
    result = kinds.back_up(job(cluster, database), repository)
    assert [each for each in result["warnings"] if 'The table "public"."z" was changed' in each]
