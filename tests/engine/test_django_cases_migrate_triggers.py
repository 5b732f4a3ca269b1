"""Triggers of the database are silent while a side database is filled, and on again afterwards."""

import contextlib
import sqlite3

import pytest
from sample_site import ENVIRONMENTS, interpreter, write
from sauvegarde.archive import ids
from sauvegarde.django import data_load, site
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from small_site import Small

MODELS = """
from django.db import models
class Setting(models.Model):
    key = models.CharField(max_length=50, unique=True)
    value = models.CharField(max_length=100)
class Note(models.Model):
    text = models.CharField(max_length=100)
    changes = models.IntegerField(default=0)
    setting = models.ForeignKey(Setting, models.CASCADE, null=True)
class Audit(models.Model):
    what = models.CharField(max_length=100)
"""
# What migrations of a site make: an audit, a stamp that counts changes, a column and a check that no model knows.
PG = """
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO a_audit (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NULL; END $$;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.changes := NEW.changes + 1; RETURN NEW; END $$;
CREATE FUNCTION length() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.size := pg_catalog.length(NEW.key); RETURN NEW; END $$;
CREATE TRIGGER audit_note AFTER INSERT OR UPDATE OR DELETE ON a_note FOR EACH ROW EXECUTE PROCEDURE audit();
CREATE TRIGGER "Audit all" AFTER INSERT OR DELETE ON a_note FOR EACH STATEMENT EXECUTE PROCEDURE audit();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON a_note DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE PROCEDURE audit();
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON a_note FOR EACH ROW EXECUTE PROCEDURE stamp();
CREATE TRIGGER always AFTER INSERT ON a_note FOR EACH ROW EXECUTE PROCEDURE audit();
ALTER TABLE a_note ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER asleep AFTER INSERT ON a_note FOR EACH ROW EXECUTE PROCEDURE audit();
ALTER TABLE a_note DISABLE TRIGGER asleep;
CREATE RULE ruled AS ON DELETE TO a_note DO ALSO INSERT INTO a_audit (what) VALUES ('by a rule');
ALTER TABLE a_setting ADD size integer;
CREATE TRIGGER size BEFORE INSERT ON a_setting FOR EACH ROW EXECUTE PROCEDURE length()
"""
SQLITE = """
CREATE TRIGGER audit_note AFTER INSERT ON a_note BEGIN INSERT INTO a_audit (what) VALUES ('INSERT; a_note'); END;;
CREATE TRIGGER gone AFTER DELETE ON a_note BEGIN INSERT INTO "a_audit" (what) VALUES ('gone'); END;;
CREATE TRIGGER stamp AFTER INSERT ON a_note BEGIN
    UPDATE a_note SET changes = changes + 1 WHERE id = NEW.id; END;;
CREATE TRIGGER short BEFORE INSERT ON a_note BEGIN
    SELECT RAISE(ABORT, 'too long to UPDATE a_note') WHERE length(NEW.text) > 90; END;;
CREATE VIRTUAL TABLE a_found USING fts4(text);;
CREATE TRIGGER found AFTER INSERT ON a_note BEGIN
    INSERT INTO a_found (docid, text) VALUES (NEW.id, NEW.text); END;;
CREATE TRIGGER found_gone AFTER DELETE ON a_note BEGIN DELETE FROM a_found WHERE docid = OLD.id; END;;
ALTER TABLE a_setting ADD size integer;;
CREATE TRIGGER size AFTER INSERT ON a_setting BEGIN
    UPDATE a_setting SET size = length(key) WHERE id = NEW.id; END
"""
MIGRATION = """
from django.db import migrations
STATEMENTS = {{"sqlite": {sqlite!r}.split(";;"), "postgresql": [{pg!r}]}}
def make(apps, editor):
    with editor.connection.cursor() as cursor:
        for statement in STATEMENTS[editor.connection.vendor]:
            cursor.execute(statement)
class Migration(migrations.Migration):
    dependencies = [("a", "0001_initial")]
    operations = [migrations.RunPython(make)]
"""
# Every trigger as the database has it.
LOOK = {
    "pg": "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"
    " UNION ALL SELECT rulename, ev_enabled FROM pg_rewrite WHERE ev_class = 'a_note'::regclass ORDER BY 1",
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name",
}
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}
OFF = {
    "pg": ["Audit all on a_note", "always on a_note", "audit_note on a_note", "later on a_note", "ruled on a_note"],
    "sqlite": ["audit_note on a_note", "gone on a_note"],
}


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    result = Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)
    result.new("sqlite")  # makes the first migration
    text = MIGRATION.format(sqlite=SQLITE, pg=PG)
    (result.folder / "a" / "migrations" / "0002_more.py").write_text(text, encoding="utf-8")
    result._templates = {"none": None}
    return result


def execute(small, where, statement, name=""):
    """Rows of a statement in the site's database, or in the named one of its engine, asked without the site."""
    name = name or small.name(where)
    if site.environment(where)["KIND"] == "sqlite":
        with contextlib.closing(sqlite3.connect(str(small.folder / name))) as connection, connection:
            return connection.execute(statement).fetchall()
    return small.cluster.execute(statement, name)


