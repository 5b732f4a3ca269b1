"""The stock commands of a manifest, as written, on a host that has PostgreSQL and nothing of ours."""

import base64

import pytest
from tests_support.hosts import lab_host

ROWS = (
    'SELECT count(*), sum(hashtext(t::text)::bigint) FROM "l\'été"."-offres ""$(id)"" %" t UNION ALL '
    'SELECT n, 0 FROM (SELECT sum("count")::bigint AS n FROM "l\'été"."par jour") m UNION ALL '
    'SELECT last_value, 0 FROM "l\'été"."-offres ""$(id)"" %_id_seq"'
)


@pytest.mark.parametrize("name", ["db96", "db13", "db15", "db17"])
def test_by_hand(everyone, servers, database, name):
    one, bare = everyone[name], lab_host("bare")
    assert not bare.file("/usr/local/lib/sauvegarde").exists
    label = one.labels()[-1]
    manifest = one.manifest(label=label)
    data = one.root(f"tar -C /var/backups/sauvegarde/elpaso -c {label} | base64 -w0")
    bare.check_output("sudo rm -rf /tmp/hand && mkdir -m 755 /tmp/hand")
    for start in range(0, len(data), 90000):
        bare.check_output("printf %%s %s >> /tmp/hand/tar", data[start : start + 90000])
    bare.check_output("base64 -d /tmp/hand/tar | sudo tar -xC /tmp/hand && sudo chown -R postgres: /tmp/hand")
    assert base64.b64decode(data)[:10].decode("ascii", "replace")
    lines = "\n".join(manifest["restore_by_hand"]["local"])
    done = bare.run("sudo -u postgres sh -euc %s", f"cd /tmp/hand/{label}\n{lines}")
    assert done.rc == 0, done.stderr
    try:
        assert servers["bare"].sql(ROWS, database) == servers[name].sql(ROWS, database)
        owner = "SELECT datdba::regrole FROM pg_database WHERE datname = current_database()"
        assert servers["bare"].sql(owner, database) == '"géo ""tribu"""'
        assert servers["bare"].sql("SHOW timezone", database) == "Europe/Paris"
    finally:
        servers["bare"].sql("DROP DATABASE IF EXISTS " + '"' + database.replace('"', '""') + '"')
