"""What a changed description does to running servers: as little as it needs, and nothing by halves."""

import secrets

import pytest
from tests_support.hosts import Server, play

# Not from before 2.5: what such procedures really lack is there, and the scripts that upgrade them make it again. On
# the host with the oldest PostGIS they are of the library's own version, of another build.
OLD_PROCEDURES = {"bullseye": "3.1.1", "bookworm": "3.0.0", "trixie": "3.0.0"}


@pytest.fixture(scope="module", autouse=True)
def _described_again():
    """Leaves the hosts as the other tests expect them."""
    yield
    run = play()
    assert run.code == 0, run.output


def settings(described, **more):
    """The variable with the described settings and more."""
    return {"postgresql_settings": {**described["postgresql_settings"], **more}}


def everywhere(servers, query, database="postgres"):
    """{host: the query's answer}."""
    return {name: server.sql(query, database) for name, server in servers.items()}


def starts(servers):
    """{host: how often the server's unit has been started}."""
    return {
        name: server.host.check_output(
            "sudo journalctl --no-pager --output cat --unit %s | grep --count ^Started",
            f"postgresql@{server.version}-main",
        )
        for name, server in servers.items()
    }


def states(servers):
    return {name: server.state() for name, server in servers.items()}


@pytest.fixture
def old_procedures(servers):
    """PostGIS's "need upgrade" on every host, made as a newer library under an older database makes it, and a table."""
    for name, server in servers.items():
        old = OLD_PROCEDURES[name]
        server.sql(
            f"""
            CREATE OR REPLACE FUNCTION public.postgis_scripts_installed() RETURNS text LANGUAGE sql IMMUTABLE
              AS $$ SELECT '{old} r16526'::text $$;
            UPDATE pg_extension SET extversion = '{old}' WHERE extname = 'postgis';
            CREATE TABLE essai AS SELECT 'SRID=4326;POINT(2 48)'::geometry AS place,
              ST_AddBand(ST_MakeEmptyRaster(3, 2, 0, 0, 1), '8BUI'::text, 7, 0) AS grid;
            """,
            "elpaso",
        )
        assert "need upgrade" in server.sql("SELECT postgis_full_version()", "elpaso")
    yield
    everywhere(servers, "DROP TABLE essai", "elpaso")


@pytest.mark.usefixtures("old_procedures")
def test_old_postgis_procedures_are_reported_and_upgraded_when_asked(servers):
    before = states(servers)
    run = play()
    assert run.code == 0, run.output
    assert run.changed() == dict.fromkeys(servers, 0), run.output
    for name in servers:
        assert f'PostGIS in database "elpaso" on {name} needs an upgrade' in run.text
        assert f'procs from "{OLD_PROCEDURES[name]}' in run.text
    assert "Set postgresql_postgis_upgrade: true to upgrade it." in run.text
    assert states(servers) == before

    run = play(variables={"postgresql_postgis_upgrade": True})
    assert run.code == 0, run.output
    assert 0 not in run.changed().values()
    for server in servers.values():
        assert "need upgrade" not in server.sql("SELECT postgis_full_version()", "elpaso")
        answers = server.sql(
            """
            SELECT DISTINCT extversion = postgis_lib_version() FROM pg_extension WHERE extname LIKE 'postgis%';
            SELECT ST_AsText(place), (ST_SummaryStats(grid)).sum FROM essai;
            """,
            "elpaso",
        )
        assert answers.splitlines() == ["t", "POINT(2 48)|42"]


def test_a_reload_is_enough_where_it_is_and_no_password_is_shown(servers, described):
    started = everywhere(servers, "SELECT pg_postmaster_start_time()")
    password = f"canary-{secrets.token_hex(8)}"
    roles = [{**role, "password": password} if "password" in role else role for role in described["postgresql_roles"]]
    # A server that logs such statements would log the password in them.
    run = play(
        "-vvv", variables={**settings(described, work_mem="7MB", log_statement="ddl"), "postgresql_roles": roles}
    )
    assert run.code == 0, run.output
    assert everywhere(servers, "SHOW work_mem") == dict.fromkeys(servers, "7MB")
    assert everywhere(servers, "SELECT pg_postmaster_start_time()") == started
    for server in servers.values():
        assert server.login("geotribu", password, "elpaso").rc == 0
        assert server.login("geotribu", "canary-Zephyr-41", "elpaso").rc == 2
        # The words themselves stay out of sudo's own journal.
        log = server.host.check_output(
            "sudo sh -c %s", "journalctl --no-pager; find /var/log -name '*.log' -exec cat {} +"
        )
        assert password not in log
        assert "canary-Zephyr-41" not in log
    assert "canary-" not in run.output


