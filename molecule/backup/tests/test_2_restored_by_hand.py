"""The stock commands of the manifests, as written, on a host that has PostgreSQL and nothing of ours."""

import json

import pytest
from tests_support.hosts import lab_host

ROWS = (
    'SELECT count(*), sum(hashtext(t::text)::bigint) FROM "l\'été"."-offres ""$(id)"" %" t UNION ALL '
    'SELECT n, 0 FROM (SELECT sum("count")::bigint AS n FROM "l\'été"."par jour") m UNION ALL '
    'SELECT last_value, 0 FROM "l\'été"."-offres ""$(id)"" %_id_seq"'
)


OWNER = '"-géo ""tribu"""'
PASSWORD = "SELECT rolpassword FROM pg_authid WHERE oid = $$" + OWNER + "$$::regrole"
# The fingerprint of the globals on the host that restores by hand, which has no engine: over the network.
SUMS = """
import json, re, sys
launcher = open("/usr/local/sbin/sauvegarde").read()
sys.path.insert(0, re.search("/usr/local/lib/sauvegarde/engine-[0-9a-f]+", launcher).group())
from sauvegarde.backup.kinds import globals
from sauvegarde.postgres import fingerprint, postgres_server
server = {"host": "bare", "user": "sauvegarde", "passfile": "/etc/sauvegarde/passfiles/globals"}
connection = postgres_server.connect(postgres_server.Server.from_values(server), "postgres")
fingerprint.pin(connection)
print(json.dumps(globals.take(connection, True)[0]["tables"]))
"""
RESTIC = "RESTIC_PASSWORD=20261124 restic --no-cache --no-lock -q -r /srv/rest/{}"


def carry(source, folder, bare):
    """Copy a folder from a host to the one that restores by hand, into a new one of the superuser's; its path there."""
    data = source.check_output("sudo sh -c %s", f"tar -C {folder} -c . | base64 -w0")
    existing = bare.check_output("mktemp -d /tmp/hand.XXXXXX")
    for start in range(0, len(data), 90000):
        bare.check_output("printf %%s %s >> %s/tar", data[start : start + 90000], existing)
    bare.check_output("cd %s && base64 -d tar | sudo tar -x && sudo chown -R postgres: .", existing)
    return existing


def by_hand(bare, folder, lines):
    done = bare.run("sudo -u postgres sh -euc %s", "\n".join([f"cd {folder}", *lines]))
    assert done.rc == 0, done.stderr


@pytest.mark.parametrize(("name", "form"), [("db96", "local"), ("db13", "local"), ("db15", "local"), ("db17", "plain")])
def test_by_hand(everyone, servers, repository_host, database, name, form):
    """First the globals, which make the role, then the database: as it lies on its host, or as restic gives it back."""
    one, bare, server = everyone[name], lab_host("bare"), servers["bare"]
    assert not bare.file("/usr/local/lib/sauvegarde").exists
    source, folder = one.host, f"/var/backups/sauvegarde/elpaso/{one.labels()[-1]}"
    if form == "plain":
        source, restic = repository_host.host, RESTIC.format(name)
        folder = source.check_output("mktemp -d")
        source.check_output("sudo sh -c %s", f"{restic} restore latest --tag job=elpaso --target {folder}")
    manifest = json.loads(source.check_output("sudo cat %s/manifest.json", folder))
    label = one.labels("globals")[-1]
    of_globals = one.manifest("globals", label)
    # The role of the jobs was in a group there, which nobody has taken it out of, where it is no superuser.
    same = ["roles", "role_settings", "passwords"] + (["memberships"] if name in ("db15", "db17") else [])
    try:
        by_hand(
            bare,
            carry(one.host, f"/var/backups/sauvegarde/globals/{label}", bare),
            of_globals["restore_by_hand"]["local"],
        )
        assert server.sql(PASSWORD) == servers[name].sql(PASSWORD) != ""
        sums = json.loads(everyone["db17"].host.check_output("sudo python3 -I -c %s", SUMS))
        for part in same:
            assert sums[part] == of_globals["fingerprint"]["tables"][part], f"{part} of {name}, on 17"
        by_hand(bare, carry(source, folder, bare), manifest["restore_by_hand"][form])
        assert server.sql(ROWS, database) == servers[name].sql(ROWS, database)
        owner = "SELECT datdba::regrole FROM pg_database WHERE datname = current_database()"
        assert server.sql(owner, database) == OWNER
        assert server.sql("SHOW timezone", database) == "Europe/Paris"
    finally:
        server.sql(f"DROP DATABASE IF EXISTS {quoted(database)}")
        server.sql(f"DROP ROLE IF EXISTS {OWNER}")


def quoted(name):
    return '"' + name.replace('"', '""') + '"'
