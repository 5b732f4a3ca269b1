"""Real packages of real sites: what leaves, arrives and travels is what stock makes of it, or better."""

import contextlib
import json
import re
import sqlite3

import pytest
from packages_site import TREES, Packages, fill
from sample_site import ENVIRONMENTS, manage, shell, text_of
from sauvegarde.archive import ids
from sauvegarde.django import data_dump, data_load, policy_actions, policy_draft, site
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.postgres import sql_names
from sauvegarde.restore import restore_state

pytestmark = pytest.mark.skipif(
    "5.2:psycopg2" not in ENVIRONMENTS, reason="the packages are pinned for Django 5.2 with psycopg2"
)
KEY = "00112233445566778899aabbccddeeff"
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}
NATURAL = ["--natural-foreign", "-e", "contenttypes", "-e", "auth.permission"]
# A page was deleted, and Wagtail's log goes on naming it: stock cannot write that row with natural keys.
BEYOND_STOCK = "wagtailcore.pagelogentry"
# Made by migrations anew, or filled again by a command: not what travels.
OWN = ("django_migrations", "django_content_type", "auth_permission", "a_ledger", "sqlite_", "wagtailsearch_")
# Trees, slugs, generic references, content types and the natural keys of collections, pages' sites and permissions.
KEPT = re.compile(
    r"^(path|url_path|depth|numchild|lft|rgt|rght|tree_id|level|sib_order|slug|object_id|object_pk|content_type|codename"
    r"|.*_object_id|collection|permission|parent|locale|language_code|translation_key|hostname|port|.*_content_type)$"
)
LEFT_OUT = {
    "a.branchtotal": "a view",
    "a.ledger": "unmanaged: name it (migrate_include) to move its rows",
    "wagtailsearch.indexentry": "a search index; fill it again with manage.py update_index",
}


