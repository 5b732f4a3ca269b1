"""What breaks while a restore runs: its link, its controller, its process, its server, its disk. Each time the live
database is what it was, and the next run succeeds."""

import hashlib
import itertools
import json
import os
import statistics
import time

import pytest
from conftest import ASLEEP, DIRECTORY, GO, Node, asked, databases, go_back, restore, start_restore
from tests_support.hosts import Server, play, start

LIVE = "SELECT oid, (SELECT answer FROM live) FROM pg_database WHERE datname = 'endormi'"
DUMP = "/var/lib/postgresql/endormi.dump"


@pytest.fixture(scope="module")
def server(servers):
    """A server with a live database, and a dump of another one that comes to rest while it is restored."""
    result = servers["db15"]
    result.sql("CREATE DATABASE endormi")
    result.sql(ASLEEP, "endormi")
    result.host.check_output(f"cd / && sudo -u postgres pg_dump -Fc -f {DUMP} endormi")
    result.sql("DROP DATABASE endormi")
    result.sql("CREATE DATABASE endormi")
    result.sql("CREATE TABLE live AS SELECT 42 AS answer", "endormi")
    yield result
    result.host.check_output(f"sudo rm -f {GO} {DUMP}")


@pytest.fixture(autouse=True)
def untouched(server):
    """The live database is the same after each fault; the restore rests until `go`."""
    server.host.check_output(f"sudo rm -f {GO}")
    before = server.sql(LIVE, "endormi")
    yield
    assert server.sql(LIVE, "endormi") == before


def go(server):
    server.host.check_output(f"sudo -u postgres sh -c 'echo > {GO}'")


def runs(server, directory=DIRECTORY):
    """States of the runs of this database, oldest first."""
    texts = server.host.check_output(f"sudo sh -c 'for f in {directory}/*/state.json; do cat $f; echo ---; done'")
    collected = [json.loads(text) for text in texts.split("---") if text.strip()]
    return [each for each in collected if each["database"] == "endormi"]


