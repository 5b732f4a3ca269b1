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
from sauvegarde import archive, kinds, postgres
from sauvegarde.errors import DAMAGED, LOCKED, SauvegardeError
from sauvegarde.restore import fetch, names, plan, run, side, state, swap

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
    cluster.execute(f"CREATE ROLE {postgres.quoted(OWNER)} LOGIN")
    name = postgres.quoted(LIVE)
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {postgres.quoted(OWNER)}")
    cluster.execute(
        f"ALTER DATABASE {name} SET timezone TO 'Europe/Paris'; COMMENT ON DATABASE {name} IS 'it''s \\ é';"
        f'ALTER DATABASE {name} SET search_path TO public, "$user"; ALTER DATABASE {name} CONNECTION LIMIT 33;'
        f"GRANT CREATE ON DATABASE {name} TO pg_monitor; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
    )
    cluster.execute(SITE, LIVE)
    cluster.execute(f"ALTER TABLE offers OWNER TO {postgres.quoted(OWNER)}", LIVE)
    yield cluster
    connection = cluster.connect()
    try:
        for (each,) in postgres.query(connection, "SELECT datname FROM pg_database WHERE NOT datistemplate"):
            if each != "postgres":
                side.drop(connection, each)
        postgres.execute(connection, f"DROP ROLE {postgres.quoted(OWNER)}")
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
        return postgres.query(connection, PROPERTIES, (name,))
    finally:
        connection.close()


def databases(cluster):
    return sorted(name for (name,) in cluster.execute("SELECT datname FROM pg_database WHERE NOT datistemplate"))


def count(cluster, database=LIVE):
    return cluster.execute("SELECT count(*) FROM offers", database)[0][0]


def test_an_archive_takes_the_place_of_the_live_database_and_gives_it_back(site, spec):
    before = properties(site, LIVE)
    site.execute("DELETE FROM offers WHERE id > 10; INSERT INTO offers (title) VALUES ('since')", LIVE)
    done = run.fill(spec)
    assert done["status"] == "ready" and done["proof"]["by"] == "fingerprint" and done["proof"]["rows"] == 3001
    assert count(site) == 11, "the live database is not touched before the swap"
    assert done["lost"] is not None and done["steps"][0]["name"] == "start"
    swapped = run.put_in_place(spec, done["id"])
    assert swapped["kept"] > names.before(LIVE, done["id"]), "it is called after its swap"
    assert count(site) == 3000 and count(site, swapped["kept"]) == 11
    assert properties(site, LIVE) == before
    assert site.execute("SELECT last_value, is_called FROM offers_id_seq", LIVE) == [(98765, True)]
    assert site.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'offers'", LIVE) == [(OWNER,)]
    assert site.execute("SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'offers'", LIVE) == [(3000,)]

    back = swap.back(site.server, LIVE, "20990101T000000Z")
    assert back["restored"] == swapped["kept"] and count(site) == 11
    assert count(site, back["kept"]) == 3000
    assert [each["name"] for each in run.make_plan(spec)["kept"]] == [back["kept"]]
    with pytest.raises(SauvegardeError):
        swap.remove(site.server, LIVE, LIVE)
    assert swap.remove(site.server, LIVE, back["kept"]) is True
    assert swap.remove(site.server, LIVE, back["kept"]) is False
    with pytest.raises(SauvegardeError) as told:
        swap.back(site.server, LIVE, "20990101T000001Z")
    assert "nothing to go back to" in told.value.what
    assert count(site) == 11


def test_twice_gives_the_same(site, spec):
    """A restore into a database that is not empty would double it."""
    for _ in range(2):
        run.put_in_place(spec, run.fill(spec)["id"])
        assert count(site) == 3000
    assert len(run.make_plan(spec)["kept"]) == 2


