"""Migrations of a site's data: what leaves a source, what a plan says, and what a side database is proven to hold."""

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from sample_site import ENVIRONMENTS, SITE, differences, fingerprint, shell, sites_of, text_of
from sauvegarde.archive import archive_reader, ids
from sauvegarde.backup import kinds
from sauvegarde.django import site, starting_policy
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import (
    migration_arguments,
    migration_plan,
    migration_proof,
    migration_run,
    migration_source,
)
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state

KEY = "00112233445566778899aabbccddeeff"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
LIVE = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}
CHANGED = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("reference", "0001_initial")]
    operations = [
        migrations.RemoveField("place", "inhabitants"),
        migrations.AddField("trade", "colour", models.CharField(max_length=9, default="red")),
    ]
"""
# Values that only SQLite takes, in rows that it does not look at.
WRONG = (
    "from django.db import connection\n"
    "cursor = connection.cursor()\n"
    "cursor.execute('PRAGMA foreign_keys = OFF')\n"
    'cursor.execute("INSERT INTO reference_trade (name, comment, created, updated)'
    " VALUES ('Long', 'six ch', '2020-05-06 07:08:09', '2020-05-06 07:08:09')\")\n"
    "cursor.execute(\"UPDATE offers_offer SET trade_id = 'Nobody' WHERE id = 5\")\n"
    "print(1)"
)


@pytest.fixture(scope="module")
def sites(cluster, tmp_path_factory):
    return sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory)


@pytest.fixture()
def changed(sites, tmp_path):
    """The site with newer code, on a file that is not there yet: a field less, a field more."""
    code = tmp_path / "site"
    shutil.copytree(str(SITE), str(code), ignore=shutil.ignore_patterns("__pycache__"))
    (code / "reference/migrations/0002_changed.py").write_text(CHANGED, encoding="utf-8")
    models = code / "reference/models.py"
    lines = models.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("    inhabitants")]
    lines.insert(lines.index("class Trade(Dated):") + 1, "    colour = models.CharField(max_length=9, default='red')")
    models.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return new(sites, tmp_path).replace(path=str(code))


def new(sites, folder, **variables):
    """The site on a file that is not there yet."""
    (folder / "data").mkdir()
    where = sites.new("sqlite")
    env_file = folder / "new.env"
    values = dict(variables, SITE_ENV="/nonexistent", DATABASE_URL=f"sqlite:///{folder}/data/new.sqlite3")
    env_file.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
    return where.replace(env_file=str(env_file))


def sent(where, tmp_path, about=LIVE, **values):
    """The archive that leaves the source."""
    return migration_source.make(
        where, tmp_path / "out", dict(migration_source.options(None, "", [], False), **values), about
    )


def look(where, about=LIVE, labels=()):
    return migration_source.look(where, None, "", list(labels), False, about)


def specification(where, tmp_path, **values):
    return MigrationRequest.from_values(dict({"site": where.as_dict(), "directory": str(tmp_path / "in")}, **values))


def fill(where, result, tmp_path, **values):
    """(the run's final state, the site on its side database)."""
    spec = specification(where, tmp_path, path=result["path"], **values)
    identifier = ids.new_id(restore_state.folder(spec.directory))
    done = migration_run.fill(spec, identifier, migration_plan.survey(where, spec.labels))
    return done, where.replace(name=done["side"])


def test_what_only_one_side_knows_is_left_out_and_all_else_is_proven(sites, changed, tmp_path):
    where = sites.new("sqlite", filled=True)
    result = sent(where, tmp_path)
    lines = migration_plan.lines(migration_run.make_plan(specification(changed, tmp_path), look(where)))
    assert any(line.startswith("BLOCKED:") and "field reference.place.inhabitants" in line for line in lines)
    assert any("The source does not know reference.trade: colour" in line for line in lines)
    assert any("the source's lacks: reference.0002_changed" in line for line in lines)
    with pytest.raises(SauvegardeError, match="cannot be loaded"):
        fill(changed, result, tmp_path)
    lines = migration_plan.lines(migration_run.make_plan(specification(changed, tmp_path, unknown="skip"), look(where)))
    assert not any(line.startswith("BLOCKED:") for line in lines)
    done, side = fill(changed, result, tmp_path, unknown="skip")
    assert done["proof"]["left_out"] == {"reference.place": ["inhabitants"], "reference.trade": ["colour"]}
    assert "reference.place: only one side knows inhabitants" in done["notes"]
    assert {entry["fields"].pop("colour") for entry in objects(side, "reference.trade")} == {"red"}
    assert objects(side, "reference.trade", "colour") == objects(where, "reference.trade")
    assert objects(side, "reference.place") == objects(where, "reference.place", "inhabitants")
    # The proof is one of all that is left.
    manifest = kinds.verify(result["path"])
    spec = specification(changed, tmp_path, path=result["path"])
    change(side, "UPDATE reference_place SET code = '999' WHERE rowid = 3")
    with pytest.raises(SauvegardeError) as caught:
        migration_proof.prove(spec, side, migration_plan.survey(side), manifest, {})
    first, second = caught.value.why.splitlines()
    assert first == "reference.place: 120 rows, but not the same content."
    assert second.startswith("reference.place ") and 'code: sent "' in second and second.endswith('arrived "999"')


def test_what_a_policy_repairs_is_listed_and_all_else_is_proven(sites, tmp_path):
    where, target = sites.new("sqlite", filled=True), new(sites, tmp_path)
    shell(where, WRONG)
    result = sent(where, tmp_path)
    with pytest.raises(SauvegardeError, match="2 problems"):
        fill(target, result, tmp_path)
    policy = {"too_long": "cut", "foreign_key": "drop"}
    done, side = fill(target, result, tmp_path, policy=policy)
    assert done["proof"]["mended"] == {"reference.trade": 1, "offers.offer": 1}
    assert "offers.offer: 1 repaired or left out, as the policy says; all others are proven" in done["notes"]
    trades = {entry["pk"]: entry["fields"]["comment"] for entry in objects(side, "reference.trade")}
    assert trades["Long"] == "six c"
    assert objects(side, "offers.offer") == [e for e in objects(where, "offers.offer") if e["pk"] != 5]
    manifest = kinds.verify(result["path"])
    spec = specification(target, tmp_path, path=result["path"])
    touched = {"reference.trade": ["Long"], "offers.offer": [5]}
    assert (
        migration_proof.prove(spec, side, migration_plan.survey(side), manifest, touched)["mended"]
        == done["proof"]["mended"]
    )
    change(side, "DELETE FROM offers_offer WHERE id = 6")
    with pytest.raises(SauvegardeError) as caught:
        migration_proof.prove(spec, side, migration_plan.survey(side), manifest, touched)
    assert caught.value.why == "offers.offer: 119 rows expected, 118 found."


def test_the_plan_says_when_code_and_data_disagree(sites, tmp_path):
    where = sites.new("sqlite", filled=True, SITE_EXTRA_APPS="jobs")
    target = sites.new("sqlite", filled=True)
    change(target.replace(name=database(target)), "DELETE FROM django_migrations WHERE app = 'people'")
    lines = migration_plan.lines(migration_run.make_plan(specification(target, tmp_path), look(where)))
    lacks = "The target's live database lacks migrations; the new one gets them: people.0001_initial"
    assert any(lacks in line for line in lines)
    assert any("The source's code has migrations that the target's lacks: jobs.0001_initial" in line for line in lines)
    assert any(line.startswith("BLOCKED:") and "model jobs.place" in line for line in lines)
    lines = migration_plan.lines(
        migration_run.make_plan(specification(target, tmp_path, labels=["auth.Permission"]), look(where))
    )
    assert any(line.startswith("BLOCKED: Nothing would be moved.") for line in lines)
    with pytest.raises(SauvegardeError, match="too_long: burn"):
        migration_run.make_plan(specification(target, tmp_path, policy={"too_long": "burn"}), look(where))
    # On the source's side it stops.
    result = look(target)["obstacles"]
    assert [each["what"] for each in result] == ["The source's code and data disagree: migrations are not applied."]
    assert result[0]["why"] == "people.0001_initial"


def test_a_set_of_the_whole_site_is_the_whole_site():
    values = {"labels": [], "sets": ["trades", "all"], "fixture_sets": [{"name": "all", "models": ["*"]}]}
    values["fixture_sets"].append({"name": "trades", "models": ["reference.Trade"]})
    assert migration_arguments.labels(values) == []
    assert migration_arguments.labels(dict(values, sets=["trades"])) == ["reference.Trade"]


def test_a_database_that_remembers_more_than_the_code_is_not_always_newer():
    """What was squashed is no news, nor what a removed application left."""
    collected = {"migrations": ["a.0001_squashed_0002"], "replaced": ["a.0001_one", "a.0002_two"]}
    collected["applied"] = ["a.0001_one", "a.0001_squashed_0002", "a.0002_two", "removed.0001_one"]
    assert migration_source._ahead(collected) == []
    (report,) = migration_source._ahead(dict(collected, applied=[*collected["applied"], "a.0003_three"]))
    assert "its code lacks: a.0003_three. What" in report


def archived(where, root, **jobs):
    """An archive of each job, all of the site; {job: (its folder, the same in the form that repositories hold)}."""
    collected = {}
    for name, values in jobs.items():
        (root / name).mkdir(mode=0o700, parents=True)
        path = root / name / kinds.back_up(dict(values, name=name, site=where.as_dict()), str(root))["id"]
        archive_reader.expand(path, root / (name + "-plain"))
        collected[name] = path, root / (name + "-plain")
    return collected


SETS = [
    {"name": "trades", "models": ["reference.Trade", "reference.TradeVariation"]},
    {"name": "reference", "file": "reference.jsonl", "models": ["reference"]},
]


@needs_root
def test_each_kind_of_archive_leaves_as_the_live_site_would_have(sites, tmp_path):
    """From this host or out of a repository, the site's own database being gone; of another engine it is refused."""
    where = sites.new("sqlite", filled=True)
    file = database(where)
    manifest = archived(
        where,
        tmp_path / "root",
        file={"kind": "sqlite", "path": file},
        data={"kind": "dumpdata"},
        sets={"kind": "fixtures", "sets": SETS},
    )
    expected, some = fingerprint(where), fingerprint(where, labels=["reference"])
    whole = fingerprint(where, exact=True)  # a database has microseconds, fixtures have milliseconds
    Path(file).rename(file + ".gone")
    # Of what runs fetched that could not remove it: that of another one may be in use.
    old, new_one = tmp_path / "fetched-1", tmp_path / "fetched-2"
    for folder in (old, new_one):
        (folder / "fetched").mkdir(parents=True)
    os.utime(str(old), (0, 0))
    assert [each["what"] for each in look(where)["obstacles"]] == ["The source's database cannot be asked."]
    for name, form, labels in (
        ("file", 1, []),
        ("data", 0, []),
        ("data", 1, ["reference"]),
        ("sets", 1, ["reference"]),
    ):
        about = dict(LIVE, path=str(manifest[name][form]))
        result = look(where, about, labels)
        # Its migrations are inside, where no plan looks.
        assert result["obstacles"] == [] and ("is seen when it is opened" in str(result["warnings"])) == (
            name == "file"
        )
        left = sent(where, tmp_path, about, labels=labels)
        # A set may be among others; each object leaves once, and what was not asked for stays.
        held = whole if name == "file" else some if labels else expected
        assert differences(held, left["manifest"]["fingerprint"]) == []
        if (name, form) == ("data", 0):
            target, _ = fill(new(sites, tmp_path), left, tmp_path)
            assert differences(expected, fingerprint(where.replace(name=target["side"]))) == []
    assert not old.exists() and new_one.exists()
    assert not Path(file).exists() and list(Path("/var/tmp").glob("sauvegarde-opened-*")) == []
    for name, report in (
        ("file", ["The archive is of another engine than the site's: sqlite for postgresql."]),
        ("data", []),
    ):
        about = dict(LIVE, path=str(manifest[name][0]))
        assert [each["what"] for each in look(sites.new("pg"), about)["obstacles"]] == report
    # Its checksums are compared before anything of it is used.
    data = manifest["data"][1] / "data.json"
    data.write_bytes(data.read_bytes().replace(b"Cartographe", b"Cartographo"))
    with pytest.raises(SauvegardeError, match="The archive is damaged"):
        sent(where, tmp_path, dict(LIVE, path=str(data.parent)))


def test_an_archive_of_a_part_or_of_other_code_is_not_taken_for_the_site(sites, changed, tmp_path):
    where = sites.new("sqlite", filled=True, SITE_EXTRA_APPS="jobs")
    shell(where, "from jobs.models import Source\nprint(Source.objects.create(name='S').pk)")
    policy = json.loads(json.dumps(starting_policy.starting_policy(site.describe(where)["models"])))
    manifest = archived(
        where,
        tmp_path / "root",
        part={"kind": "dumpdata", "dumpdata": {"labels": ["reference", "jobs"]}},
        rows={"kind": "dumpdata", "dumpdata": {"labels": ["reference.Trade"], "pks": ["Cartographe"]}},
        masked={"kind": "dumpdata", "dumpdata": {"policy": policy, "key": KEY}},
        file={"kind": "sqlite", "path": database(where)},
    )

    def seen(name, labels=(), by=where):
        return look(by, dict(LIVE, path=str(manifest[name][0])), list(labels))

    missing = seen("part")["obstacles"]
    assert [each["what"].split(";")[0] for each in missing] == ["The archive does not hold all that would be moved"]
    assert "auth.user" in missing[0]["why"] and "reference.trade" not in missing[0]["why"]
    assert seen("part", ["reference"])["obstacles"] == []
    assert seen("rows", ["reference.Trade"])["obstacles"][0]["why"] == "The job took chosen rows only."
    for environment, refused in (("repository", 0), ("production", 0), ("development", 1), ("", 1)):
        value = dict(LIVE, path=str(manifest["file"][0]), environment=environment)
        lines = [each["what"] for each in migration_source.look(where, policy, KEY, [], True, value)["obstacles"]]
        assert lines == ["An archive that must be masked is not opened here."] * refused
    # Whose people are invented already is known, whatever is done with it next.
    assert seen("masked")["is_masked"] and not seen("part", ["reference"])["is_masked"]
    about = dict(LIVE, path=str(manifest["masked"][0]))
    assert sent(where, tmp_path, about)["manifest"]["source"]["masked"]
    # Code that does not know all of it, and code that is newer.
    less = sites.new("sqlite")
    unknown = "The archive holds models that the source's code does not know."
    assert [each["why"] for each in seen("masked", by=less)["obstacles"] if each["what"] == unknown] == ["jobs.source"]
    with pytest.raises(SauvegardeError, match="which the site's code does not know"):
        sent(less, tmp_path, about)
    with pytest.raises(SauvegardeError, match="migrations are not applied"):
        sent(changed, tmp_path, dict(LIVE, path=str(manifest["file"][0])))
    change(
        less.replace(name=database(less)),
        "INSERT INTO django_migrations VALUES (999, 'reference', '0009_newer', '2020-01-01'),"
        " (998, 'removed', '0001_gone', '2020-01-01')",
    )
    lines = migration_plan.lines(migration_run.make_plan(specification(where, tmp_path), look(less)))
    # Of an application that is removed nothing would come along in any case.
    assert any("that its code lacks: reference.0009_newer. What they added may not come" in line for line in lines)


LEFT = """
SELECT datname FROM pg_database WHERE datname LIKE '%opened%'
UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'reader_%'
"""
# Rows that can only be in the database of this name: a dump's opening fails once it has made its roles.
# Rows that no other database takes: a column is computed by what refuses to work there.
HERE = """
CREATE FUNCTION here(code text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF pg_catalog.current_database() <> '{}' THEN RAISE EXCEPTION 'not here'; END IF;
  RETURN code;
END $$;
ALTER TABLE reference_place ADD COLUMN here text GENERATED ALWAYS AS (public.here(code)) STORED
"""


@needs_root
def test_a_dump_is_opened_where_neither_its_database_nor_its_roles_are(sites, cluster, tmp_path):
    """As on a host that takes the place of a dead one: what had to be made for it goes again."""
    where = sites.new("pg", filled=True)
    live, expected = database(where), fingerprint(where, exact=True)
    cluster.execute("CREATE ROLE reader_gone")
    cluster.execute("GRANT SELECT ON reference_place TO reader_gone", live)
    job = {"kind": "pg_dump", "connection": cluster.values, "database": live}
    manifest = archived(where, tmp_path / "root", db=job)
    cluster.execute(HERE.format(live), live)
    manifest.update(archived(where, tmp_path / "root", bad=job))
    cluster.execute(f"DROP DATABASE {live}")
    cluster.execute("DROP ROLE reader_gone")
    about = dict(LIVE, path=str(manifest["db"][1]), connection=cluster.values)
    about.update(keeper="root", server_directory=str(tmp_path / "restores"))
    assert look(where, about)["obstacles"] == []
    with pytest.raises(SauvegardeError, match="reference_place"):
        sent(where, tmp_path, dict(about, path=str(manifest["bad"][1])))
    assert cluster.execute(LEFT) == []
    # One that was killed left its roles, too.
    cluster.execute("CREATE ROLE reader_left")
    (killed,) = restore_state.runs(about["server_directory"])
    assert killed.values["step"] == "post-data" and killed.roles_created == ()
    restore_state.change(about["server_directory"], killed.id, status=restore_state.RUNNING, roles_made=["reader_left"])
    assert differences(expected, sent(where, tmp_path, about)["manifest"]["fingerprint"]) == []
    assert cluster.execute(LEFT) == []
    env_file = tmp_path / "stranger.env"
    lines = Path(where.env_file).read_text(encoding="utf-8")
    env_file.write_text(lines.replace("//postgres@", "//stranger@"), encoding="utf-8")
    report = look(where.replace(env_file=str(env_file)), about)["obstacles"]
    assert [each["why"] for each in report] == ["The server has no role stranger, which the site logs in as."]


@needs_root
def test_from_postgresql_to_postgresql(sites, cluster, tmp_path):
    """Over a live database: a side one beside it, with the live one's settings, and nothing written to the live one."""
    where, target = sites.new("pg", filled=True), sites.new("pg", filled=True)
    shell(where, "from reference.models import *\nprint(Place.objects.filter(code='007').update(inhabitants=7))")
    live = database(target)
    cluster.execute(f"ALTER DATABASE {live} SET work_mem = '5MB'")
    before = fingerprint(target)
    folder = cluster.folder / "restores"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    shutil.chown(str(folder), cluster.user)
    values = {"server_directory": str(folder), "connection": cluster.values, "keeper": cluster.user}
    result = sent(where, tmp_path)
    report = migration_run.make_plan(specification(target, tmp_path, **values), look(where)).as_dict()
    assert report["obstacles"] == [] and report["database"] == live
    done, side = fill(target, result, tmp_path, **values)
    assert done["proof"]["models"] == result["manifest"]["fingerprint"]["tables"]
    assert done["safety"] and differences(before, fingerprint(target)) == []
    assert differences(fingerprint(where), fingerprint(side)) == []
    assert cluster.execute("SHOW work_mem", done["side"]) == [("5MB",)]


def objects(where, label, without=""):
    """The model's objects, in order, without one of their fields."""
    result = json.loads(text_of(where, labels=[label], exclude=[]).decode())
    for entry in result:
        entry["fields"].pop(without, None)
    return result


def database(where):
    """The name of the database of the site's environment file."""
    lines = Path(where.env_file).read_text(encoding="utf-8").splitlines()
    url = next(line for line in lines if line.startswith("DATABASE_URL="))
    return url[len("DATABASE_URL=sqlite:///") :] if "sqlite" in url else url.split("?")[0].rpartition("/")[2]


def change(where, statement):
    """Change a site's file behind the site's back."""
    with contextlib.closing(sqlite3.connect(where.name)) as connection:
        connection.execute(statement)
        connection.commit()