def wait_until(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def asleep(server):
    """Whether the restore has come to rest."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname ~ '^endormi__restore_'"
    return server.sql(waiting) == "1"


def begin(server, **more):
    """A restore that has come to rest in the middle of its data."""
    playing = start_restore("db15", "endormi", **{"restore_path": DUMP, **more})
    playing.wait_for("db15: endormi: data")
    wait_until(lambda: asleep(server))
    return playing


def test_the_link_is_cut_and_the_controller_dies(server):
    """Faults 28 and 35. The restore goes on, is never silent, and the next one finds it."""
    playing = begin(server)
    started = len(playing.lines)
    time.sleep(12)  # long enough to be killed by whoever waits ten seconds for a sign of life
    with Node("db15").cut_off():
        playing.wait_for("no answer from the host")
    silent = len(playing.lines)
    wait_until(lambda: any("endormi: data" in line for _, line in playing.lines[silent:]))
    times = [when for when, _ in playing.lines[started - 1 :]]
    # A busy machine lengthens a pause or two.
    assert statistics.median(after - before for before, after in itertools.pairwise(times)) <= 10
    assert " tables · " in playing.output and "MiB of about" in playing.output
    playing.kill()
    first = runs(server)[-1]
    assert first["status"] == "running"
    go(server)
    wait_until(lambda: runs(server)[-1]["status"] == "ready")
    before = server.sql(LIVE, "endormi")
    second = restore("db15", "endormi", restore_path=DUMP)
    assert second.code == 0, second.output
    assert [(each["id"], each["status"]) for each in runs(server)][-1] == (first["id"], "swapped")
    assert server.sql("SELECT count(*), min(t) FROM late", "endormi").startswith("200000|")
    options = {"restore_target": "db15", "restore_database": "endormi", "restore_confirm": "endormi@db15"}
    assert play(variables=options, playbook="playbooks/rollback.yml").code == 0
    assert server.sql(LIVE, "endormi") == before


def test_the_restore_is_killed(server):
    """Fault 10."""
    playing = begin(server)
    run = runs(server)[-1]
    server.host.check_output("sudo kill -9 %s", str(run["pid"]))
    done = playing.end()
    assert done.code != 0 and "The run was killed." in done.text, done.output
    assert run["side"] in databases(server), "nobody was left to clear it up"


def test_the_server_restarts(server):
    """Fault 30; and what the killed run before left is cleared up."""
    killed = runs(server)[-1]
    playing = begin(server)
    assert killed["side"] not in databases(server) and runs(server)[-1]["cleaned"] == [killed["side"]]
    server.host.check_output("sudo pg_ctlcluster 15 main restart -m immediate")
    done = playing.end()
    assert done.code != 0 and "The restore stopped" in done.text, done.output
    assert runs(server)[-1]["status"] == "failed"


def test_the_next_run_succeeds(server):
    go(server)
    before = server.sql(LIVE, "endormi")
    done = restore("db15", "endormi", restore_path=DUMP)
    assert done.code == 0, done.output
    assert [name for name in databases(server) if "__restore_" in name] == []
    options = {"restore_target": "db15", "restore_database": "endormi", "restore_confirm": "endormi@db15"}
    assert play(variables=options, playbook="playbooks/rollback.yml").code == 0
    assert server.sql(LIVE, "endormi") == before


def test_a_transfer_is_cut_and_continued(server, tmp_path):
    """Fault 28."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(b"\0")  # no plain SQL, whatever comes behind it
        for _ in range(20):
            file.write(os.urandom(8 << 20))
    place = f"{DIRECTORY}/carried/large"
    for _ in range(5):  # a fast machine may have carried all before the link is cut
        server.host.check_output(f"sudo rm -f {place}")
        options = asked("db15", "x", {"restore_file": str(large)})
        playing = start("-v", variables=options, playbook="playbooks/restore.yml")
        Node("db15").hang_up(place)
        cut = playing.end()
        if cut.recap["db15"]["unreachable"]:
            break
    assert cut.recap["db15"]["unreachable"] == 1, cut.output
    have = int(server.host.check_output(f"sudo stat --format=%s {place}"))
    assert have < large.stat().st_size
    done = restore("db15", "x", "-v", restore_file=str(large))
    carried = int(done.text.split("bytes: ")[1].split()[0])
    assert have and carried <= large.stat().st_size - have + (16 << 20), "what was there was not carried again"
    assert "is not a dump" in done.text
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert server.host.check_output(f"sudo sha256sum {place}").split()[0] == digest
    server.host.check_output(f"sudo rm {place}")


# A full disk (fault 12) -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(server):
    """A cluster whose data lie on a disk of 120 MB; beside it there is room for little else."""
    node = Node("db15")
    with node.small_disk("/mnt/small", "120m"):
        server.host.check_output(
            "sudo -u postgres sh -c 'cd /mnt/small && mkdir restores && chmod 700 restores"
            " && /usr/lib/postgresql/15/bin/initdb -D data -X /var/lib/postgresql/small-wal --wal-segsize=1 >/dev/null'"
        )
        control = "sudo -u postgres /usr/lib/postgresql/15/bin/pg_ctl -D /mnt/small/data -w -l /mnt/small/log"
        options = "-p 5433 -c listen_addresses= -c fsync=off"
        server.host.check_output(f"cd / && {control} -o '{options}' start >/dev/null")
        result = Server(server.host, "15", port=5433)
        result.sql("CREATE DATABASE endormi")
        result.sql("CREATE TABLE live AS SELECT 42 AS answer", "endormi")
        yield result
        server.host.check_output(
            f"cd / && {control} -m immediate stop >/dev/null; sudo rm -rf /var/lib/postgresql/small-wal"
        )


SMALL = {"restore_connection": {"port": 5433}, "restore_directory": "/mnt/small/restores"}


def free(server):
    return int(server.host.check_output("df --output=avail -B1 /mnt/small | tail -n 1"))


@pytest.fixture()
def leave(small):
    """Fills the disk up but for so many bytes."""

    def fill(size):
        small.host.check_output("sudo -u postgres fallocate -l %s /mnt/small/ballast", str(free(small) - size))

    yield fill
    small.host.check_output("sudo rm -f /mnt/small/ballast")


def test_the_disk_fills_up_while_it_restores(small, leave):
    """A server that finds its disk full ends itself: the restore stops before, and gives its space back."""
    before, room = small.sql(LIVE, "endormi"), free(small)
    # One process takes the tables one after the other, the one that waits first.
    playing = begin(small, restore_jobs=1, **SMALL)
    started = small.started()
    leave(28 << 20)
    go(small)
    done = playing.end()
    assert done.code != 0 and "The restore was stopped before the disk was full: /mnt/small/data" in done.text, (
        done.output
    )
    assert databases(small) == ["endormi", "postgres"] and small.sql(LIVE, "endormi") == before
    assert small.started() == started
    small.host.check_output("sudo rm /mnt/small/ballast")
    assert free(small) > room - (10 << 20), "the space is given back"
    done = restore("db15", "endormi", restore_path=DUMP, **SMALL)
    assert done.code == 0, done.output
    assert small.sql("SELECT count(*) FROM late", "endormi") == "200000"
    back = go_back(done)
    assert back.code == 0, back.output
    assert small.sql(LIVE, "endormi") == before and runs(small, "/mnt/small/restores")[-1]["status"] == "rolled back"
    (kept,) = [name for name in databases(small) if "__before_" in name]
    options = {"restore_target": "db15", "restore_database": "endormi", "restore_kept": kept, **SMALL}
    lost = play(variables=options, playbook="playbooks/cleanup.yml")
    assert lost.code == 0 and lost.changed()["db15"] == 1, lost.output
    assert databases(small) == ["endormi", "postgres"]


def test_too_little_space_is_reported_before(small, leave):
    leave(20 << 20)
    done = restore("db15", "endormi", restore_path=DUMP, **SMALL)
    assert done.code != 0 and "BLOCKED: There is too little space on /mnt/small" in done.text, done.output
    assert "The restore needs about " in done.text and "__restore_" not in " ".join(databases(small))


@pytest.mark.parametrize(
    "room, words", [(2 << 20, "The disk is full: /mnt/small/restores/"), (100000, "too little space on the target")]
)
def test_the_disk_fills_up_while_the_archive_comes(small, archives, leave, room, words):
    """While it is unpacked; and what would not even arrive is not begun. Nothing of it stays."""
    small.host.check_output("sudo rm -rf /mnt/small/restores/carried")
    leave(room)
    before = free(small)
    done = restore("db15", "elpaso", restore_source_host="db15", **SMALL)
    assert done.code != 0 and words in done.text, done.output
    small.host.check_output("sudo rm -rf /mnt/small/restores/carried")
    assert abs(free(small) - before) < 100000
