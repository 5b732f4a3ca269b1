"""What cannot be on such hosts is said, with who or what stands in the way; nothing of theirs is changed for it."""

import pytest
from conftest import AS_OPS
from tests_support.hosts import play

CONF = "/etc/postgresql/15/main/postgresql.conf"


def converge(host, **variables):
    return play(f"--limit={host}", "--tags=postgresql", variables={**AS_OPS, **variables})


@pytest.fixture
def legacy(servers):
    return servers["legacy"]


@pytest.mark.parametrize(
    ("what", "before", "after", "says"),
    [
        (
            "ALTER SYSTEM",
            "runuser -u postgres -- psql -Xqc \"ALTER SYSTEM SET maintenance_work_mem = '32MB'\"",
            "runuser -u postgres -- psql -Xqc 'ALTER SYSTEM RESET maintenance_work_mem'",
            (
                'maintenance_work_mem is "32MB" by /var/lib/postgresql/15/main/postgresql.auto.conf, line',
                "All else went through",
            ),
        ),
        (
            "ALTER SYSTEM of the port",
            "runuser -u postgres -- psql -Xqc 'ALTER SYSTEM SET port = 5444'",
            "runuser -u postgres -- psql -Xq -p 5432 -c 'ALTER SYSTEM RESET port'",
            ('port is "5444" by /var/lib/postgresql/15/main/postgresql.auto.conf, line', "postgresql_port"),
        ),
        (
            "a line below include_dir",
            f"echo 'maintenance_work_mem = 16MB' >> {CONF}",
            f"sed -i '$d' {CONF}",
            (f'maintenance_work_mem is "16MB" by {CONF}, line',),
        ),
        (
            "include_dir commented out",
            f"sed -i 's/^include_dir/#include_dir/' {CONF}",
            f"sed -i \"s/^#include_dir = 'conf.d'/include_dir = 'conf.d'/\" {CONF}",
            ("does not read /etc/postgresql/15/main/conf.d/50-sauvegarde.conf", "include_dir = 'conf.d'"),
        ),
        (
            "a data directory that is not mounted",
            "systemctl stop postgresql@15-main && mv /var/lib/postgresql/15/main /var/lib/postgresql/15/away",
            "mv /var/lib/postgresql/15/away /var/lib/postgresql/15/main && systemctl start postgresql@15-main",
            ("/var/lib/postgresql/15/main, is missing or empty", "Mount the file system", "Nothing was changed"),
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) and len(value) < 40 else "",
)
def test_who_stands_in_the_way_is_named(legacy, what, before, after, says):
    legacy.host.check_output("cd / && sudo sh -c %s", before)
    try:
        run = converge("legacy")
    finally:
        legacy.host.check_output("cd / && sudo sh -c %s", after)
    assert run.code == 2, (what, run.output)
    assert run.changed() == {"legacy": 0}, run.output
    missing = [words for words in says if words not in run.text]
    assert not missing, run.output


def test_the_access_rules_of_a_cluster_that_is_down_are_kept(legacy):
    folder = "/etc/postgresql/15/main"
    others = ["local all postgres peer", "local all all peer map=people", "host all all ::1/128 md5"]
    lines = " ".join(f"'{line}'" for line in others)
    first = legacy.host.check_output("sudo cat %s", f"{folder}/pg_hba.conf.before-sauvegarde")
    legacy.host.check_output(
        "sudo sh -c %s", f"systemctl stop postgresql@15-main && printf '%s\\n' {lines} > {folder}/pg_hba.conf"
    )
    try:
        run = converge("legacy")
    finally:
        legacy.host.check_output("sudo systemctl start postgresql@15-main")
    try:
        assert run.code == 0, run.output
        assert "would end: host all all ::1/128 md5" in run.text, run.output
        assert "would lose map=people: local all all peer map=people" in run.text, run.output
        # The copy of the first run stays, too.
        assert legacy.host.check_output("sudo cat %s", f"{folder}/pg_hba.conf.before-sauvegarde") == first
        kept = legacy.host.check_output("sudo sh -c %s", f"cat {folder}/pg_hba.conf.before-sauvegarde.*")
        assert kept.splitlines() == others
        assert legacy.login("shop", "canary-Zephyr-shop", "shop", "SELECT count(*) FROM orders").rc == 0
    finally:
        legacy.host.check_output("sudo sh -c %s", f"rm -f {folder}/pg_hba.conf.before-sauvegarde.*")


def test_a_role_loses_what_its_description_has_no_more(legacy):
    with_attributes = [{"name": "odile", "attributes": ["LOGIN", "SUPERUSER", "CREATEDB"]}]
    without = [{"name": "odile", "attributes": ["LOGIN"]}, {"name": "shop", "password": "canary-Zephyr-shop"}]
    ask = "SELECT rolsuper, rolcreatedb, rolcanlogin FROM pg_roles WHERE rolname = 'odile'"
    assert converge("legacy", postgresql_roles=with_attributes, postgresql_databases=[]).code == 0
    assert legacy.sql(ask) == "t|t|t"
    run = converge("legacy", postgresql_roles=without, postgresql_databases=[])
    assert run.code == 0, run.output
    assert "role odile has CREATEDB, SUPERUSER, which postgresql_roles does not list: taken from it." in run.text
    assert "role shop has CREATEDB, which postgresql_roles does not list: kept." in run.text
    assert legacy.sql(ask) == "f|f|t"
    run = converge("legacy")  # as it is described, and with nobody in the way any more
    assert run.code == 0, run.output


def test_an_extension_in_another_schema_and_texts_for_booleans(legacy):
    described = [{"name": "shop", "owner": "shop", "extensions": [{"name": "hstore", "schema": "elsewhere"}]}]
    run = converge(
        "legacy", postgresql_databases=described, postgresql_postgis_upgrade="yes", postgresql_data_checksums="no"
    )
    assert run.code == 0, run.output
    assert 'hstore of database "shop" on legacy is in the schema public, not elsewhere' in run.text
    assert 'ALTER EXTENSION "hstore" SET SCHEMA "elsewhere"' in run.text


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"postgresql_settings": {"unix_socket_directories": "/tmp"}}, ("has unix_socket_directories",)),
        ({"postgresql_data_checksums": True}, ("pg_checksums --enable -D /var/lib/postgresql/15/main",)),
    ],
    ids=["sockets", "checksums"],
)
def test_what_cannot_be_is_refused_before(variables, says):
    run = converge("legacy", **variables)
    assert run.code == 2 and run.changed() == {"legacy": 0}, run.output
    assert all(words in run.text for words in says), run.output


def test_a_folder_of_archives_that_nobody_can_write_in_is_refused_before(servers):
    run = play("--limit=standby", "--tags=backup", variables={**AS_OPS, "backup_directory": "/mnt/nas/of_root"})
    assert run.code == 2 and run.changed() == {"standby": 0}, run.output
    assert "The folder /mnt/nas/of_root/shop cannot belong to archivist." in run.text and "root_squash" in run.text
    assert servers["standby"].host.check_output("sudo ls -A /mnt/nas/of_root") == ""


def test_a_job_that_is_described_no_more_takes_only_its_own_things_along(servers):
    host = servers["legacy"].host
    jobs = [{"name": "shop", "kind": "pg_dump", "schedule": "0 0 29 2 *", "database": "shop"}]
    run = play("--limit=legacy", "--tags=backup", variables={**AS_OPS, "backup_jobs": jobs})
    assert run.code == 0, run.output
    assert host.check_output("ls /var/lib/prometheus/node-exporter").split() == ["sauvegarde_shop.prom", "theirs.prom"]
    assert host.check_output("sudo ls /var/lib/sauvegarde/.metrics").split() == ["shop"]
    assert "globals" in host.check_output("sudo ls /var/backups/sauvegarde").split()