def test_beside_leaves_the_live_one_alone(site, spec):
    beside = dict(spec, database="x" * 63, mode="beside")
    done = run.fill(beside)
    assert run.put_in_place(beside, done["id"])["kept"] is None
    assert count(site, "x" * 63) == 3000 and count(site) == 3000
    assert "already is a database" in run.make_plan(beside)["obstacles"][0]["what"]
    assert "archive's own source" in run.make_plan(dict(spec, mode="beside"))["obstacles"][0]["what"]


def test_long_names(site, spec):
    """PostgreSQL cuts a name at 63 bytes: two that differ only beyond must not become one."""
    long = ["é" * 30 + "a", "é" * 30 + "b"]
    for name in long:
        for _ in range(2):
            wanted = dict(spec, database=name)
            run.put_in_place(wanted, run.fill(wanted)["id"])
    for name in long:
        kept = run.make_plan(dict(spec, database=name))["kept"]
        assert len(kept) == 1 and len(kept[0]["name"].encode("utf-8")) <= 63
        assert swap.back(site.server, name, "20990101T000000Z")["restored"] == kept[0]["name"]


def test_a_difference_stops_the_swap(site, spec, monkeypatch):
    """One row changed on the way: the proof names its table, the side database goes."""
    original = run.proof.against_manifest

    def tampered(server, name, *more):
        site.execute("UPDATE public.offers SET title = 'x' WHERE id = 7", name)
        return original(server, name, *more)

    monkeypatch.setattr(run.proof, "against_manifest", tampered)
    before = databases(site)
    with pytest.raises(SauvegardeError) as told:
        run.fill(spec)
    assert told.value.exit_code == DAMAGED and "offers" in told.value.why
    assert databases(site) == before


def test_a_damaged_archive_is_refused(site, spec, backup):
    for path in sorted((backup / "dump").iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        with pytest.raises(SauvegardeError) as told:
            run.fill(spec)
        assert told.value.exit_code == DAMAGED
        path.write_bytes(data)
    manifest = backup / "manifest.json"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace('"rows"', '"rows "', 1), "utf-8")
    assert run.make_plan(spec)["obstacles"]
    manifest.write_text(text, "utf-8")
    assert run.make_plan(spec)["obstacles"] == []
    assert databases(site) == [LIVE, "postgres"]


DRIVER = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.restore import run, state, swap
wanted, stop = json.loads(sys.argv[2]), sys.argv[3]
original = state.State.update
def update(self, **values):
    original(self, **values)
    if values.get("step") == stop:
        os.kill(os.getpid(), signal.SIGKILL)
