"""A restore of our own archives: proof, swap, rollback, and what is left when it is killed at any step."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import conftest
import psycopg2
import pytest
import restores
from sauvegarde.archive import archive_reader
from sauvegarde.backup import kinds
from sauvegarde.errors import Damaged, Locked, SauvegardeError
from sauvegarde.postgres import client_tools, database_names, postgres_server, sql_names
from sauvegarde.restore import (
    fetch,
    load_session,
    restore_state,
    side_restore,
)
from sauvegarde.restore.confirmation import PHRASE, Confirmation
from sauvegarde.system import disk_space
from sauvegarde.targets import side_database, swap
from test_restore_offsite import children as descendants

once = pytest.mark.one_host("the unmarked tests of this file cover what depends on the server")
LIVE = "-l'iv\"e $(id) é"
OWNER = "-ow'n\"er é"

SITE = """
CREATE TABLE offers (id serial PRIMARY KEY, title text NOT NULL, body text);
INSERT INTO offers (title, body) SELECT 'Offre ' || i, repeat(md5(i::text), 60) FROM generate_series(1, 3000) i;
SELECT setval('offers_id_seq', 98765);
CREATE TABLE "é ""t"" 'x'" ("-c" int, v timestamptz); INSERT INTO "é ""t"" 'x'" VALUES (1, '2024-01-01 00:00+01');
CREATE INDEX ON offers (title); CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM offers;
SELECT lo_from_bytea(5, repeat('z', 100000)::bytea);
"""


@pytest.fixture()
def site(cluster):
    """A live database with an owner, properties and data of its own."""
    cluster.execute(f"CREATE ROLE {sql_names.quote(OWNER)} LOGIN")
    name = sql_names.quote(LIVE)
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {sql_names.quote(OWNER)}")
    cluster.execute(
        f"ALTER DATABASE {name} SET timezone TO 'Europe/Paris'; COMMENT ON DATABASE {name} IS 'it''s \\ é';"
        f'ALTER DATABASE {name} SET search_path TO public, "$user"; ALTER DATABASE {name} CONNECTION LIMIT 33;'
        f"GRANT CREATE ON DATABASE {name} TO pg_monitor; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
    )
    cluster.execute(SITE, LIVE)
    cluster.execute(f"ALTER TABLE offers OWNER TO {sql_names.quote(OWNER)}", LIVE)
    yield cluster
    connection = cluster.connect()
    try:
        for (each,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE NOT datistemplate"):
            if each != "postgres":
                side_database.drop(connection, each)
        postgres_server.execute(connection, f"DROP ROLE {sql_names.quote(OWNER)}")
    finally:
        connection.close()


def back_up(site, repository):
    """The path of an archive of the live database as it is now."""
    job = {"name": "demo", "kind": "pg_dump", "connection": site.values, "database": LIVE}
    return repository / "demo" / kinds.back_up(job, repository)["id"]


@pytest.fixture()
def backup(site, repository):
    return back_up(site, repository)


@pytest.fixture()
def spec(site, backup, tmp_path):
    return {
        "connection": site.values,
        "path": str(backup),
        "database": LIVE,
        "directory": str(tmp_path / "restores"),
        "jobs": 2,
    }


PROPERTIES = (
    "SELECT datdba, encoding, datcollate, datctype, datconnlimit, datacl::text, datallowconn,"
    " shobj_description(oid, 'pg_database'),"
    " array(SELECT setrole::text || setconfig::text FROM pg_db_role_setting WHERE setdatabase = d.oid)"
    " FROM pg_database d WHERE datname = %s"
)


def properties(cluster, name):
    connection = cluster.connect()
    try:
        return postgres_server.query(connection, PROPERTIES, (name,))
    finally:
        connection.close()


def databases(cluster):
    return sorted(name for (name,) in cluster.execute("SELECT datname FROM pg_database WHERE NOT datistemplate"))


def count(cluster, database=LIVE):
    return cluster.execute("SELECT count(*) FROM offers", database)[0][0]


def test_an_archive_takes_the_place_of_the_live_database_and_gives_it_back(site, spec):
    before = properties(site, LIVE)
    site.execute("DELETE FROM offers WHERE id > 10; INSERT INTO offers (title) VALUES ('since')", LIVE)
    done = restores.fill(spec)
    assert done["status"] == "ready" and done["proof"]["by"] == "fingerprint" and done["proof"]["rows"] == 3001
    assert count(site) == 11, "the live database is not touched before the swap"
    assert done["lost"] is not None and done["steps"][0]["name"] == "start"
    swapped = restores.swap_in(spec, done["id"])
    assert swapped["kept"] > database_names.previous_name(LIVE, done["id"]), "it is called after its swap"
    assert count(site) == 3000 and count(site, swapped["kept"]) == 11
    assert properties(site, LIVE) == before
    assert site.execute("SELECT last_value, is_called FROM offers_id_seq", LIVE) == [(98765, True)]
    assert site.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'offers'", LIVE) == [(OWNER,)]
    assert site.execute("SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'offers'", LIVE) == [(3000,)]

    back = restores.roll_back_unrecorded(site.server, LIVE, "20990101T000000Z")
    assert back["restored"] == swapped["kept"] and count(site) == 11
    assert count(site, back["kept"]) == 3000
    assert [each["name"] for each in restores.plan(spec)["kept"]] == [back["kept"]]
    with pytest.raises(SauvegardeError):
        swap.remove(site.server, LIVE, LIVE)
    assert swap.remove(site.server, LIVE, back["kept"]) is True
    assert swap.remove(site.server, LIVE, back["kept"]) is False
    with pytest.raises(SauvegardeError) as error:
        restores.roll_back_unrecorded(site.server, LIVE, "20990101T000001Z")
    assert "nothing to go back to" in error.value.what
    assert count(site) == 11


@once
def test_twice_gives_the_same(site, spec):
    """A restore into a database that is not empty would double it."""
    for _ in range(2):
        restores.swap_in(spec, restores.fill(spec)["id"])
        assert count(site) == 3000
    assert len(restores.plan(spec)["kept"]) == 2


def test_beside_leaves_the_live_one_alone(site, spec):
    beside = dict(spec, database="x" * 63, mode="beside")
    done = restores.fill(beside)
    assert restores.swap_in(beside, done["id"])["kept"] is None
    assert count(site, "x" * 63) == 3000 and count(site) == 3000
    assert "already is a database" in restores.plan(beside)["obstacles"][0]["what"]
    assert "archive's own source" in restores.plan(dict(spec, mode="beside"))["obstacles"][0]["what"]


@once
def test_long_names(site, spec):
    """PostgreSQL cuts a name at 63 bytes: two that differ only beyond must not become one."""
    long = ["é" * 30 + "a", "é" * 30 + "b"]
    for name in long:
        for _ in range(2):
            request = dict(spec, database=name)
            restores.swap_in(request, restores.fill(request)["id"])
    for name in long:
        kept = restores.plan(dict(spec, database=name))["kept"]
        assert len(kept) == 1 and len(kept[0]["name"].encode("utf-8")) <= 63
        assert restores.roll_back_unrecorded(site.server, name, "20990101T000000Z")["restored"] == kept[0]["name"]


def test_a_difference_stops_the_swap(site, spec, monkeypatch):
    """One row changed on the way: the proof names its table, the side database goes."""
    original = side_restore.verification.against_manifest

    def tampered(server, name, *more):
        site.execute("UPDATE public.offers SET title = 'x' WHERE id = 7", name)
        return original(server, name, *more)

    monkeypatch.setattr(side_restore.verification, "against_manifest", tampered)
    before = databases(site)
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec)
    assert error.value.exit_code == Damaged.exit_code and "offers" in error.value.why
    assert databases(site) == before


@once
def test_a_damaged_archive_is_refused(site, spec, backup):
    for path in sorted((backup / "dump").iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        with pytest.raises(SauvegardeError) as error:
            restores.fill(spec)
        assert error.value.exit_code == Damaged.exit_code
        path.write_bytes(data)
    manifest = backup / "manifest.json"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace('"rows"', '"rows "', 1), "utf-8")
    assert restores.plan(spec)["obstacles"]
    manifest.write_text(text, "utf-8")
    assert restores.plan(spec)["obstacles"] == []
    assert databases(site) == [LIVE, "postgres"]


DRIVER = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.restore import restore_run, restore_state
from sauvegarde.restore.request import RestoreRequest
wanted, stop = json.loads(sys.argv[2]), sys.argv[3]
original = restore_state.State.update
def update(self, **values):
    original(self, **values)
    if values.get("step") == stop:
        os.kill(os.getpid(), signal.SIGKILL)
restore_state.State.update = update
restore_run.fill(RestoreRequest.from_values(wanted))
"""
STEPS = ["create", "data", "properties"]
OTHERS = ["clean", "read", "plan", "roles", "extensions", "pre-data", "post-data", "analyze", "prove"]