def content(small, where, name=""):
    queries = (
        "SELECT id, text, changes FROM a_note",
        "SELECT id, key, size FROM a_setting",
        "SELECT id, what FROM a_audit",
    )
    return [sorted(tuple(row) for row in execute(small, where, query, name)) for query in queries]


def fill(small, where):
    execute(small, where, "INSERT INTO a_setting (id, key, value) VALUES (1, 'name', 'x')")
    for n in (1, 2):
        execute(small, where, f"INSERT INTO a_note (id, text, changes, setting_id) VALUES ({n}, 'note {n}', 0, 1)")
    execute(small, where, "DELETE FROM a_note WHERE id = 2")


def prepared(small, one, two, tmp_path, labels=()):
    """(the run's specification, the target's survey, the plan's notes)"""
    result = migration_source.make(one, tmp_path / "out", migration_source.options(None, "", labels, False), ABOUT)
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": result["path"], "keeper": "root"}
    spec.update(connection=small.cluster.values, server_directory=str(tmp_path / "server"), labels=list(labels))
    spec = MigrationRequest.from_values(spec)
    return spec, migration_plan.survey(two, labels), migration_plan.lines(migration_run.make_plan(spec, {}))


def filled(spec, result):
    return migration_run.fill(spec, ids.new_id(restore_state.folder(spec.directory)), result)


@pytest.mark.parametrize("to", ["pg", "sqlite"])
@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_triggers_are_silent_while_a_side_database_is_filled(small, tmp_path, kind, to):
    one, two = small.new(kind), small.new(to)
    fill(small, one)
    fill(small, two)
    sent = content(small, one)
    assert sent[0] == [(1, "note 1", 1)] and sent[1] == [(1, "name", 4)] and len(sent[2]) > 2
    spec, result, report = prepared(small, one, two, tmp_path)
    done = filled(spec, result)
    # All rows are the source's; a trigger has filled the column that no model knows.
    assert content(small, two, done["side"]) == sent
    assert execute(small, two, LOOK[to], done["side"]) == execute(small, two, LOOK[to])
    report = "\n".join(report)
    assert "Triggers of the database are off while the new one is filled: " + ", ".join(OFF[to]) in report
    assert "The trigger size on a_setting stays on while the new database is filled: it may fill columns" in report
    assert "asleep" not in report and "short" not in report
    for name in OFF[to]:
        assert f"the trigger {name} was off while the new database was filled" in done["notes"]
    if to == "sqlite":
        assert "The trigger found on a_note stays on while the new database is filled: it keeps the index a_f" in report
        assert execute(small, two, "SELECT text FROM a_found", done["side"]) == [("note 1",)]
    # They fire again.
    execute(small, two, "INSERT INTO a_note (id, text, changes) VALUES (9, 'new', 0)", done["side"])
    notes, _, audit = content(small, two, done["side"])
    assert notes[-1] == (9, "new", 1) and len(audit) > len(sent[2])


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_foreign_keys_hold_while_triggers_are_silent(small, tmp_path, kind):
    where = small.new(kind)
    entry = {"model": "a.note", "pk": 5, "fields": {"text": "x", "changes": 0, "setting": 77}}
    path = write(tmp_path / "f.json", [entry])
    before = execute(small, where, LOOK[kind])
    with pytest.raises(SauvegardeError, match="cannot be loaded") as caught:
        data_load.load(where, [path], {"triggers": False, "mode": "replace"})
    assert "a.note 5 setting: points to a.setting 77, which does not exist" in caught.value.why
    # Also where only the database could tell: the row goes as the load looked at it.
    entry["fields"]["setting"] = None
    path = write(tmp_path / "f.json", [entry])
    if kind == "pg":
        execute(
            small,
            where,
            "ALTER TABLE a_note ADD other integer DEFAULT 5 REFERENCES a_setting DEFERRABLE INITIALLY DEFERRED",
        )
        with pytest.raises(SauvegardeError) as caught:
            data_load.load(where, [path], {"triggers": False, "mode": "replace"})
        assert "foreign key" in caught.value.why
    assert execute(small, where, LOOK[kind]) == before
    assert content(small, where)[0] == []


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_some_models_into_a_copy_of_the_live_database(small, tmp_path, kind):
    one, two = small.new(kind), small.new(kind)
    fill(small, one)
    fill(small, two)
    execute(small, two, "UPDATE a_note SET text = 'of the target', changes = 40")
    before = content(small, two)
    spec, result, _ = prepared(small, one, two, tmp_path, labels=["a.Note"])
    done = filled(spec, result)
    after = content(small, two, done["side"])
    assert after[0] == content(small, one)[0] and after[1:] == before[1:]


def test_a_fixture_for_a_live_database_fires_triggers(small, tmp_path):
    where = small.new("sqlite")
    data_load.load(where, [write(tmp_path / "f.json", [{"model": "a.note", "pk": 5, "fields": {"text": "x"}}])], {})
    assert content(small, where)[2] == [(1, "INSERT; a_note")]
