"""What a restore refuses, and the plan that says all of it at once; what a site checks for itself before the swap."""

import pytest
from conftest import databases, on_all, restore
from tests_support.hosts import play

pytestmark = pytest.mark.usefixtures("archives")


@pytest.fixture(autouse=True)
def untouched(servers):
    """Nothing that is refused leaves anything."""
    before = on_all(databases, servers.values())
    yield
    assert on_all(databases, servers.values()) == before


def plan(host, **more):
    """The plan's lines, folded into one."""
    done = restore(host, "elpaso", "--tags=plan", **more)
    assert done.code == 0, done.output
    return done.text


def test_everything_that_stops_it_is_reported_at_once(servers):
    """Faults 31 and 7: an archive of 15 and PostGIS 3.3 onto 13 and 3.1, which lacks an extension besides."""
    control = "/usr/share/postgresql/13/extension/hstore.control"
    servers["db13"].host.check_output(f"sudo mv {control} {control}.off")
    try:
        options = plan("db13", restore_source_host="db15", restore_locale="xx_XX", restore_confirm="elpaso@db15")
    finally:
        servers["db13"].host.check_output(f"sudo mv {control}.off {control}")
    for words in (
        "The target's server is older than the archive's.",
        "The target's PostGIS is older than the archive's.",
        "EXTENSION hstore cannot be restored on this server.",
        "The target lacks the locale xx_XX.",
        "This is db13, but another host was confirmed.",
    ):
        assert words in options.replace("''", "'"), options
    assert options.count("Fix: ") >= 5
    addresses = {name: server.host.backend.get_variables()["ansible_host"] for name, server in servers.items()}
    assert f"elpaso on db15 (primary) at {addresses['db15']}, PostgreSQL 15." in options and "Age:" in options
    assert f"Target: elpaso on db13 (primary) at {addresses['db13']}, " in options


@pytest.mark.parametrize(
    "options, more, words",
    [
        (["--limit=db17"], {"restore_source_host": "db15"}, "db15 was not asked for its archive"),
        ([], {"restore_file": "/a/x", "restore_globals": "/b/x"}, "give them names that differ"),
        (["--check"], {"restore_source_host": "db15"}, "--check brings no archive to the target"),
    ],
)
def test_what_cannot_come(options, more, words):
    done = restore("db17", "elpaso", "--tags=plan", *options, **more)
    assert done.code != 0 and words in done.text, done.output


def test_a_server_elsewhere(servers):
    """The connection leads to another host than the one that was named."""
    address = servers["db13"].host.check_output("hostname -I").split()[0]
    settings = "ALTER SYSTEM SET listen_addresses = '*'"
    hba = "/etc/postgresql/13/main/pg_hba.conf"
    host = servers["db13"].host
    host.check_output(f"sudo cp -p {hba} {hba}.before && echo 'host all postgres samenet trust' | sudo tee -a {hba}")
    servers["db13"].sql(settings)
    host.check_output("sudo pg_ctlcluster 13 main restart")
    try:
        connection = {"host": address, "user": "postgres"}
        options = plan("db15", restore_source_host="db96", restore_target_database="x", restore_connection=connection)
        assert (
            "The target''s server is not on this host." in options or "target's server is not on this host" in options
        )
    finally:
        servers["db13"].sql("ALTER SYSTEM RESET listen_addresses")
        host.check_output(f"sudo mv {hba}.before {hba} && sudo pg_ctlcluster 13 main restart")


@pytest.mark.parametrize(
    "more, words",
    [
        ({"restore_confirm": ""}, "Nothing was confirmed."),
        ({"restore_confirm": "yes"}, "The replacement of elpaso@db15 was not confirmed."),
        ({"sauvegarde_environment": "production"}, "restore_production='overwrite production'"),
    ],
)
def test_what_was_not_confirmed(archives, more, words):
    """Fault 27: one target it is, whatever else the command line says."""
    done = restore("db15", "elpaso", "--limit=all", restore_path=archives["db15"], **more)
    assert done.code != 0 and words in done.text.replace("''", "'"), done.output
    assert set(done.recap) == {"db15"}


@pytest.mark.parametrize("target, limit", [("all", "all"), ("postgresql", "all"), ("db1*", "all"), ("db13,db51", "")])
def test_a_typo_reaches_no_other_host(target, limit):
    """Fault 27."""
    done = restore(target, "elpaso", *([f"--limit={limit}"] if limit else []), restore_source_host="db15")
    assert done.code != 0 and "several by their own names only" in done.text
    # What is checked first are the options, on the controller.
    assert all(counts["ok"] <= 1 and counts["changed"] == 0 for counts in done.recap.values()), done.output
    assert done.output.count("TASK [") == done.output.count("TASK [Check the "), done.output


def test_more_than_one_that_are_not_each_named():
    done = restore("db15,db17", "elpaso", restore_source_host="db13", restore_confirm="elpaso@db15")
    assert done.recap["db15"]["failed"] == done.recap["db17"]["failed"] == 1
    assert "was not confirmed" in done.text


DAMAGES = {
    "one bit": (
        "f=$(ls $PWD/dump/*.zst | head -n 1); printf '\\377' | dd of=$f bs=1 seek=30 conv=notrunc status=none",
        "BLOCKED: The archive is damaged: /var/lib/postgresql/sauvegarde/carried/db15-elpaso-{}",
    ),
    "no manifest": ("rm manifest.json", "Damaged: elpaso {}"),
}


@pytest.mark.parametrize("damage, words", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_archive(servers, archives, damage, words):
    """Faults 16 and 17: never taken for whole, and said by its name, before anything is restored."""
    path, host = archives["db15"], servers["db15"].host
    host.check_output(f"sudo cp -a {path} /var/backups/whole && sudo sh -ec %s", f"cd {path}; {damage}")
    try:
        done = restore("db15", "elpaso", restore_source_host="db15", restore_point=path.rsplit("/", 1)[1])
        assert done.code != 0
        assert words.format(path.rsplit("/", 1)[1]) in done.text.split("TASK [Restore into")[0], done.output
    finally:
        host.check_output(f"sudo rm -rf {path} && sudo mv /var/backups/whole {path}")


def test_a_check_of_the_site_stops_the_swap(servers):
    """It is asked about the side database, as its own user and with its own environment."""
    server = servers["db15"]
    before = server.sql("SELECT oid FROM pg_database WHERE datname = 'elpaso'")
    counted = "test \"$(psql -XAtc 'SELECT count(*) FROM offers')\" = 3000 && id -un"
    good = {"argv": ["sh", "-ec", counted], "user": "postgres", "environment": {"PGDATABASE": "{database}"}}
    bad = {"argv": ["psql", "-Xd", "{database}", "-c", "SELECT 1 FROM nowhere"], "chdir": "/tmp"}
    done = restore("db15", "elpaso", restore_source_host="db15", restore_checks=[good, bad])
    assert done.code != 0 and "nowhere" in done.text and done.text.count("elpaso__restore_") > 0, done.output
    assert server.sql("SELECT oid FROM pg_database WHERE datname = 'elpaso'") == before
    (side,) = [name for name in databases(server) if "__restore_" in name]
    options = plan("db15", restore_source_host="db15")
    assert f"Side: {side} (" in options
    # The same again without the check would take it over; here it is thrown away by its name.
    lost = {"restore_target": "db15", "restore_database": "elpaso", "restore_kept": side}
    assert play(variables=lost, playbook="playbooks/cleanup.yml").code == 0