def driven(spec, stop):
    return subprocess.run([sys.executable, "-c", DRIVER, conftest.ENGINE, json.dumps(spec), stop], check=False)


@pytest.mark.parametrize("step", STEPS + [pytest.param(step, marks=once) for step in OTHERS])
def test_killed_at_any_step(site, spec, step):
    assert driven(spec, step).returncode == -signal.SIGKILL
    assert count(site) == 3000
    left = restore_state.runs(spec["directory"], LIVE)
    assert [run.status for run in left] == [restore_state.KILLED]
    done = restores.fill(spec)
    assert [name for name in databases(site) if "restore" in name] == [done["side"]]
    if step not in ("clean", "read", "plan", "roles", "create"):
        assert done["cleaned"] == [left[0].side]
    assert not list(Path(spec["directory"]).glob("*/work"))
    restores.swap_in(spec, done["id"])
    assert count(site) == 3000


# Rows with this CHECK come to rest while they are loaded, if the server's role says so.
REST = "CASE WHEN current_setting('test.rest', true) = 'on' THEN pg_sleep(600)::text IS NOT NULL ELSE true END"


def command(pid):
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def test_killed_while_a_child_writes(site, spec, repository):
    """pg_restore does not outlive the run that started it and the next one; the lock falls with it."""
    site.execute(f"CREATE TABLE resting (i int CHECK ({REST})); INSERT INTO resting VALUES (1)", LIVE)
    spec = dict(spec, path=str(back_up(site, repository)))
    site.execute("ALTER ROLE postgres SET test.rest TO 'on'")
    child = subprocess.Popen([sys.executable, "-c", DRIVER, conftest.ENGINE, json.dumps(spec), "never"])
    try:
        conftest.wait_until(lambda: site.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        tools = [pid for pid in descendants(child.pid) if "pg_restore" in command(pid)]
    finally:
        site.execute("ALTER ROLE postgres RESET test.rest")
        child.kill()
        child.wait()
    assert count(site) == 3000
    conftest.wait_until(lambda: restore_state.runs(spec["directory"], LIVE)[0].status == restore_state.KILLED)
    done = restores.fill(spec)
    assert done["status"] == "ready" and len(done["cleaned"]) == 1
    # Its workers end with their sessions, which the next run has ended.
    assert tools
    conftest.wait_until(lambda: not any("pg_restore" in command(pid) for pid in tools))


@once
def test_a_proven_run_waits_for_its_swap(site, spec):
    """Its controller died before the swap: the next one finds it, and another restore does not throw it away, nor the
    copy that it was made from."""
    assert restores.waiting(spec) is None
    copies = restore_state.folder(spec["directory"]) / fetch.PLACE
    for name in ("needed", "forgotten"):
        shutil.copytree(spec["path"], str(copies / name))
        os.utime(str(copies / name), (0, 0))
    done = restores.fill(dict(spec, path=str(copies / "needed")))
    assert restores.waiting(spec).id == done["id"]
    beside = dict(spec, database="beside", mode="beside")
    restores.swap_in(beside, restores.fill(beside)["id"])
    assert [each.name for each in copies.iterdir()] == ["needed"]
    restores.swap_in(spec, done["id"])
    assert list(copies.iterdir()) == []
    assert restores.waiting(spec) is None
    with pytest.raises(SauvegardeError):
        restores.swap_in(spec, done["id"])


def test_two_at_once(site, spec, monkeypatch):
    monkeypatch.setattr(restore_state, "_PATIENCE", 1)
    folder = restore_state.folder(spec["directory"])
    with restore_state.hold(folder, LIVE), pytest.raises(SauvegardeError) as error:
        restores.fill(spec)
    assert error.value.exit_code == Locked.exit_code
    assert restores.fill(spec)["status"] == "ready"


def test_the_server_restarts_in_the_middle(site, spec, monkeypatch):
    original = load_session.LoadSession.prepare_for_data

    def restart(self):
        site.stop("immediate")
        site.start()
        original(self)

    monkeypatch.setattr(load_session.LoadSession, "prepare_for_data", restart)
    with pytest.raises((SauvegardeError, psycopg2.Error)):
        restores.fill(spec)
    monkeypatch.undo()
    assert count(site) == 3000
    restores.swap_in(spec, restores.fill(spec)["id"])
    assert count(site) == 3000
    assert not [name for name in databases(site) if "__restore_" in name]


ROUNDS = 4


class Writer(threading.Thread):
    """A client that inserts and counts in a loop, connecting anew after an error. `gaps`: seconds without an answer."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.stop = cluster, threading.Event()
        self.gaps, self.counts, self.written = [], [], []

    def write(self, count):
        """Wait until it has written so often."""
        before = len(self.written)
        conftest.wait_until(lambda: len(self.written) > before + count)

    def run(self):
        connection = None
        last = time.monotonic()
        number = 0
        while not self.stop.is_set():
            try:
                connection = connection or self.cluster.connect(LIVE)
                number += 1
                postgres_server.execute(connection, "INSERT INTO offers (title) VALUES (%s)", (f"written {number}",))
                self.written.append(number)
                self.counts.append(
                    postgres_server.value(connection, "SELECT count(*) FROM offers WHERE title LIKE 'Offre%'")
                )
                self.gaps.append(time.monotonic() - last)
                last = time.monotonic()
            except (psycopg2.Error, SauvegardeError):
                connection = None
        if connection:
            connection.close()


def test_a_writing_client_sees_a_short_gap_and_never_half_a_database(site, spec):
    """A busy machine lengthens gaps and never shortens them: one round of several has to be quick."""
    for _ in range(ROUNDS):
        done = restores.fill(spec)
        idle = [site.connect(LIVE) for _ in range(5)]
        writer = Writer(site)
        writer.start()
        try:
            writer.write(20)
            swapped = restores.swap_in(spec, done["id"])
            writer.write(20)
            back = restores.roll_back_unrecorded(site.server, LIVE, "20990101T000000Z")
            writer.write(20)
        finally:
            writer.stop.set()
            writer.join()
            for each in idle:
                each.close()
        assert swapped["ended"] >= 5 and back["restored"] == swapped["kept"]
        assert set(writer.counts) == {3000}
        both = "SELECT substr(title, 9)::int FROM offers WHERE title LIKE 'written%'"
        kept = {n for (n,) in site.execute(both, LIVE)} | {n for (n,) in site.execute(both, back["kept"])}
        assert set(writer.written) <= kept, "what was written before the fence is in the database that was kept"
        if max(writer.gaps) <= swap.FENCE:
            break
        restores.remove(spec, back["kept"])
    assert max(writer.gaps) <= swap.FENCE, max(writer.gaps)


SWAPPER = """
import json, os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from sauvegarde.postgres import postgres_server
from sauvegarde.restore import restore_state, restore_swap
from sauvegarde.targets.target_choice import choose_target
wanted, identifier, where, how = json.loads(sys.argv[2])
renames = []
def end():
    os.kill(os.getpid(), how)
    threading.Event().wait()  # another thread may have to take the signal first
execute, change = postgres_server.execute, restore_state.change
def counting(connection, statement, parameters=None):
    if "RENAME" in str(statement):
        renames.append(1)
        if where == "renames" and len(renames) == 2:
            end()
    execute(connection, statement, parameters)
def saying(directory, identifier, **values):
    if where == "state" and values.get("status") == restore_state.SWAPPED:
        end()
    change(directory, identifier, **values)
postgres_server.execute, restore_state.change = counting, saying
restore_swap.swap_in(choose_target(wanted["database"], wanted["connection"], wanted["directory"]), identifier)
"""


@contextlib.contextmanager
def swapping(spec, identifier, where, how):
    """A swap in a process of its own, which gives itself the signal `how` at that place."""
    values = json.dumps([spec, identifier, where, how])
    child = subprocess.Popen([sys.executable, "-c", SWAPPER, conftest.ENGINE, values])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_killed_or_frozen_between_the_renames(site, spec, how):
    """Where the process is frozen, the server itself ends the fence."""
    done = restores.fill(spec)
    with swapping(spec, done["id"], "renames", int(how)) as child:
        if how == signal.SIGKILL:
            assert child.wait() == -signal.SIGKILL
        else:
            conftest.wait_until(lambda: " T " in Path(f"/proc/{child.pid}/stat").read_text())
        # In the place of a fence that never ends, the time limit.
        counted = subprocess.run(
            [str(site.binaries / "psql"), "-XAtc", "SELECT count(*) FROM offers"],
            env=client_tools.environment(site.server, LIVE),
            stdout=subprocess.PIPE,
            timeout=300,
            check=True,
        )
        assert counted.stdout == b"3000\n"
    assert databases(site) == sorted([LIVE, "postgres", done["side"]])
    restores.swap_in(spec, done["id"])
    assert count(site) == 3000


@once
def test_the_way_back_leads_to_what_was_put_aside_last(site, spec, repository):
    """Whenever its restore had begun; and the runs say which of them is live."""
    first = restores.fill(spec)
    site.execute("DELETE FROM offers WHERE id > 10", LIVE)
    second = restores.fill(dict(spec, path=str(back_up(site, repository))))
    site.execute("DELETE FROM offers WHERE id > 5", LIVE)
    restores.swap_in(spec, second["id"])
    assert count(site) == 10
    restores.swap_in(spec, first["id"])
    assert count(site) == 3000 and restore_state.swapped(spec["directory"], LIVE).id == first["id"]
    for rows, live in ((10, second), (3000, first), (10, second)):
        restores.roll_back(spec)
        assert count(site) == rows and restore_state.swapped(spec["directory"], LIVE).id == live["id"]
    oldest = min(each["name"] for each in restores.kept(spec))
    assert restores.roll_back(spec, oldest)["restored"] == oldest and count(site) == 5
    assert restore_state.swapped(spec["directory"], LIVE) is None


@once
def test_killed_before_it_could_report_that_it_has_swapped(site, spec):
    site.execute("DELETE FROM offers WHERE id > 10", LIVE)
    first = restores.fill(spec)
    with swapping(spec, first["id"], "state", int(signal.SIGKILL)) as child:
        assert child.wait() == -signal.SIGKILL
    assert count(site) == 3000 and restores.waiting(spec) is None
    assert restore_state.swapped(spec["directory"], LIVE).id == first["id"]
    kept = restores.kept(spec)[0]["name"]
    written = {each: each.read_bytes() for each in Path(spec["directory"]).rglob("*") if each.is_file()}
    assert restores.target(spec).choose_previous() == kept
    with pytest.raises(SauvegardeError) as error:
        restores.proven(spec, first["id"])
    assert "Its state is swapped" in error.value.why
    assert {each: each.read_bytes() for each in Path(spec["directory"]).rglob("*") if each.is_file()} == written
    site.execute("INSERT INTO offers (title) VALUES ('since')", LIVE)
    restores.swap_in(spec, restores.fill(spec)["id"])
    assert count(site) == 3000
    oldest = restores.kept(spec)[-1]["name"]
    restores.roll_back(spec)
    assert count(site) == 3001 and restore_state.swapped(spec["directory"], LIVE).id == first["id"]
    restores.roll_back(spec, oldest)
    assert count(site) == 10 and restore_state.swapped(spec["directory"], LIVE) is None


def test_confirmation():
    Confirmation("elpaso@db-prod", "db-prod").require("elpaso")
    Confirmation("elpaso@db-prod", "db-prod", "production", PHRASE).require("elpaso")
    Confirmation("elpaso@db-a, elpaso@db-b", "db-a", targets=2).require("elpaso")
    for names, more in (
        ("", {}),
        ("yes", {}),
        ("elpaso@db-dev", {}),
        ("elpaso", {}),
        ("elpaso@db-prod", {"environment": "production"}),
        ("elpaso@db-prod", {"environment": "production", "phrase": "yes"}),
        ("elpaso@db-prod", {"targets": 2}),
        ("elpaso@db-prod,elpaso@db-prod", {"targets": 2}),
    ):
        with pytest.raises(SauvegardeError) as caught:
            Confirmation(names, "db-prod", **more).require("elpaso")
        assert caught.value.fix


def test_archive_must_be_whole_before_it_counts(site, spec, backup):
    archive_reader.verify(backup)
    sorted((backup / "dump").iterdir())[0].unlink()
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec)
    assert error.value.exit_code == Damaged.exit_code


@pytest.fixture()
def small(cluster):
    """A folder on a file system of its own, of 24 MiB, where the server can reach it."""
    with conftest.small_disk(cluster.folder / "small", "24m") as folder:
        yield folder


@once
def test_a_disk_that_fills_up_while_unpacking(site, spec, repository, small):
    site.execute("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 100) AS t FROM generate_series(1, 20000) i", LIVE)
    spec = dict(spec, path=str(back_up(site, repository)), directory=str(small / "restores"))
    assert "too little space" in restores.plan(spec)["obstacles"][0]["what"]
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec)
    assert "space" in str(error.value).lower()
    assert not list(small.glob("**/archive")) and disk_space.free_bytes(small) > 20 * 2**20, "the space is given back"
    assert databases(site) == [LIVE, "postgres"]


@once
def test_a_disk_that_fills_up_while_restoring(site, spec, repository, small, monkeypatch):
    """The side database goes, with its space; the live one answers."""
    place = small / "space"
    place.mkdir()
    shutil.chown(str(place), site.user)
    site.execute("CREATE TABLE big AS SELECT i, md5(i::text) AS t FROM generate_series(1, 400000) i", LIVE)
    spec = dict(spec, path=str(back_up(site, repository)))
    site.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    original = side_database.create

    def create_elsewhere(connection, name, expected):
        original(connection, name, expected)
        postgres_server.execute(connection, f"ALTER DATABASE {sql_names.quote(name)} SET TABLESPACE small")

    monkeypatch.setattr(side_database, "create", create_elsewhere)
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec)
    assert "No space left on device" in str(error.value)
    assert databases(site) == [LIVE, "postgres"]
    assert count(site) == 3000
    site.execute("DROP TABLESPACE small")
    monkeypatch.undo()
    assert restores.fill(spec)["status"] == "ready"
