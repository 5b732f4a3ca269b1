"""A real 9.6 production dump through the playbook: custom and plain, with and without its roles, on 13, 15 and 17."""

import pytest
from conftest import databases, forget, on_all
from tests_support.hosts import play

HOSTS = ("db13", "db15", "db17")
CASES = [
    ("elpaso-9.6.dump", True),
    ("elpaso-9.6.dump", False),
    ("elpaso-9.6.sql.gz", True),
    ("elpaso-9.6.sql.gz", False),
]


@pytest.fixture()
def targets(servers):
    """The servers to restore onto, without the dump's database and roles afterwards."""
    collected = [servers[name] for name in HOSTS]
    yield collected

    def clean(server):
        forget(server, "legacy")
        server.sql('DROP ROLE IF EXISTS geotribu, lecture, "elgeopaso-db-uzr"')

    on_all(clean, collected)


def restore_everywhere(legacy, name, *options, **more):
    """One run for all three, each of them named."""
    return play(
        *options,
        variables={
            "restore_target": ",".join(HOSTS),
            "restore_database": "legacy",
            "restore_file": str(legacy / name),
            "restore_confirm": ",".join(f"legacy@{name}" for name in HOSTS),
            **more,
        },
        playbook="playbooks/restore.yml",
    )


def fingerprint(server, legacy):
    """What the legacy folder's own query says of the restored database."""
    query = (legacy / "fingerprint.sql").read_text("utf-8")
    return server.sql(r"\pset fieldsep '\t'" + "\n" + query, "legacy")


@pytest.mark.parametrize("name, value", CASES)
def test_nothing_is_lost(targets, legacy, name, value):
    more = {"restore_globals": str(legacy / "globals-9.6.sql")} if value else {"restore_missing_roles": "create"}
    if name.endswith(".gz"):
        more["restore_locale"] = "fr_FR.UTF-8"
    done = restore_everywhere(legacy, name, **more)
    assert done.code == 0, done.output
    assert done.text.count(" by counting, in ") == len(targets)
    expected = (legacy / "fingerprint-9.6.tsv").read_text("utf-8").strip("\n")

    def look(server):
        assert fingerprint(server, legacy) == expected
        asked = (
            "SELECT pg_get_userbyid(datdba), datcollate, shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE datname = 'legacy';"
            "SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname = 'geotribu'"
        )
        login = "t|f" if value else "f|t"
        assert server.sql(asked) == f"geotribu|fr_FR.UTF-8|Base de production El Géo Paso\n{login}"
        existing = (
            "SELECT count(*) FROM pg_indexes WHERE schemaname IN ('georezo', 'reseau');"
            "SELECT bool_and(relispopulated) FROM pg_class WHERE relkind = 'm';"
            "SELECT has_table_privilege('lecture', 'jobs_offer', 'SELECT'), pg_get_userbyid(relowner) FROM pg_class"
            " WHERE oid = 'jobs_offer'::regclass;"
            "SELECT postgis_full_version() LIKE '%need upgrade%'"
        )
        assert server.sql(existing, "legacy") == "16\nt\nt|geotribu\nf"
        assert f"{server.name}: legacy: post-data" in done.output, "its progress was shown"
        # The copy was carried there for this restore alone.
        assert name not in server.host.check_output("sudo ls /var/lib/postgresql/sauvegarde/carried").split()

    on_all(look, targets)


def test_a_plan_alone_changes_nothing(targets, legacy):
    before = on_all(databases, targets)
    done = restore_everywhere(legacy, "elpaso-9.6.dump", "--tags=plan", restore_locale="xx_XX.UTF-8")
    assert done.code == 0, done.output
    assert done.text.count("Roles are missing on the target: geotribu, lecture.") == 3, done.output
    assert done.text.count("The target lacks the locale xx_XX.UTF-8.") == 3
    for words in ("Estimate:", "Space:", "postgis → 3.", "legacy on db17 (primary)"):
        assert words in done.text
    assert on_all(databases, targets) == before