state.State.update = update
run.fill(wanted)
"""
once = pytest.mark.one_host("what a killed run leaves on a server, the steps that are tested everywhere leave too")
STEPS = ["create", "data", "properties"]
OTHERS = ["clean", "read", "plan", "roles", "extensions", "pre-data", "post-data", "analyze", "prove"]


def driven(spec, stop):
    return subprocess.run([sys.executable, "-c", DRIVER, conftest.ENGINE, json.dumps(spec), stop], check=False)


@pytest.mark.parametrize("step", STEPS + [pytest.param(step, marks=once) for step in OTHERS])
def test_killed_at_any_step(site, spec, step):
    assert driven(spec, step).returncode == -signal.SIGKILL
    assert count(site) == 3000
    left = state.runs(spec["directory"], LIVE)
    assert [each["status"] for each in left] == [state.KILLED]
    done = run.fill(spec)
    assert [name for name in databases(site) if "restore" in name] == [done["side"]]
    if step not in ("clean", "read", "plan", "roles", "create"):
        assert done["cleaned"] == [left[0]["side"]]
    assert not list(Path(spec["directory"]).glob("*/work"))
    run.put_in_place(spec, done["id"])
    assert count(site) == 3000


def test_killed_while_a_child_writes(site, spec, repository):
    """pg_restore does not outlive the run that started it, and its lock falls with it."""
    site.execute("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 100) AS t FROM generate_series(1, 60000) i", LIVE)
    spec = dict(spec, path=str(back_up(site, repository)))
    child = subprocess.Popen([sys.executable, "-c", DRIVER, conftest.ENGINE, json.dumps(spec), "never"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        each["step"] == "data" for each in state.runs(spec["directory"], LIVE)
    ):
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert count(site) == 3000
    conftest.wait_until(lambda: state.runs(spec["directory"], LIVE)[0]["status"] == state.KILLED)
    done = run.fill(spec)
    assert done["status"] == "ready" and len(done["cleaned"]) == 1


def test_a_proven_run_waits_for_its_swap(site, spec):
    """Its controller died before the swap: the next one finds it, and another restore does not throw it away, nor the
    copy that it was made from."""
    assert run.ready(spec) is None
    copies = state.folder(spec["directory"]) / fetch.PLACE
    for name in ("needed", "forgotten"):
        shutil.copytree(spec["path"], str(copies / name))
        os.utime(str(copies / name), (0, 0))
    done = run.fill(dict(spec, path=str(copies / "needed")))
    assert run.ready(spec)["id"] == done["id"]
    beside = dict(spec, database="beside", mode="beside")
    run.put_in_place(beside, run.fill(beside)["id"])
    assert [each.name for each in copies.iterdir()] == ["needed"]
    run.put_in_place(spec, done["id"])
    assert list(copies.iterdir()) == []
    assert run.ready(spec) is None
    with pytest.raises(SauvegardeError):
        run.put_in_place(spec, done["id"])


def test_two_at_once(site, spec, monkeypatch):
    monkeypatch.setattr(state, "_PATIENCE", 1)
    folder = state.folder(spec["directory"])
    with state.hold(folder, LIVE), pytest.raises(SauvegardeError) as told:
        run.fill(spec)
    assert told.value.exit_code == LOCKED
    assert run.fill(spec)["status"] == "ready"


def test_the_server_restarts_in_the_middle(site, spec, monkeypatch):
    original = run.load.Target.ready_for_data

    def restart(self):
        site.stop("immediate")
        site.start()
        original(self)

    monkeypatch.setattr(run.load.Target, "ready_for_data", restart)
    with pytest.raises((SauvegardeError, psycopg2.Error)):
        run.fill(spec)
    monkeypatch.undo()
    assert count(site) == 3000
    run.put_in_place(spec, run.fill(spec)["id"])
    assert count(site) == 3000
    assert not [name for name in databases(site) if "__restore_" in name]


class Writer(threading.Thread):
    """A client that inserts and counts in a loop, connecting anew after an error. `gaps`: seconds without an answer."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.stop = cluster, threading.Event()
        self.gaps, self.counts, self.written = [], [], []

    def run(self):
        connection = None
        last = time.monotonic()
        number = 0
        while not self.stop.is_set():
            try:
                connection = connection or self.cluster.connect(LIVE)
                number += 1
                postgres.execute(connection, "INSERT INTO offers (title) VALUES (%s)", (f"written {number}",))
                self.written.append(number)
                self.counts.append(postgres.value(connection, "SELECT count(*) FROM offers WHERE title LIKE 'Offre%'"))
                self.gaps.append(time.monotonic() - last)
                last = time.monotonic()
            except (psycopg2.Error, SauvegardeError):
                connection = None
        if connection:
            connection.close()


