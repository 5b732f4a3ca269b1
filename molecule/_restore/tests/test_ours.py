"""Our own archives from host to host through the playbooks: 13 to 15 to 17, and beside itself."""

import pytest
from test_legacy import fingerprint, forget, restore
from tests_support.hosts import play


@pytest.fixture()
def clean(servers):
    yield servers
    for server in servers.values():
        forget(server)


def back_up(host):
    done = play(f"--limit={host}", playbook="playbooks/backup.yml")
    assert done.code == 0, done.output


def carry(source, target, **more):
    return play(
        variables={
            "restore_target": target,
            "restore_source_host": source,
            "restore_database": "elpaso",
            "restore_confirm": f"elpaso@{target}",
            **more,
        },
        playbook="playbooks/restore.yml",
    )


def test_from_13_to_15_to_17(clean, legacy):
    wanted = (legacy / "fingerprint-9.6.tsv").read_text("utf-8").strip("\n")
    first = restore("db13", legacy / "elpaso-9.6.dump", restore_missing_roles="create")
    assert first.code == 0, first.output
    clean["db13"].sql(
        "ALTER DATABASE elpaso SET timezone TO 'Europe/Paris'; ALTER ROLE geotribu LOGIN PASSWORD 'canary'"
    )
    # An edit of a row that PostGIS ships: no dump ever holds it.
    clean["db13"].sql("UPDATE spatial_ref_sys SET proj4text = '+proj=utm' WHERE srid = 32631", "elpaso")
    for source, target in (("db13", "db15"), ("db15", "db17")):
        back_up(source)
        done = carry(source, target)
        assert done.code == 0, done.output
        assert "by fingerprint" in done.text
        server = clean[target]
        assert fingerprint(server, legacy) == wanted
        assert (
            server.sql(
                "SELECT pg_get_userbyid(datdba), datcollate, shobj_description(d.oid, 'pg_database'), setconfig"
                " FROM pg_database d JOIN pg_db_role_setting ON setdatabase = d.oid WHERE datname = 'elpaso'"
            )
            == "geotribu|fr_FR.UTF-8|Base de production El Géo Paso|{TimeZone=Europe/Paris}"
        )
        assert server.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'geotribu'") == "t", "with its globals"
        assert server.sql("SELECT proj4text FROM spatial_ref_sys WHERE srid = 32631", "elpaso").strip() == "+proj=utm"
        assert "canary" not in done.output


def test_beside_itself_and_by_time(clean, legacy):
    assert restore("db15", legacy / "elpaso-9.6.sql.gz", restore_missing_roles="create").code == 0
    back_up("db15")
    before = clean["db15"].sql("SELECT oid FROM pg_database WHERE datname = 'elpaso'")
    done = carry("db15", "db15", restore_mode="beside", restore_target_database="elpaso_yesterday")
    assert done.code == 0, done.output
    wanted = (legacy / "fingerprint-9.6.tsv").read_text("utf-8").strip("\n")
    assert fingerprint(clean["db15"], legacy, "elpaso_yesterday") == wanted
    assert clean["db15"].sql("SELECT oid FROM pg_database WHERE datname = 'elpaso'") == before
    none = carry("db15", "db15", restore_point="2001-01-01")
    assert none.code != 0 and "There is no archive of elpaso at 2001-01-01" in none.text
    newer = carry("db15", "db13")
    assert newer.code != 0 and "server is older" in newer.text
