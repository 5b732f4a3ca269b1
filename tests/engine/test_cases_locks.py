"""Statements of the site while a job runs: the job gives way to them, or begins again, and is published."""

import subprocess
import threading
from pathlib import Path

import pytest
import restores
from conftest import wait_until
from sauvegarde.archive import archive_reader
from sauvegarde.backup import kinds
from sauvegarde.postgres import client_tools, fingerprint, postgres_server, sql_names
from sauvegarde.system import process

SCHEMA = "CREATE TABLE big AS SELECT i, (SELECT string_agg(md5((i + k)::text), '') FROM generate_series(1, 60) k) AS t"
SCHEMA += " FROM generate_series(1, {}) i; CREATE TABLE of_index AS SELECT i FROM generate_series(1, 500) i;"


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, "workers": 2, **more}


def test_a_table_is_waited_for_before_others_are_held(cluster, database, repository):
    """Somebody who has one table to himself and then wants another gets it; the job comes after him. If the job held
    the other, the server would end a deadlock."""
    cluster.execute("CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE z AS SELECT 2 AS i", database)
    holder = cluster.connect(database)
    postgres_server.execute(holder, "BEGIN; LOCK TABLE z IN ACCESS EXCLUSIVE MODE")
    collected = []
    thread = threading.Thread(target=lambda: collected.append(kinds.back_up(job(cluster, database), repository)))
    thread.start()
    try:
        wait_until(lambda: cluster.execute("SELECT 1 FROM pg_locks WHERE NOT granted"))
        postgres_server.execute(
            holder, "SET LOCAL lock_timeout TO '60s'; ALTER TABLE a ADD j int; INSERT INTO z VALUES (3)"
        )
        postgres_server.execute(holder, "COMMIT")
    finally:
        holder.close()
        thread.join()
    assert {name: each["rows"] for name, each in collected[0]["fingerprint"]["tables"].items()} == {
        '"public"."a"': 1,
        '"public"."z"': 2,
    }


def test_a_statement_that_comes_between_is_given_way(cluster, database, repository, tmp_path):
    """A worker of pg_dump cannot have a table that pg_dump's leader holds: the job goes on with one process."""
    cluster.execute(SCHEMA.format(15000), database)
    steps, waited = [], []

    def notify(step, **_values):
        steps.append(step)
        if step == "dumping" and not waited:
            waited.append(threading.Thread(target=cluster.execute, args=("TRUNCATE of_index", database)))
            waited[0].start()

    result = kinds.back_up(job(cluster, database), repository, notify)
    waited[0].join()
    assert "unproven" not in result["fingerprint"]
    rows = result["fingerprint"]["tables"]['"public"."of_index"']["rows"]
    assert rows == (0 if "again" in steps else 500)
    restored(cluster, repository, result, tmp_path)


def restored(cluster, repository, manifest, tmp_path):
    """Restore the archive with stock tools and compare it."""
    plain = tmp_path / "plain"
    archive_reader.expand(repository / "demo" / manifest["id"], plain)
    cluster.execute("DROP DATABASE IF EXISTS restored")
    cluster.execute("CREATE DATABASE restored TEMPLATE template0")
    try:
        cluster.run("pg_restore", "-j2", "-d", "restored", plain / "dump")
        sums = manifest["fingerprint"]
        result = fingerprint.take(lambda: cluster.connect("restored"), reference=sums)
        assert fingerprint.compare(sums, result) == []
        return result
    finally:
        cluster.execute("DROP DATABASE restored")


LIMIT = 1500  # milliseconds: more than a session needs on a busy machine before it sets its own
TIMEOUTS = {
    "statement_timeout": 90600,
    "lock_timeout": 90600,
    "idle_in_transaction_session_timeout": 90600,
    "idle_session_timeout": 140000,
    "transaction_timeout": 170000,
}


