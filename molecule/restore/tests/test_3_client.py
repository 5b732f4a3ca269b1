"""A site that goes on writing while its database is swapped and swapped back."""

import json
from pathlib import Path

import pytest
from conftest import databases, restore
from tests_support.hosts import play

STOP = "/var/lib/postgresql/stop"
OUT = "/var/lib/postgresql/client.json"


@pytest.fixture()
def client(servers):
    """Stops the client and returns what it saw."""
    host = servers["db15"].host
    text = (Path(__file__).parent / "client.py").read_text()
    host.check_output("printf %%s %s | sudo -u postgres tee /var/lib/postgresql/client.py", text)

    def stop():
        host.check_output(f"sudo touch {STOP}")
        host.check_output(f"sudo sh -c 'for i in $(seq 3000); do test -s {OUT} && exit; sleep 0.1; done; exit 1'")
        return json.loads(host.check_output(f"sudo cat {OUT}"))

    host.check_output(
        "sudo systemd-run --quiet --collect --uid=postgres --unit=client sh -c %s",
        f"python3 /var/lib/postgresql/client.py elpaso {STOP} > {OUT}",
    )
    yield stop
    host.check_output(f"sudo sh -c 'touch {STOP}; systemctl stop client; rm -f {STOP} {OUT}'")


def written(server, database):
    rows = server.sql("SELECT substr(title, 9) FROM offers WHERE title LIKE 'written %'", database)
    return set(map(int, rows.split()))


def test_a_swap_and_a_rollback_under_a_site_that_writes(servers, archives, client):
    server = servers["db15"]
    done = restore("db15", "elpaso", restore_source_host="db15")
    assert done.code == 0, done.output
    (kept,) = [name for name in databases(server) if name.startswith("elpaso__")]
    first = written(server, kept)
    options = {"restore_target": "db15", "restore_database": "elpaso", "restore_confirm": "elpaso@db15"}
    back = play(variables=options, playbook="playbooks/rollback.yml")
    assert back.code == 0, back.output
    seen = client()
    assert len(seen["fences"]) == 2, seen["fences"]
    # How short they are is measured in tests/engine, in rounds; the server ends a fence that takes longer.
    assert max(seconds for _, seconds in seen["fences"]) <= 60, seen["fences"]
    assert seen["counts"] == [3000], "never an empty or half database"
    # What was written before the first fence is in the database that was kept, all the rest in one of the two.
    assert {number for number in seen["written"] if number <= seen["fences"][0][0]} <= first
    (kept,) = [name for name in databases(server) if name.startswith("elpaso__")]
    assert set(seen["written"]) <= written(server, "elpaso") | written(server, kept)
    assert len(seen["written"]) > 100
    server.sql(f"DROP DATABASE \"{kept}\"; DELETE FROM offers WHERE title LIKE 'written %'", "elpaso")
