"""What a site's settings say of its connection: timeouts, search path, binding, transactions. Ours work under all."""

import contextlib
import json
from pathlib import Path

import pytest
from little_site import Folder, about, database, execute, fill, migrate, rows
from sample_site import ENVIRONMENTS, manage, write
from sauvegarde import errors
from sauvegarde.django import data_dump, data_load
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_plan
from sauvegarde.migrate.migration_request import DatabaseAccess

OPTIONS = """
import json
from pathlib import Path
DATABASES["default"].update(json.loads(os.environ.get("MORE") or "{}"))
"""
# A statement of half a second on the table, where the site allows a quarter of it.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END';
CREATE TRIGGER slow BEFORE INSERT ON a_note FOR EACH STATEMENT EXECUTE PROCEDURE slow();
ALTER TABLE a_setting RENAME TO a_real;
CREATE VIEW a_setting AS SELECT id, key, value FROM a_real WHERE pg_sleep(1.5) IS NOT NULL;
"""


def options(**values):
    """The environment's line for settings of the connection."""
    return "'" + json.dumps(values) + "'"


@pytest.fixture(scope="module")
def folders(cluster, tmp_path_factory):
    """{environment: the little site}"""
    return {
        each: Folder(tmp_path_factory.mktemp("options"), cluster, each, settings=OPTIONS) for each in ENVIRONMENTS[:2]
    }


@pytest.fixture(scope="module")
def folder(folders):
    return folders[ENVIRONMENTS[0]]


def note(tmp_path):
    return write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": "new"}}])


def test_the_sites_timeouts_end_no_session_of_ours(cluster, folder, tmp_path):
    report = "-c statement_timeout=1000 -c idle_in_transaction_session_timeout=1000 -c lock_timeout=1"
    where = folder.new("pg")
    fill(cluster, where, "live")
    # Only now: the tables were made by stock, which these timeouts may end on a slow machine.
    with Path(where.env_file).open("a", encoding="utf-8") as file:
        file.write("MORE={}\n".format(options(OPTIONS={"options": report})))
    for statement in SLOW.strip().split("\n"):
        execute(cluster, where, statement)
    result = data_dump.stream(where, {"labels": ["a"]}, lambda piece: None)
    assert result["counts"] == {"a.setting": 1, "a.note": 1}
    assert data_load.load(where, [note(tmp_path)], {})["written"]


def test_a_lock_that_somebody_holds_is_waited_for_no_longer_than_stated(cluster, folder, tmp_path):
    where = folder.new("pg")
    with contextlib.closing(cluster.connect(database(where))) as held:
        held.autocommit = False
        held.cursor().execute("LOCK TABLE a_note IN EXCLUSIVE MODE")
        with pytest.raises(SauvegardeError) as caught:
            data_load.load(where, [note(tmp_path)], {"lock_timeout": 0.2})
    assert caught.value.exit_code == errors.Locked.exit_code


@pytest.mark.parametrize("environment", ENVIRONMENTS[:2])
@pytest.mark.parametrize("kind", ["sqlite", "pg"])
def test_transactions_and_binding_of_the_site_stop_nothing(cluster, folders, tmp_path, environment, kind):
    more = {"AUTOCOMMIT": False, "ATOMIC_REQUESTS": True, "CONN_MAX_AGE": 60}
    if kind == "pg" and environment.endswith(":psycopg"):
        more["OPTIONS"] = {"server_side_binding": True}
    where, side = folders[environment].new(kind), folders[environment].new(kind)
    fill(cluster, where, "live")
    with Path(where.env_file).open("a", encoding="utf-8") as file:
        file.write(f"MORE={options(**more)}\n")
    assert data_dump.stream(where, {"labels": ["a"]}, lambda piece: None)["counts"] == {"a.setting": 1, "a.note": 1}
    for each in (where, where.replace(name=database(side))):
        assert data_load.load(each, [note(tmp_path)], {"mode": "replace"})["written"]
    assert rows(cluster, side) == [("", "new")] and ("", "new") in rows(cluster, where)


SCHEMAS = [
    "DO $$BEGIN CREATE ROLE keeper_of_app; EXCEPTION WHEN duplicate_object THEN NULL; END$$",
    "CREATE SCHEMA app AUTHORIZATION keeper_of_app",
    "GRANT USAGE ON SCHEMA app TO PUBLIC",
    "GRANT CREATE ON SCHEMA app TO postgres WITH GRANT OPTION",
]