def test_no_timeout_of_the_site_ends_a_session(cluster, database, repository, monkeypatch):
    number = int(cluster.execute("SHOW server_version_num")[0][0])
    name = sql_names.quote(database)
    existing = [setting for setting, since in TIMEOUTS.items() if number >= since]
    cluster.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 10) i", database)
    for setting in existing:
        cluster.execute(f"ALTER DATABASE {name} SET {setting} TO '{LIMIT}ms'")
    connection = cluster.connect(database)
    try:
        limits = {setting: postgres_server.value(connection, f"SHOW {setting}") for setting in existing}
        assert limits.pop("lock_timeout") == "1min" and set(limits.values()) == {"0"}
    finally:
        connection.close()
    environment = client_tools.environment(cluster.server, database)
    # A word of its own for each statement: of several in one, psql before 15 shows the last result only.
    words = [str(cluster.binaries / "psql"), "-XAt", *(word for each in existing for word in ("-c", f"SHOW {each}"))]
    lines = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True).stdout.decode().split()
    assert lines == ["1min" if setting == "lock_timeout" else "0" for setting in existing]
    sum_table = fingerprint.sum_table

    def slowly(connection, *more):
        # One session works, the job's others wait in their transactions.
        postgres_server.query(connection, f"SELECT pg_sleep({2 * LIMIT / 1000})")
        return sum_table(connection, *more)

    monkeypatch.setattr(fingerprint, "sum_table", slowly)
    assert kinds.back_up(job(cluster, database), repository)["fingerprint"].get("unproven") is None


def test_pg_dump_asks_for_no_options(cluster, database, repository, monkeypatch):
    """Connection poolers may refuse the startup parameter `options`, which stock pg_dump does not send."""
    cluster.execute("CREATE TABLE t AS SELECT 1 AS i", database)
    existing, start = [], process.start

    def spied(arguments, **more):
        if Path(arguments[0]).name == "pg_dump":
            existing.append(more["env"])
        return start(arguments, **more)

    monkeypatch.setattr(process, "start", spied)
    kinds.back_up(job(cluster, database), repository)
    assert existing and not any("PGOPTIONS" in environment for environment in existing)


def test_more_tables_than_the_servers_lock_table_holds_twice(cluster, database, repository):
    """Their indexes are locked too when they are summed, so each is let go. With half of what stock can dump here."""
    places = int(cluster.execute("SELECT current_setting('max_locks_per_transaction')::int * 50")[0][0])
    cluster.execute(
        "CREATE PROCEDURE fill(n int) LANGUAGE plpgsql AS $$BEGIN FOR t IN 1..n LOOP"
        " EXECUTE format('CREATE TABLE t%1$s (id int PRIMARY KEY, a int, b int); CREATE INDEX ON t%1$s (a);"
        " CREATE INDEX ON t%1$s (b); INSERT INTO t%1$s VALUES (1, 2, 3)', t); COMMIT; END LOOP; END$$;",
        database,
    )
    count = places * 3 // 8
    cluster.execute(f"CALL fill({count})", database)
    held = []

    def notify(step, **_values):
        if step in ("dumping", "read_back"):
            # The server may end pg_dump's own sessions a moment later than pg_dump itself ends.
            statement = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            held.append(cluster.execute(statement + " WHERE a.application_name = 'sauvegarde'")[0][0])

    result = kinds.back_up(job(cluster, database), repository, notify)["fingerprint"]
    assert len(result["tables"]) == count and "unproven" not in result
    assert 0 < max(held) < 600  # those that are locked ahead


def require_bare_names(cluster):
    """Skip where the server makes no index on a function that calls another one by its bare name."""
    if int(cluster.execute("SHOW server_version_num")[0][0]) >= 170000:
        pytest.skip("servers from 17 on build indexes under a search_path of their own")


def test_what_cannot_be_summed_is_published_as_that(cluster, database, repository, tmp_path):
    """What an index's function calls is gone: no query on the table can be planned, but pg_dump copies its rows."""
    require_bare_names(cluster)
    cluster.execute(
        "CREATE FUNCTION inner_one(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';"
        "CREATE FUNCTION outer_one(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT inner_one($1)';"
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 10) i; CREATE INDEX ON t (outer_one(i));"
        "CREATE TABLE u AS SELECT 1 AS i; DROP FUNCTION inner_one(int);",
        database,
    )
    result = kinds.back_up(job(cluster, database), repository)
    sums = result["fingerprint"]
    assert list(sums["tables"]) == ['"public"."u"']
    assert [each["object"] for each in sums["unproven"]] == ["TABLE public.t"]
    assert "inner_one" in sums["unproven"][0]["why"]
    assert kinds.verify(repository / "demo" / result["id"])["checksum"] == result["checksum"]
    cluster.execute("DROP INDEX t_outer_one_idx", database)
    now = fingerprint.take(lambda: cluster.connect(database), reference=sums)
    assert fingerprint.compare(sums, now) == [] and list(now["tables"]) == ['"public"."u"']
    cluster.execute("INSERT INTO u VALUES (2)", database)
    now = fingerprint.take(lambda: cluster.connect(database), reference=sums)
    assert [each["object"] for each in fingerprint.compare(sums, now)] == ['table "public"."u"']
    now = fingerprint.take(lambda: cluster.connect(database))
    now["unproven"] = [{"object": "TABLE public.u", "why": "no memory"}]
    assert [each["object"] for each in fingerprint.compare(sums, now)] == ["TABLE public.u"]


