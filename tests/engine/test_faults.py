"""The faults of a dump, each injected into a real server: a clear error in time, nothing published, nothing left."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import conftest
import pytest
import restores
from sauvegarde.archive import archive_reader, ids
from sauvegarde.backup import kinds
from sauvegarde.errors import Damaged, Locked, LoginRefused, SauvegardeError
from sauvegarde.postgres import client_tools, fingerprint, postgres_server

SIMPLE = """
CREATE TABLE offers (id serial PRIMARY KEY, content text);
INSERT INTO offers (content) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 3000) AS i;
CREATE TABLE places (id int PRIMARY KEY, name text); INSERT INTO places VALUES (1, 'ici');
"""
GROWN = """
CREATE TABLE large AS SELECT i, (SELECT string_agg(md5((i * 1000 + k)::text), '') FROM generate_series(1, 60) AS k) AS t
FROM generate_series(1, 12000) AS i;
"""


@pytest.fixture()
def filled(cluster, database):
    cluster.execute(SIMPLE, database)
    return database


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, **more}


def nothing_left(repository):
    return [each.name for each in (repository / "demo").iterdir()] == []


def failed(job, repository, code=1, match="."):
    with pytest.raises(SauvegardeError, match=match) as caught:
        kinds.back_up(job, repository)
    assert caught.value.exit_code == code
    assert nothing_left(repository)
    return caught.value


def fake(monkeypatch, tmp_path, tool, body):
    """Put a shell script in the place of one of PostgreSQL's programs; $REAL is the real one."""
    real = client_tools.client

    def client(name, number):
        result = real(name, number)
        if name != tool:
            return result
        path = tmp_path / tool
        path.write_text(f"#!/bin/bash\nREAL={result.path}\n{body}\n")
        path.chmod(0o755)
        return replace(result, path=str(path))

    monkeypatch.setattr(client_tools, "client", client)


def test_a_dump_that_writes_half_and_fails(cluster, filled, repository, monkeypatch, tmp_path):
    body = 'for word; do case $word in --file=*) out=${word#--file=};; esac; done\n"$REAL" "$@"\n'
    body += 'for file in "$out"/*.dat; do truncate -s 10 "$file"; done; echo "connection lost" >&2; exit 1'
    fake(monkeypatch, tmp_path, "pg_dump", body)
    error = failed(job(cluster, filled), repository, match="could not be dumped")
    assert "connection lost" in error.why


def test_a_dump_that_is_killed(cluster, filled, repository, monkeypatch, tmp_path):
    fake(monkeypatch, tmp_path, "pg_dump", "sleep 0.2; kill -9 $$")
    assert "SIGKILL" in failed(job(cluster, filled), repository).why


def test_a_dump_that_lies(cluster, filled, repository, monkeypatch, tmp_path):
    """It ends with 0, but its table of contents is cut: only reading it back tells."""
    body = 'for word; do case $word in --file=*) out=${word#--file=};; esac; done\n"$REAL" "$@"\n'
    fake(monkeypatch, tmp_path, "pg_dump", body + 'truncate -s 2000 "$out/toc.dat"')
    failed(job(cluster, filled), repository, match="pg_restore")


def test_a_dump_that_leaves_a_table_out(cluster, filled, repository, monkeypatch, tmp_path):
    body = 'for word; do case $word in --file=*) out=${word#--file=};; esac; done\n"$REAL" "$@"\n'
    fake(
        monkeypatch,
        tmp_path,
        "pg_dump",
        body + 'rm "$out"/*.dat; ls "$out" >&2; cp "$out/toc.dat" "$out/toc"; mv "$out/toc" "$out/toc.dat"',
    )
    failed(job(cluster, filled), repository)


def test_a_reader_that_stops_early(cluster, filled, repository, monkeypatch, tmp_path):
    result = kinds.back_up(job(cluster, filled), repository)
    path = repository / "demo" / result["id"]
    kinds.verify(path)
    body = (
        'for word; do [ "$word" = --file=/dev/null ] && { head -c 5000 >/dev/null; exit 5; }; done; exec "$REAL" "$@"'
    )
    fake(monkeypatch, tmp_path, "pg_restore", body)
    with pytest.raises(SauvegardeError, match="read the complete dump"):
        kinds.verify(path)
    assert [each.name for each in (repository / "demo").iterdir()] == [path.name]