@pytest.fixture(scope="module")
def packages(cluster, tmp_path_factory):
    return Packages(cluster, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def filled(packages):
    """The site on PostgreSQL, with all its rows."""
    where = packages.new("pg")
    fill(where)
    return where


@pytest.fixture(scope="module")
def policy(filled):
    described = site.describe(filled, rows=500)
    return policy_draft.draft(described["models"], described["samples"])


def rows(packages, where):
    """{table: its rows} of all tables that travel; content types and permissions by their names."""
    values = site.environment(where)
    if values["KIND"] != "sqlite":
        connection = packages.cluster.connect(values["DB"])
        names = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    else:
        connection = sqlite3.connect(values["DB"])
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"

    def query(statement):
        cursor = connection.cursor()
        cursor.execute(statement)
        return [each[0] for each in cursor.description], cursor.fetchall()

    with contextlib.closing(connection):
        kinds = {row[0]: row[1:] for row in query("SELECT id, app_label, model FROM django_content_type")[1]}
        permissions = query("SELECT id, content_type_id, codename FROM auth_permission")[1]
        permissions = {key: (kinds[kind], code) for key, kind, code in permissions}
        collected = {}
        for (table,) in query(names)[1]:
            if table.startswith(OWN):
                continue
            columns, some = query(f"SELECT * FROM {sql_names.quote(table)}")
            known = [
                kinds if each.endswith("content_type_id") else permissions if each == "permission_id" else None
                for each in columns
            ]
            collected[table] = sorted(
                repr([names[value] if names and value else value for names, value in zip(known, row)]) for row in some
            )
        return collected


def differing(one, other):
    """The tables whose rows differ, with the first rows that only one of them has."""
    assert one.keys() == other.keys()
    pairs = {table: (set(one[table]) - set(other[table]), set(other[table]) - set(one[table])) for table in one}
    collected = {table: tuple(min(some, default=None) for some in pair) for table, pair in pairs.items()}
    return {table: pair for table, pair in collected.items() if any(pair) or len(one[table]) != len(other[table])}


def migrate(packages, one, kind, tmp_path, include=()):
    """(the plan's lines, a site on the proven side database) of a migration into an empty site."""
    tmp_path.mkdir()
    two = packages.new(kind)
    result = migration_source.make(
        one, tmp_path / "out", migration_source.options(None, "", [], False, include=include), ABOUT
    )
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": result["path"], "include": list(include)}
    spec.update(connection=packages.cluster.values, server_directory=str(tmp_path / "server"), keeper="root")
    spec = MigrationRequest.from_values(spec)
    seen = migration_source.look(one, None, "", [], False, ABOUT, include=include)
    lines = migration_plan.lines(migration_run.make_plan(spec, seen))
    identifier = ids.new_id(restore_state.folder(spec.directory))
    done = migration_run.fill(spec, identifier, migration_plan.survey(two, include=include))
    return lines, packages.on(two, done["side"])


def test_a_dump_is_that_of_stock(filled, tmp_path):
    ours = text_of(filled, exclude=["contenttypes", "auth.permission", BEYOND_STOCK])
    assert ours == manage(filled, "dumpdata", *NATURAL, "-e", BEYOND_STOCK)
    # And the row that stock cannot write, with the number that it holds.
    log = json.loads(text_of(filled, labels=[BEYOND_STOCK]).decode())
    assert log


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_a_load_is_that_of_stock(packages, filled, kind, tmp_path):
    path = tmp_path / "all.json"
    # Stock loads neither a view's rows nor the index of another engine.
    path.write_bytes(text_of(filled, all=True, derived=False))
    one, two = packages.new(kind), packages.new(kind)
    manage(one, "loaddata", "-v0", str(path))
    data_load.load(two, [str(path)], {})
    assert differing(rows(packages, one), rows(packages, two)) == {}
    assert shell(two, TREES) == shell(filled, TREES)


def test_all_rows_travel_there_and_back(packages, filled, tmp_path):
    lines, existing = migrate(packages, filled, "sqlite", tmp_path / "there", include=["a.Ledger"])
    for label, why in LEFT_OUT.items():
        assert (label != "a.ledger") == any(f"{label} is left out: it is {why}." in line for line in lines)
    # SQLite makes the tables behind a virtual one.
    assert not any("wagtailsearch_indexentry_fts_" in line for line in lines)
    with contextlib.closing(sqlite3.connect(site.environment(existing)["DB"])) as connection:
        assert connection.execute("SELECT entry FROM a_ledger ORDER BY id").fetchall() == [("one",), ("two",)]
        # Those that the migrations' own pages have.
        assert connection.execute("SELECT count(*) FROM wagtailsearch_indexentry").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM a_branchtotal").fetchone() == (41,)
    trees = shell(filled, TREES)
    assert trees["problems"] == {} and all(trees["by parent"]) and shell(existing, TREES) == trees
    lines, back = migrate(packages, existing, "pg", tmp_path / "back")
    for label in ("a.branchtotal", "a.ledger", "wagtailsearch.indexentry", "wagtailsearch.sqliteftsindexentry"):
        assert any(f"{label} is left out" in line for line in lines)
    assert differing(rows(packages, filled), rows(packages, back)) == {}
    # The counters go on behind the last rows.
    shell(back, "from a.models import *; Branch.add_root(name='new', slug='new'); print(1)")


def test_the_drafted_policy_holds_and_keeps_what_rows_depend_on(packages, filled, policy, tmp_path):
    asked = {
        f"{label}.{name}"
        for label, rules in policy["models"].items()
        for name, action in (rules.items() if isinstance(rules, dict) else ())
        if isinstance(action, dict) and policy_actions.ASK in action
    }
    assert asked == {"socialaccount.socialaccount.extra_data", "reversion.version.serialized_data"}
    assert (
        "whole objects of other models" in policy["models"]["reversion.version"]["serialized_data"][policy_actions.ASK]
    )
    policy["models"]["socialaccount.socialaccount"]["extra_data"] = policy_actions.EMPTY
    policy["models"]["reversion.version"]["serialized_data"] = {"mask": "scrub"}
    path = tmp_path / "masked.jsonl"
    values = migration_source.options(policy, KEY, [], True)
    with path.open("wb") as file:
        data_dump.stream(filled, values, file.write)
    masked, plain = (
        entries(path.read_bytes()),
        entries(text_of(filled, **migration_source.options(None, "", [], False))),
    )
    assert "Zephyrine" not in path.read_text(encoding="utf-8") and "people.example" not in path.read_text(
        encoding="utf-8"
    )
    assert not any(label.startswith("wagtailsearch") for label, _ in masked)
    for place, fields in masked.items():
        kept = {name: value for name, value in plain[place].items() if KEPT.search(name)}
        assert {name: fields[name] for name in kept} == kept, place
    where = packages.new("sqlite")
    data_load.load(where, [str(path)], {"mode": "replace", "policy": {"hidden": "drop"}})
    assert shell(where, TREES) == shell(filled, TREES)


def entries(text):
    """{(model, key): fields} of the lines."""
    result = map(json.loads, text.decode("utf-8").splitlines())
    return {(each["model"], json.dumps(each["pk"])): each["fields"] for each in result}