SITE = """
CREATE SCHEMA tools; CREATE SCHEMA app; SET search_path TO app, tools;
CREATE FUNCTION tools.double(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT i * 2';
CREATE FUNCTION app.more(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT double(i) + 1';
CREATE TABLE app.t (i int, r regclass, rs regtype[]);
INSERT INTO app.t SELECT i, 'app.t', ARRAY['app.t', 'int']::regtype[] FROM generate_series(1, 10) i;
CREATE INDEX ON app.t (more(i)); CREATE INDEX ON app.t (i) WHERE more(i) > 3;
"""


def test_functions_of_indexes_find_what_they_call(cluster, database, repository):
    """Whatever path the database has; and values that print by the path are the same under all of them."""
    require_bare_names(cluster)
    cluster.execute(SITE, database)
    name, sums = sql_names.quote(database), []
    for path in ("app, tools", "public", "''", '"$user"'):
        cluster.execute(f"ALTER DATABASE {name} SET search_path TO {path}")
        sums.append(kinds.back_up(job(cluster, database), repository)["fingerprint"])
        assert "unproven" not in sums[-1], path
    for setting in ("quote_all_identifiers", "default_transaction_deferrable", "default_transaction_read_only"):
        cluster.execute(f"ALTER DATABASE {name} SET {setting} TO on")
    cluster.execute(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'serializable'")
    sums.append(kinds.back_up(job(cluster, database), repository)["fingerprint"])
    cluster.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    cluster.execute("DROP INDEX app.t_more_idx; DROP INDEX app.t_i_idx", database)
    sums.append(fingerprint.take(lambda: cluster.connect(database)))
    assert {each["tables"]['"app"."t"']["hash"] for each in sums} == {sums[0]["tables"]['"app"."t"']["hash"]}


EVIL = """
CREATE SCHEMA evil; CREATE DOMAIN evil.number AS float8;
CREATE FUNCTION evil.md5(text) RETURNS text LANGUAGE sql AS $$SELECT repeat('0', 32)$$;
CREATE FUNCTION evil.encode(bytea, text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$;
CREATE FUNCTION evil.float8send(evil.number) RETURNS bytea LANGUAGE sql AS $$SELECT '\\x00'::bytea$$;
CREATE FUNCTION evil.same(evil.number, evil.number) RETURNS bool LANGUAGE sql AS $$SELECT true$$;
CREATE OPERATOR evil.= (LEFTARG = evil.number, RIGHTARG = evil.number, PROCEDURE = evil.same);
CREATE FUNCTION evil.joined(text, text) RETURNS text LANGUAGE sql AS $$SELECT 'x0000000000000000'$$;
CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, PROCEDURE = evil.joined);
CREATE TABLE app.u AS SELECT i::float8::evil.number AS i FROM generate_series(1, 10) i;
CREATE INDEX ON app.u (app.more(i::int));
"""


def test_no_function_of_the_site_takes_the_place_of_the_servers(cluster, database):
    """The owner of a database may put his own functions before the server's; the sums do not call them."""
    require_bare_names(cluster)
    cluster.execute(SITE + EVIL, database)
    sums = []
    for path in ("app, tools", "evil, pg_catalog, app, tools", "evil, app, tools"):
        cluster.execute(f"ALTER DATABASE {sql_names.quote(database)} SET search_path TO {path}")
        sums.append(fingerprint.take(lambda: cluster.connect(database)))
    assert "unproven" not in sums[0] and sums[0] == sums[1] == sums[2]
    cluster.execute("DROP INDEX app.u_more_idx; DROP INDEX app.t_more_idx; DROP INDEX app.t_i_idx", database)
    assert fingerprint.take(lambda: cluster.connect(database)) == sums[0]


def test_rows_may_go_into_other_partitions(cluster, database, repository, tmp_path):
    if int(cluster.execute("SHOW server_version_num")[0][0]) < 120000:
        pytest.skip("hash partitions and generated columns came with PostgreSQL 11 and 12")
    cluster.execute(
        "CREATE TYPE kind AS ENUM ('a', 'b', 'c', 'd', 'e'); CREATE SCHEMA parts;"
        "CREATE TABLE asked (k kind, i int, g int GENERATED ALWAYS AS (i * 2) STORED) PARTITION BY HASH (k);"
        "CREATE TABLE parts.p0 PARTITION OF asked FOR VALUES WITH (MODULUS 3, REMAINDER 0);"
        "CREATE TABLE parts.p1 PARTITION OF asked FOR VALUES WITH (MODULUS 3, REMAINDER 1) PARTITION BY RANGE (i);"
        "CREATE TABLE parts.p1a PARTITION OF parts.p1 DEFAULT;"
        "CREATE TABLE p2 (g int GENERATED ALWAYS AS (i * 2) STORED, i int, k kind);"
        "ALTER TABLE asked ATTACH PARTITION p2 FOR VALUES WITH (MODULUS 3, REMAINDER 2);"
        "INSERT INTO asked (k, i)"
        " SELECT (ARRAY['a', 'b', 'c', 'd', 'e'])[i % 5 + 1]::kind, i FROM generate_series(1, 100) i",
        database,
    )
    result = kinds.back_up(job(cluster, database), repository)
    assert result["fingerprint"]["tables"]['"public"."asked"']["rows"] == 100
    sums = result["fingerprint"]

    def differences():
        now = fingerprint.take(lambda: cluster.connect(database), reference=sums)
        return [each["object"] + " " + each["problem"] for each in fingerprint.compare(sums, now)]

    # As in a restored database, whose enum has other OIDs.
    cluster.execute(
        "CREATE TABLE rows AS SELECT k, i FROM asked; TRUNCATE asked; ALTER TABLE asked DETACH PARTITION p2;"
        "ALTER TABLE asked DETACH PARTITION parts.p0;"
        "ALTER TABLE asked ATTACH PARTITION parts.p0 FOR VALUES WITH (MODULUS 3, REMAINDER 2);"
        "ALTER TABLE asked ATTACH PARTITION p2 FOR VALUES WITH (MODULUS 3, REMAINDER 0);"
        "INSERT INTO asked (k, i) SELECT k, i FROM rows; DROP TABLE rows",
        database,
    )
    assert differences() == []
    cluster.execute("UPDATE asked SET i = -1 WHERE i = 1", database)
    assert len(differences()) == 1
    cluster.execute("UPDATE asked SET i = 1 WHERE i = -1; ALTER TABLE asked DETACH PARTITION p2", database)
    assert any("p2" in each for each in differences())


def test_rows_of_a_foreign_dump_go_in_through_the_partitioned_table(cluster, database, tmp_path):
    """pg_dump does so by itself for hash partitions on an enum, and for all where it is told to."""
    if int(cluster.execute("SHOW server_version_num")[0][0]) < 110000:
        pytest.skip("--load-via-partition-root came with PostgreSQL 11")
    cluster.execute(
        "CREATE TABLE log (i int, t text) PARTITION BY RANGE (i);"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE log_2 PARTITION OF log DEFAULT PARTITION BY LIST (t);"
        "CREATE TABLE log_3 PARTITION OF log_2 DEFAULT; CREATE TABLE alone AS SELECT 1 AS i;"
        "INSERT INTO log SELECT i, 'x' FROM generate_series(1, 120) i",
        database,
    )
    dump = tmp_path / "via.dump"
    cluster.run("pg_dump", "-Fc", "--load-via-partition-root", "-f", dump, database=database)
    spec = {"path": str(dump), "database": "via", "connection": cluster.values, "directory": str(tmp_path / "runs")}
    try:
        restores.swap_in(spec, restores.fill(spec)["id"])
        assert cluster.execute("SELECT count(*) FROM log", "via") == [(120,)]
    finally:
        cluster.execute("DROP DATABASE IF EXISTS via")