def test_a_lock_on_a_table(cluster, filled, repository):
    holder = cluster.connect(filled)
    holder.autocommit = False
    postgres_server.execute(holder, "LOCK TABLE places IN ACCESS EXCLUSIVE MODE")
    # The seconds are the job's own limit; nobody ends the holder's transaction before.
    words = 'table "public"."places" could not be locked for reading within 1 seconds'
    error = failed(job(cluster, filled, lock_timeout=1), repository, Locked.exit_code, match=words)
    assert "lock timeout" in error.why
    holder.close()
    kinds.back_up(job(cluster, filled, lock_timeout=1), repository)


def test_the_oldest_client_that_is_new_enough(monkeypatch, tmp_path):
    """Fault 6 with more versions than any host has; molecule/backup has real clients that are too old."""
    for name, version in (
        ("9.6", "9.6.24"),
        ("15", "15.18 (Debian 15.18-0+deb12u1)"),
        ("17", "17beta1"),
        ("13", "13.2"),
    ):
        folder = tmp_path / name / "bin"
        folder.mkdir(parents=True)
        (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
        (folder / "pg_dump").chmod(0o755)
    monkeypatch.setattr(client_tools, "_BINARIES", tmp_path)
    numbers = {90503: 90624, 90699: 90624, 100001: 130002, 130099: 130002, 140000: 150018, 170004: 170000}
    assert {asked: client_tools.client("pg_dump", asked).version_num for asked in numbers} == numbers
    with pytest.raises(SauvegardeError):
        client_tools.client("pg_dump", 180000)


@pytest.fixture()
def login(cluster, tmp_path):
    """A role with a password, and its passfile: (values of the connection, password)."""
    settings = cluster.data / "pg_hba.conf"
    before = settings.read_text()
    settings.write_text('local all "dump role" md5\n' + before)
    cluster.execute("CREATE ROLE \"dump role\" LOGIN PASSWORD 'canary é'; SELECT pg_reload_conf()")
    passfile = tmp_path / "passfile"
    passfile.write_text("*:*:*:*:canary é\n", encoding="utf-8")
    passfile.chmod(0o600)
    yield {**cluster.values, "user": "dump role", "passfile": str(passfile)}
    settings.write_text(before)
    cluster.execute('DROP OWNED BY "dump role"')
    cluster.execute('DROP ROLE "dump role"')
    cluster.execute("SELECT pg_reload_conf()")


def granted(cluster, database):
    if int(cluster.execute("SHOW server_version_num")[0][0]) < 140000:
        pytest.skip("pg_read_all_data came with PostgreSQL 14")
    cluster.execute('GRANT pg_read_all_data TO "dump role"', database)


def test_a_changed_password(cluster, filled, repository, login):
    request = {**job(cluster, filled), "connection": login}
    granted(cluster, filled)
    kinds.back_up(request, repository)
    cluster.execute("ALTER ROLE \"dump role\" PASSWORD 'another'")
    with pytest.raises(SauvegardeError, match="refused the login") as caught:
        kinds.back_up(request, repository)
    assert caught.value.exit_code == LoginRefused.exit_code
    assert len(list((repository / "demo").iterdir())) == 1


def test_a_role_that_is_missing(cluster, filled, repository):
    connection = {**cluster.values, "user": "nobody é"}
    failed({**job(cluster, filled), "connection": connection}, repository, LoginRefused.exit_code)


def test_other_failures_to_connect_are_no_login_failures(cluster, repository):
    failed(job(cluster, "no such database"), repository)
    failed({**job(cluster, "x"), "connection": {**cluster.values, "port": 1}}, repository, match="No connection")


def test_no_superuser(cluster, filled, repository, login):
    """pg_read_all_data is enough for tables; row-level security and large objects say what they need."""
    granted(cluster, filled)
    request = {**job(cluster, filled), "connection": login}
    kinds.back_up(request, repository)
    cluster.execute("ALTER TABLE places ENABLE ROW LEVEL SECURITY", filled)
    with pytest.raises(SauvegardeError) as caught:
        kinds.back_up(request, repository)
    assert "row-level security" in caught.value.why
    cluster.execute("ALTER TABLE places DISABLE ROW LEVEL SECURITY; SELECT lo_from_bytea(0, 'x')", filled)
    with pytest.raises(SauvegardeError):
        kinds.back_up(request, repository)
    cluster.execute('ALTER ROLE "dump role" SET lo_compat_privileges = on')
    result = kinds.back_up(request, repository)
    assert result["fingerprint"]["large_objects"]["rows"] == 1


def test_the_canary_is_nowhere(cluster, filled, repository, login, monkeypatch, tmp_path):
    """Not on a command line while it runs, not in what is told, not in the archive."""
    granted(cluster, filled)
    seen, report = set(), []
    done, looked = threading.Event(), tmp_path / "looked"
    # Held until somebody has looked at its command line and its environment.
    fake(monkeypatch, tmp_path, "pg_dump", f'until [ -e {looked} ]; do sleep 0.05; done; exec "$REAL" "$@"')

    def watch():
        while not done.is_set():
            for each in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        seen.add((each / name).read_bytes())
            if any(b"pg_dump" in each and b"--lock-wait-timeout" in each for each in seen):
                looked.touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        request = {**job(cluster, filled), "connection": login}
        result = kinds.back_up(request, repository, lambda step, **values: report.append((step, values)))
    finally:
        done.set()
        watcher.join()
    assert looked.exists()
    assert not any("canary é".encode() in each for each in seen)
    assert "canary" not in repr(report)
    assert "canary" not in json.dumps(result.as_dict())


def test_the_callers_environment_decides_nothing(cluster, filled, repository, tmp_path, monkeypatch):
    """Fault 7, of a backup, a plan and a restore."""
    hostile = {
        "PGHOST": "/nonexistent",
        "PGDATABASE": "template1",
        "PGOPTIONS": "-c default_transaction_isolation=oops",
    }
    hostile.update(
        PGSERVICE="none", PGUSER="nobody", DATABASE_URL="postgres://prod/x", PGPASSWORD="x", PGSSLMODE="require"
    )

    def among_them(action, *arguments):
        for name, value in hostile.items():
            monkeypatch.setenv(name, value)
        return action(*arguments)

    result = among_them(kinds.back_up, job(cluster, filled), repository)
    assert result["source"]["database"] == filled
    assert set(result["fingerprint"]["tables"]) == {'"public"."offers"', '"public"."places"'}
    request = {
        "connection": cluster.values,
        "path": str(repository / "demo" / result["id"]),
        "database": filled,
        "directory": str(tmp_path / "restores"),
    }
    planned = among_them(restores.plan, request)
    assert planned["obstacles"] == [] and planned["target"]["address"].startswith(cluster.values["host"])
    done = among_them(restores.fill, request)
    try:
        assert done["proof"]["rows"] == 3001
        assert cluster.execute("SELECT count(*) FROM offers", done["side"]) == [(3000,)]
    finally:
        conftest._drop(cluster, done["side"])


def test_a_writer_during_the_dump(cluster, filled, repository, tmp_path):
    """The fingerprint is that of the dump, whatever is written meanwhile."""
    done, written = threading.Event(), []

    def write():
        connection = cluster.connect(filled)
        while not done.is_set():
            postgres_server.execute(connection, "INSERT INTO offers (content) SELECT 'new' FROM generate_series(1, 50)")
            postgres_server.execute(connection, "UPDATE places SET name = name || 'x'")
            postgres_server.execute(connection, "DELETE FROM offers WHERE id % 7 = 0")
            written.append(1)
        connection.close()

    def back_up():
        before = len(written)
        conftest.wait_until(lambda: len(written) > before + 1)
        return kinds.back_up(job(cluster, filled), repository)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifests = [back_up() for _ in range(3)]
    finally:
        done.set()
        writer.join()
    assert len({each["fingerprint"]["tables"]['"public"."offers"']["hash"] for each in manifests}) == 3
    for number, manifest in enumerate(manifests):
        plain = tmp_path / str(number)
        archive_reader.expand(repository / "demo" / manifest["id"], plain)
        cluster.execute("CREATE DATABASE restored TEMPLATE template0")
        try:
            cluster.run("pg_restore", "--exit-on-error", "-d", "restored", plain / "dump")
            sums = manifest["fingerprint"]
            assert (
                fingerprint.compare(sums, fingerprint.take(lambda: cluster.connect("restored"), reference=sums)) == []
            )
        finally:
            cluster.execute("DROP DATABASE restored")


def test_truncate_cannot_come_between(cluster, filled, repository):
    """TRUNCATE is not hidden by a snapshot: it has to wait until the table is summed, and no longer than that. If the
    sum has not ended by then, the job gives way and says that the table is unproven."""
    waited = []

    def notify(step, **_values):
        if step == "dump":
            return
        if step == "read_back":
            connection = cluster.connect(filled)
            postgres_server.execute(connection, "SET lock_timeout TO '60s'")
            postgres_server.execute(connection, "TRUNCATE offers")
            connection.close()
            waited.append(step)

    result = kinds.back_up(job(cluster, filled), repository, notify)["fingerprint"]
    assert waited
    unproven = [each["object"] for each in result.get("unproven", ())]
    assert unproven in ([], ["TABLE public.offers"])
    assert unproven or result["tables"]['"public"."offers"']["rows"] == 3000


def restart_once_at(cluster, moment):
    """A notify that restarts the server at the first step of this name, and the list of the restarts."""
    restarts = []

    def notify(step, **_values):
        if step == moment and not restarts:
            restarts.append(step)
            cluster.stop("immediate")
            cluster.start()

    return notify, restarts


@pytest.mark.parametrize("moment", ["dumping", "read_back"])
def test_the_server_restarts(cluster, filled, repository, moment):
    """The job publishes the fingerprints that it has taken and names other tables as unproven, or publishes nothing."""
    cluster.execute(GROWN, filled)
    notify, restarts = restart_once_at(cluster, moment)
    try:
        published = kinds.back_up(job(cluster, filled), repository, notify)
    except SauvegardeError:
        published = None
        assert nothing_left(repository)
    assert restarts == [moment]
    quiet = kinds.back_up(job(cluster, filled), repository)
    if published:
        kinds.verify(repository / "demo" / published["id"])
        sums, expected = (each["fingerprint"]["tables"] for each in (published, quiet))
        assert sums == {name: result for name, result in expected.items() if name in sums}
        unproven = {each["object"] for each in published["fingerprint"].get("unproven", ())}
        missing = set(expected) - set(sums)
        assert {name.replace('"', "") for name in missing} == {
            each.replace("TABLE ", "") for each in unproven if each.startswith("TABLE ")
        }


KILLED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.backup import kinds
kinds.back_up(json.loads(sys.argv[2]), sys.argv[3])
"""


def test_killed_at_random_moments(cluster, filled, repository):
    """Fifty times: what is published is whole, the next run works and cleans up, no child goes on writing."""
    dice = random.Random(11)
    cluster.execute(GROWN, filled)
    words = [sys.executable, "-c", KILLED, conftest.ENGINE, json.dumps(job(cluster, filled)), str(repository)]
    start = time.monotonic()
    subprocess.run(words, check=True)
    usual = time.monotonic() - start
    for _ in range(50):
        child = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        time.sleep(usual * dice.random())
        child.send_signal(signal.SIGKILL)
        child.wait()
    published = ids.list_ids(repository / "demo")
    for identifier in published:
        kinds.verify(repository / "demo" / identifier)
    last = kinds.back_up(job(cluster, filled), repository)
    assert sorted(each.name for each in (repository / "demo").iterdir()) == [*published, last["id"]]


def test_every_file_counts(cluster, filled, repository):
    """One bit in any file of the archive, and it is refused."""
    path = repository / "demo" / kinds.back_up(job(cluster, filled), repository)["id"]
    files = [each for each in path.rglob("*") if each.is_file()]
    assert len(files) >= 5
    for each in files:
        good = each.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        each.write_bytes(bytes(bad))
        with pytest.raises(SauvegardeError) as caught:
            kinds.verify(path)
        assert caught.value.exit_code == Damaged.exit_code, each
        each.write_bytes(good)
    kinds.verify(path)


def test_truncated_dump(cluster, filled, repository):
    path = repository / "demo" / kinds.back_up(job(cluster, filled), repository)["id"]
    largest = max((each for each in path.rglob("*.zst")), key=lambda each: each.stat().st_size)
    size = largest.stat().st_size
    for tenth in reversed(range(10)):
        os.truncate(str(largest), size * tenth // 10)
        with pytest.raises(SauvegardeError) as caught:
            kinds.verify(path)
        assert caught.value.exit_code == Damaged.exit_code, tenth
