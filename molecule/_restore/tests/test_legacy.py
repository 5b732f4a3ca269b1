"""The real 9.6 production dump through the playbook: custom and plain, with and without its roles, on 13, 15, 17."""

import re

import pytest
from tests_support.hosts import play

HOSTS = ["db13", "db15", "db17"]
CASES = [
    ("elpaso-9.6.dump", True),
    ("elpaso-9.6.dump", False),
    ("elpaso-9.6.sql.gz", True),
    ("elpaso-9.6.sql.gz", False),
]


def restore(host, file, **more):
    return play(
        variables={
            "restore_target": host,
            "restore_database": "elpaso",
            "restore_file": str(file),
            "restore_confirm": f"elpaso@{host}",
            **more,
        },
        playbook="playbooks/restore.yml",
    )


def fingerprint(server, legacy, database="elpaso"):
    """What the legacy folder's own query says of a database."""
    query = (legacy / "fingerprint.sql").read_text("utf-8")
    return server.host.check_output(
        "cd / && printf %%s %s | sudo -u postgres %s -XAtq -F '\t' -v ON_ERROR_STOP=1 -d %s",
        query,
        server.psql,
        database,
    )


def forget(server):
    """The server without any database or role of a restore."""
    for name in server.sql("SELECT datname FROM pg_database WHERE datname ~ '^elpaso'").splitlines():
        server.sql(f'DROP DATABASE "{name}"')
    server.sql('DROP ROLE IF EXISTS geotribu, lecture, "elgeopaso-db-uzr"')


@pytest.fixture(params=HOSTS)
def server(request, servers):
    found = servers[request.param]
    found.name = request.param
    yield found
    forget(found)


@pytest.mark.parametrize("name, given", CASES)
def test_nothing_is_lost(server, legacy, name, given):
    more = {"restore_missing_roles": "create"}
    if given:
        server.host.check_output(
            "printf %%s %s | sudo -u postgres tee /var/lib/postgresql/globals.sql",
            (legacy / "globals-9.6.sql").read_text("utf-8"),
        )
        more = {"restore_globals": "/var/lib/postgresql/globals.sql"}
    if name.endswith(".gz"):
        more["restore_locale"] = "fr_FR.UTF-8"
    done = restore(server.name, legacy / name, **more)
    assert done.code == 0, done.output
    assert fingerprint(server, legacy) == (legacy / "fingerprint-9.6.tsv").read_text("utf-8").strip("\n")
    assert re.search(r"elpaso: (data|post-data|analyze)", done.output), "its progress was shown"
    assert (
        server.sql(
            "SELECT pg_get_userbyid(datdba), datcollate, shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE datname = 'elpaso'"
        )
        == "geotribu|fr_FR.UTF-8|Base de production El Géo Paso"
    )
    assert server.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'geotribu'") == ("t" if given else "f")
    assert server.sql("SELECT count(*) FROM pg_indexes WHERE schemaname IN ('georezo', 'reseau')", "elpaso") == "16"
    assert server.sql("SELECT has_table_privilege('lecture', 'jobs_offer', 'SELECT')", "elpaso") == "t"
    assert server.sql("SELECT postgis_full_version() LIKE '%need upgrade%'", "elpaso") == "f"


def test_without_confirmation_nothing_happens(server, legacy):
    before = server.sql("SELECT datname FROM pg_database ORDER BY 1")
    for more in (
        {"restore_confirm": ""},
        {"restore_confirm": "yes"},
        {"restore_confirm": "elpaso@elsewhere"},
        {"sauvegarde_environment": "production"},
    ):
        done = restore(server.name, legacy / "elpaso-9.6.dump", restore_missing_roles="create", **more)
        assert done.code != 0
        assert "restore_confirm=elpaso@" in done.text or "overwrite production" in done.text
    assert server.sql("SELECT datname FROM pg_database ORDER BY 1") == before
    for target in ("all", "postgresql", "db13:db15"):
        assert restore(target, legacy / "elpaso-9.6.dump").code != 0


def test_the_plan_alone_changes_nothing(server, legacy):
    before = server.sql("SELECT datname, datdba FROM pg_database ORDER BY 1")
    done = play(
        "--tags=plan",
        variables={
            "restore_target": server.name,
            "restore_database": "elpaso",
            "restore_file": str(legacy / "elpaso-9.6.dump"),
        },
        playbook="playbooks/restore.yml",
    )
    assert done.code == 0, done.output
    assert "Roles are missing on the target: geotribu, lecture." in done.text
    assert server.sql("SELECT datname, datdba FROM pg_database ORDER BY 1") == before


def test_back_and_clean_up(server, legacy):
    server.sql("CREATE DATABASE elpaso")
    server.sql("CREATE TABLE live AS SELECT 42 AS answer", "elpaso")
    assert restore(server.name, legacy / "elpaso-9.6.dump", restore_missing_roles="create").code == 0
    assert server.sql("SELECT to_regclass('live') IS NULL", "elpaso") == "t"
    said = {"restore_target": server.name, "restore_database": "elpaso", "restore_confirm": f"elpaso@{server.name}"}
    back = play(variables=said, playbook="playbooks/rollback.yml")
    assert back.code == 0, back.output
    assert server.sql("SELECT answer FROM live", "elpaso") == "42"
    kept = server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'elpaso\\_\\_before%'")
    gone = play(variables=dict(said, restore_kept=kept), playbook="playbooks/cleanup.yml")
    assert gone.code == 0 and gone.changed()[server.name] == 1
    assert server.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'elpaso\\_\\_%'") == "0"
    none = play(variables=said, playbook="playbooks/rollback.yml")
    assert none.code != 0 and "nothing to go back to" in none.text