def test_a_restart_comes_once_and_last(servers, described):
    before = starts(servers)
    run = play(variables=settings(described, max_connections=77))
    assert run.code == 0, run.output
    assert everywhere(servers, "SHOW max_connections") == dict.fromkeys(servers, "77")
    assert everywhere(servers, "SELECT count(*) FROM pg_settings WHERE pending_restart") == dict.fromkeys(servers, "0")
    assert starts(servers) == {name: str(int(count) + 1) for name, count in before.items()}
    kept = [
        number for number, task in enumerate(run.tasks()) if task.startswith(("Configure |", "Roles |", "Databases |"))
    ]
    assert kept
    assert run.tasks().index("Restart | Restart") > kept[-1]


def test_settings_that_keep_the_server_from_starting_are_taken_back(servers, described):
    before = states(servers)
    started = everywhere(servers, "SELECT pg_postmaster_start_time()")
    run = play(variables=settings(described, shared_preload_libraries="nosuchlib"))
    assert run.code == 2, run.output
    for name, server in servers.items():
        assert (
            f"PostgreSQL {server.version}/main on {name} did not start with postgresql_settings; it runs with those of"
            " before"
        ) in run.text
        # All is as it was, but for when it started.
        assert sorted(set(before[name]) ^ set(server.state())) == sorted([started[name], server.started()])
    assert run.text.count("nosuchlib") >= len(servers)


def test_a_check_of_a_running_server_predicts_and_changes_nothing(servers, described):
    before = servers["bookworm"].state()
    run = play(
        "--check",
        "--diff",
        "--limit=bookworm",
        variables={
            **settings(described, work_mem="9MB"),
            "postgresql_roles": [*described["postgresql_roles"], {"name": "essai", "password": "canary-Sirocco-44"}],
            "postgresql_databases": [*described["postgresql_databases"], {"name": "essai", "owner": "essai"}],
        },
    )
    assert run.code == 0, run.output
    # The settings' file, the role, the database.
    assert run.changed()["bookworm"] >= 3
    assert "+work_mem = '9MB'" in run.output
    assert "canary-" not in run.output
    assert sorted(set(before) ^ set(servers["bookworm"].state())) == []


def test_a_check_predicts_what_new_roles_and_databases_would_get(servers, described):
    before = servers["bullseye"].state()
    new = {
        "postgresql_roles": [
            *described["postgresql_roles"],
            {"name": "essai", "member_of": ["lecture"], "settings": {"work_mem": "5MB"}},
        ],
        "postgresql_databases": [
            *described["postgresql_databases"],
            {
                "name": "essai",
                "owner": "essai",
                "settings": {"timezone": "UTC"},
                "grants": [{"role": "essai", "privileges": ["CREATE"]}],
                "extensions": [{"name": "hstore"}],
            },
        ],
    }
    run = play("--check", "--limit=bullseye", variables=new)
    assert run.code == 0, run.output
    assert "essai would get hstore." in run.text
    assert sorted(set(before) ^ set(servers["bullseye"].state())) == []


def test_a_first_run_that_cannot_start_is_repaired_by_the_next(servers, described):
    new = {
        "postgresql_cluster_name": "essai",
        "postgresql_port": 5499,
        "postgresql_roles": [],
        "postgresql_databases": [],
    }
    host = servers["bookworm"].host
    try:
        run = play("--limit=bookworm", variables={**new, **settings(described, shared_preload_libraries="nosuchlib")})
        assert run.code == 2, run.output
        assert "PostgreSQL 15/essai on bookworm did not start with postgresql_settings" in run.text
        run = play("--limit=bookworm", variables=new)
        assert run.code == 0, run.output
        assert Server(host, "15", 5499).sql("SHOW work_mem") == "6MB"
    finally:
        host.check_output("sudo pg_dropcluster --stop 15 essai")


def test_a_host_that_others_set_up_gets_what_the_modules_need(servers):
    servers["trixie"].host.check_output("sudo apt-get remove -y -q python3-psycopg2")
    run = play("--limit=trixie")
    assert run.code == 0, run.output
    assert servers["trixie"].host.package("python3-psycopg2").is_installed