def test_a_writing_client_sees_a_short_gap_and_never_half_a_database(site, spec):
    done = run.fill(spec)
    idle = [site.connect(LIVE) for _ in range(5)]
    writer = Writer(site)
    writer.start()
    try:
        time.sleep(1)
        swapped = run.put_in_place(spec, done["id"])
        time.sleep(1)
        back = swap.back(site.server, LIVE, "20990101T000000Z")
        time.sleep(1)
    finally:
        writer.stop.set()
        writer.join()
        for each in idle:
            each.close()
    assert swapped["ended"] >= 5 and back["restored"] == swapped["kept"]
    assert max(writer.gaps) <= 2.0, max(writer.gaps)
    assert set(writer.counts) == {3000}
    assert len(writer.gaps) > 50
    both = "SELECT substr(title, 9)::int FROM offers WHERE title LIKE 'written%'"
    kept = {n for (n,) in site.execute(both, LIVE)} | {n for (n,) in site.execute(both, back["kept"])}
    assert set(writer.written) <= kept, "what was written before the fence is in the database that was kept"


SWAPPER = """
import json, os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from sauvegarde import postgres
from sauvegarde.restore import run, state
wanted, identifier, where, how = json.loads(sys.argv[2])
renames = []
def end():
    os.kill(os.getpid(), how)
    threading.Event().wait()  # another thread may have to take the signal first
execute, change = postgres.execute, state.change
def counting(connection, statement, parameters=None):
    if "RENAME" in str(statement):
        renames.append(1)
        if where == "renames" and len(renames) == 2:
            end()
    execute(connection, statement, parameters)
def saying(directory, identifier, **values):
    if where == "state" and values.get("status") == state.SWAPPED:
        end()
    change(directory, identifier, **values)
postgres.execute, state.change = counting, saying
run.put_in_place(run.settled(wanted), identifier)
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
    done = run.fill(spec)
    with swapping(spec, done["id"], "renames", int(how)) as child:
        if how == signal.SIGKILL:
            assert child.wait() == -signal.SIGKILL
        else:
            conftest.wait_until(lambda: " T " in Path(f"/proc/{child.pid}/stat").read_text())
        started = time.monotonic()
        counted = subprocess.run(
            [str(site.binaries / "psql"), "-XAtc", "SELECT count(*) FROM offers"],
            env=postgres.environment(site.server, LIVE),
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
        assert counted.stdout == b"3000\n"
        assert time.monotonic() - started < 20  # swap.FENCE, on a busy machine
    assert databases(site) == sorted([LIVE, "postgres", done["side"]])
    run.put_in_place(spec, done["id"])
    assert count(site) == 3000


def test_the_way_back_leads_to_what_was_put_aside_last(site, spec, repository):
    """Whenever its restore had begun; and the runs say which of them is live."""
    first = run.fill(spec)
    site.execute("DELETE FROM offers WHERE id > 10", LIVE)
    second = run.fill(dict(spec, path=str(back_up(site, repository))))
    site.execute("DELETE FROM offers WHERE id > 5", LIVE)
    run.put_in_place(spec, second["id"])
    assert count(site) == 10
    run.put_in_place(spec, first["id"])
    assert count(site) == 3000 and state.swapped(spec["directory"], LIVE)["id"] == first["id"]
    for rows, live in ((10, second), (3000, first), (10, second)):
        run.put_back(spec)
        assert count(site) == rows and state.swapped(spec["directory"], LIVE)["id"] == live["id"]
    oldest = min(each["name"] for each in run.list_kept(spec))
    assert run.put_back(spec, oldest)["restored"] == oldest and count(site) == 5
    assert state.swapped(spec["directory"], LIVE) == {}


def test_killed_before_it_could_say_that_it_has_swapped(site, spec):
    site.execute("DELETE FROM offers WHERE id > 10", LIVE)
    first = run.fill(spec)
    with swapping(spec, first["id"], "state", int(signal.SIGKILL)) as child:
        assert child.wait() == -signal.SIGKILL
    assert count(site) == 3000 and run.ready(spec) is None
    assert state.swapped(spec["directory"], LIVE)["id"] == first["id"]
    kept = run.list_kept(spec)[0]["name"]
    written = {each: each.read_bytes() for each in Path(spec["directory"]).rglob("*") if each.is_file()}
    assert run.put_back(spec, check=True) == {"restored": kept}
    with pytest.raises(SauvegardeError) as told:
        run.put_in_place(spec, first["id"], check=True)
    assert "Its state is swapped" in told.value.why
    assert {each: each.read_bytes() for each in Path(spec["directory"]).rglob("*") if each.is_file()} == written
    site.execute("INSERT INTO offers (title) VALUES ('since')", LIVE)
    run.put_in_place(spec, run.fill(spec)["id"])
    assert count(site) == 3000
    oldest = run.list_kept(spec)[-1]["name"]
    run.put_back(spec)
    assert count(site) == 3001 and state.swapped(spec["directory"], LIVE)["id"] == first["id"]
    run.put_back(spec, oldest)
    assert count(site) == 10 and state.swapped(spec["directory"], LIVE) == {}


def test_confirmation():
    plan.check_confirmation("elpaso@db-prod", "elpaso", "db-prod")
    plan.check_confirmation("elpaso@db-prod", "elpaso", "db-prod", "production", plan.SECURITY_WORD)
    plan.check_confirmation("elpaso@db-a, elpaso@db-b", "elpaso", "db-a", targets=2)
    for said, more in (
        ("", {}),
        ("yes", {}),
        ("elpaso@db-dev", {}),
        ("elpaso", {}),
        ("elpaso@db-prod", {"environment": "production"}),
        ("elpaso@db-prod", {"environment": "production", "word": "yes"}),
        ("elpaso@db-prod", {"targets": 2}),
        ("elpaso@db-prod,elpaso@db-prod", {"targets": 2}),
    ):
        with pytest.raises(SauvegardeError) as told:
            plan.check_confirmation(said, "elpaso", "db-prod", **more)
        assert told.value.fix


def test_archive_must_be_whole_before_it_counts(site, spec, backup):
    archive.verify(backup)
    sorted((backup / "dump").iterdir())[0].unlink()
    with pytest.raises(SauvegardeError) as told:
        run.fill(spec)
    assert told.value.exit_code == DAMAGED


@pytest.fixture()
def small(cluster):
    """A folder on a file system of its own, of 24 MiB, where the server can reach it."""
    with conftest.small_disk(cluster.folder / "small", "24m") as folder:
        yield folder


def test_a_disk_that_fills_up_while_unpacking(site, spec, repository, small):
    site.execute("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 100) AS t FROM generate_series(1, 20000) i", LIVE)
    spec = dict(spec, path=str(back_up(site, repository)), directory=str(small / "restores"))
    assert "too little space" in run.make_plan(spec)["obstacles"][0]["what"]
    with pytest.raises(SauvegardeError) as told:
        run.fill(spec)
    assert "space" in str(told.value).lower()
    assert not list(small.glob("**/archive")) and archive.free_bytes(small) > 20 * 2**20, "the space is given back"
    assert databases(site) == [LIVE, "postgres"]


def test_a_disk_that_fills_up_while_restoring(site, spec, repository, small, monkeypatch):
    """The side database goes, with its space; the live one answers."""
    place = small / "space"
    place.mkdir()
    shutil.chown(str(place), site.user)
    site.execute("CREATE TABLE big AS SELECT i, md5(i::text) AS t FROM generate_series(1, 400000) i", LIVE)
    spec = dict(spec, path=str(back_up(site, repository)))
    site.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    original = side.create

    def there(connection, name, wanted):
        original(connection, name, wanted)
        postgres.execute(connection, f"ALTER DATABASE {postgres.quoted(name)} SET TABLESPACE small")

    monkeypatch.setattr(run.side, "create", there)
    with pytest.raises(SauvegardeError) as told:
        run.fill(spec)
    assert "No space left on device" in str(told.value)
    assert databases(site) == [LIVE, "postgres"]
    assert count(site) == 3000
    site.execute("DROP TABLESPACE small")
    monkeypatch.undo()
    assert run.fill(spec)["status"] == "ready"