def schemas(cluster, name):
    """Where the tables are, and whose their schemas are and who may use them."""
    answer = cluster.execute(
        "SELECT DISTINCT n.nspname, n.nspowner::regrole::text, n.nspacl::text[] FROM pg_namespace n"
        " JOIN pg_class c ON c.relnamespace = n.oid WHERE c.relname IN ('a_note', 'django_migrations')",
        name,
    )
    return [(schema, owner, sorted(privileges or ())) for schema, owner, privileges in answer]


@pytest.mark.parametrize("path", ["app", "app,public", "the database's"])
def test_the_side_database_has_the_schemas_of_the_live_one(cluster, folder, tmp_path, path):
    one = folder.new("sqlite")
    fill(cluster, one, "source")
    more, before = {"OPTIONS": {"options": "-c search_path=" + path}}, SCHEMAS
    if path == "the database's":
        more, before = {}, [*SCHEMAS, "ALTER DATABASE {} SET search_path = app"]
    two = folder.new("pg", before, MORE=options(**more))
    fill_app = "INSERT INTO app.a_note (text) VALUES ('live')"
    execute(cluster, two, fill_app)
    side = migrate(one, two, tmp_path)["side"]
    assert schemas(cluster, side) == schemas(cluster, database(two))
    assert schemas(cluster, side)[0][0] == "app"
    assert execute(cluster, two, "SELECT text FROM app.a_note", side) == [("source",)]
    assert execute(cluster, two, "SELECT text FROM app.a_note") == [("live",)]


def test_a_first_database_has_the_schemas_of_the_search_path(cluster, folder, tmp_path):
    one = folder.new("sqlite")
    fill(cluster, one, "source")
    two = folder.new("pg", SCHEMAS, MORE=options(OPTIONS={"options": "-c lock_timeout=9 -csearch_path=app,public"}))
    cluster.execute(f"DROP DATABASE {database(two)}")
    side = migrate(one, two, tmp_path)["side"]
    assert [each[0] for each in schemas(cluster, side)] == ["app"]


def test_a_side_database_without_a_table_or_with_other_rows_is_never_ready(cluster, folder, tmp_path):
    for kind in ("sqlite", "pg"):
        two = folder.new(kind)
        fill(cluster, two, "live")
        result = migration_plan.survey(two)
        target, _ = migration_plan.target_of(result, "", DatabaseAccess.from_values(about(two, tmp_path)))
        side = folder.new(kind)
        fill(cluster, side, "source")
        expected = {"a_note": 1, "a_setting": 1, "auth_group": 0}
        assert target.differences(database(side), result["tables"], expected) == []
        execute(cluster, side, "INSERT INTO a_note (text) VALUES ('more')")
        execute(cluster, side, "DROP TABLE auth_user_groups")
        assert target.differences(database(side), result["tables"], expected) == [
            "The table a_note holds 2 rows, not 1.",
            "The table auth_user_groups is missing.",
        ]


DATES = """
from django.db import models
class Contract(models.Model):
    until = models.DateTimeField(null=True)
    day = models.DateField(null=True)
"""


@pytest.mark.parametrize("environment", ENVIRONMENTS[:2])
def test_dates_that_python_does_not_have_are_written_as_stock_or_named(cluster, tmp_path, environment):
    where = Folder(tmp_path / "dates", cluster, environment, models=DATES).new("pg")
    execute(cluster, where, "INSERT INTO a_contract (until, day) VALUES ('2024-01-02', '2024-01-02')")
    insert = "INSERT INTO a_contract (until, day) VALUES ('infinity', '-infinity'), ('-infinity', 'infinity')"
    if environment.endswith(":psycopg2"):
        execute(cluster, where, insert)
        pieces = []
        done = data_dump.stream(where, {"labels": ["a"]}, pieces.append)
        assert b"".join(pieces).strip() == manage(where, "dumpdata", "a").strip()
        assert [each.split(" in ")[:1] for each in done["warnings"]] == [
            ["a.contract.day: infinity"],
            ["a.contract.until: infinity"],
        ]
        execute(cluster, where, "DELETE FROM a_contract WHERE day = 'infinity'")
        insert = "INSERT INTO a_contract (until) VALUES ('20000-01-01')"
    execute(cluster, where, insert)
    with pytest.raises(SauvegardeError, match=r"A row of a\.contract holds") as caught:
        data_dump.stream(where, {"labels": ["a"]}, lambda piece: None)
    query = "SELECT id FROM ({}) AS found".format(caught.value.fix.partition("reason: ")[2].rstrip(";"))
    wrong = "SELECT id FROM a_contract WHERE NOT coalesce(until BETWEEN '0001-01-01' AND '9999-12-31', true)"
    assert {row[0] for row in execute(cluster, where, wrong)} <= {row[0] for row in execute(cluster, where, query)}
