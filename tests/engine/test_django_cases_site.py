"""A site's start-up and its settings: no task reaches another database than the one that it was told."""

import time
from pathlib import Path

import conftest
import pytest
from little_site import Folder, about, database, execute, fill, migrate, rows
from sample_site import ENVIRONMENTS, manage, write
from sauvegarde.backup import kinds
from sauvegarde.django import data_dump, data_load, site
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_source
from sauvegarde.system import process

KINDS = ("sqlite", "pg")
# What InvenTree and others do: settings are kept in the database, asked for and completed when the site starts.
ASKS = """
from django.db import DatabaseError
from a.models import Note, Setting
try:
    values = dict(Setting.objects.values_list("key", "value"))
    Setting.objects.get_or_create(key="made by the start", defaults={"value": "x"})
except DatabaseError:
    values = {}
"""


@pytest.fixture(scope="module")
def asking(cluster, tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("asking"), cluster, ENVIRONMENTS[0], ASKS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_asks_the_database_asks_the_named_one(cluster, asking, tmp_path, kind):
    one, two = asking.new(kind), asking.new(kind)
    fill(cluster, one, "source")
    fill(cluster, two, "live")
    done = migrate(one, two, tmp_path)
    assert ("site", "live") in rows(cluster, two) and ("", "live") in rows(cluster, two)
    assert not [row for row in rows(cluster, two) if "source" in row]
    assert rows(cluster, two, done["side"]) == rows(cluster, one)
    assert done["proof"]["rows"] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_opened_gives_what_it_holds(cluster, asking, tmp_path, kind):
    where = asking.new(kind)
    fill(cluster, where, "then")
    values = {"sqlite": {"path": database(where)}, "pg": {"connection": cluster.values, "database": database(where)}}
    job = dict({"name": "demo", "kind": {"pg": "pg_dump"}.get(kind, kind)}, **values[kind])
    (tmp_path / "repository" / "demo").mkdir(mode=0o700, parents=True)
    archived = kinds.back_up(job, tmp_path / "repository")
    execute(cluster, where, "UPDATE a_note SET text = 'changed since'")
    report = about(where, tmp_path, str(tmp_path / "repository" / "demo" / archived["id"]))
    result = migration_source.make(where, tmp_path / "out", migration_source.options(None, "", [], False), report)
    tables = result["manifest"]["fingerprint"]["tables"]
    assert {label: tables[label]["rows"] for label in ("a.setting", "a.note")} == {"a.setting": 1, "a.note": 1}
    target = asking.new("sqlite")
    data_load.load(target, [next((tmp_path / "out" / "outgoing").glob("*/*.jsonl*"))], {"mode": "replace"})
    assert rows(cluster, target)[0] == ("", "then")


# Each makes the site's code lead a task elsewhere, by what a site can do.
FAULTS = """
import os
from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created
fault, other = os.environ.get("FAULT"), os.environ.get("OTHER")
def elsewhere(alias="default"):
    values = dict(connections[alias].settings_dict, NAME=other)
    return type(connections[alias])(values, alias)
def replaced(sender, connection, **_):
    if connection.alias == "default":
        values = dict(connection.get_connection_params())
        values["database" if connection.vendor == "sqlite" else "dbname"] = other
        connection.connection = connection.Database.connect(**values)
def attached(sender, connection, **_):
    if connection.vendor == "sqlite":
        connection.connection.execute("ATTACH '%s' AS aside" % other)
if fault == "listener":
    connection_created.connect(replaced)
elif fault == "name":
    connections["default"].settings_dict["NAME"] = other
elif fault == "settings":
    settings.DATABASES["default"] = dict(settings.DATABASES["default"], NAME=other)
    connections.settings["default"] = settings.DATABASES["default"]
elif fault == "wrapper":
    connections["default"] = elsewhere()
    connections["default"].ensure_connection()
elif fault == "attached":
    connection_created.connect(attached)
"""
ENGINE = """
from django.db.backends.{0} import base
class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self):
        import os
        found = super().get_connection_params()
        found["{1}"] = os.environ["OTHER"]
        return found
"""
FAULTY = """
if os.environ.get("FAULT") == "option" and os.environ["KIND"] == "pg":
    DATABASES["default"]["OPTIONS"] = {"dbname": os.environ["OTHER"]}
if os.environ.get("FAULT") == "engine":
    DATABASES["default"]["ENGINE"] = "engine_" + os.environ["KIND"]
"""
TASKS = {
    "dump": lambda where, path: data_dump.stream(where, {"labels": ["a"]}, lambda piece: None),
    "load": lambda where, path: data_load.load(where, [path], {"mode": "replace"}),
    "migrate": lambda where, path: site.run(where, "migrate", {}),
    "survey": lambda where, path: site.run(where, "survey", {"labels": [], "exclude": [], "include": []}),
    "describe": lambda where, path: site.describe(where),
}


@pytest.fixture(scope="module")
def faulty(cluster, tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("faulty"), cluster, ENVIRONMENTS[0], FAULTS, FAULTY)
    for kind, names in (("sqlite", ("sqlite3", "database")), ("pg", ("postgresql", "dbname"))):
        (folder.path / ("engine_" + kind)).mkdir()
        (folder.path / ("engine_" + kind) / "__init__.py").write_text("", encoding="ascii")
        (folder.path / ("engine_" + kind) / "base.py").write_text(ENGINE.format(*names), encoding="ascii")
    folder.sites = {}
    for kind in KINDS:
        live, aside = folder.new(kind), folder.new(kind)
        fill(cluster, live, "live")
        fill(cluster, aside, "aside")
        folder.sites[kind] = live, database(aside)
    return folder


def faulted(folder, kind, fault):
    """The site whose code has the fault, on its side database."""
    live, side = folder.sites[kind]
    env_file = Path(f"{live.env_file}.{fault}")
    text = Path(live.env_file).read_text(encoding="utf-8")
    env_file.write_text(text + f"FAULT={fault}\nOTHER={database(live)}\n", encoding="utf-8")
    return live.replace(env_file=str(env_file), name=side)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", sorted(TASKS))
def test_no_task_works_on_another_database(cluster, faulty, tmp_path, kind, task):
    live, side = faulty.sites[kind]
    path = write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": "sent"}}])
    before = rows(cluster, live), rows(cluster, live, side)
    with pytest.raises(SauvegardeError, match="leads to another database than the requested one") as caught:
        TASKS[task](faulted(faulty, kind, "listener"), path)
    assert Path(database(live)).name in caught.value.why
    assert (rows(cluster, live), rows(cluster, live, side)) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["name", "settings", "wrapper", "option", "engine", "attached"])
def test_a_load_reaches_the_named_database_or_none(cluster, faulty, tmp_path, kind, fault):
    if (fault, kind) in (("option", "sqlite"), ("attached", "pg")):
        pytest.skip("the other engine's")
    live, side = faulty.sites[kind]
    path = write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": fault}}])
    before = rows(cluster, live), rows(cluster, live, side)
    try:
        TASKS["load"](faulted(faulty, kind, fault), path)
    except SauvegardeError as error:
        assert fault != "option", error
        assert "database" in error.what and error.fix
        assert (rows(cluster, live), rows(cluster, live, side)) == before
    else:
        assert fault == "option"
        assert rows(cluster, live) == before[0]
        assert ("", fault) in rows(cluster, live, side)


def test_a_file_that_is_not_there_is_not_made_by_asking(asking, tmp_path):
    where = asking.new("sqlite")
    Path(database(where)).unlink()
    assert site.run(where, "survey", {"labels": [], "exclude": [], "include": []})["applied"] is None
    with pytest.raises(SauvegardeError, match="site's own code failed"):
        TASKS["dump"](where, None)
    assert not Path(database(where)).exists()


# --- other databases of the site --------------------------------------------------------------------------------------

SEVERAL = """
DATABASES["same"] = dict(DATABASES["default"])
DATABASES["other"] = dict(DATABASES["default"], NAME=os.environ["OTHER"])
DATABASE_ROUTERS = ["routers.Router"]
"""
ROUTER = """
class Router:
    def db_for_read(self, model, **_):
        return "other"
    db_for_write = db_for_read
    def allow_migrate(self, db, app_label, **_):
        return True
"""
LISTENER = """
import os
from django.db.models.signals import post_save
def told(sender, instance, using, **_):
    from a.models import Note, Setting
    if sender is Setting:
        how = os.environ.get("HOW")
        if how == "routed":
            Note.objects.create(text="by the router")
        elif how:
            Note.objects.using(how).create(text="by " + how)
post_save.connect(told, dispatch_uid="told", weak=False)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_other_databases_of_the_site_can_only_be_read(cluster, tmp_path, kind):
    folder = Folder(tmp_path / "several", cluster, ENVIRONMENTS[0], LISTENER, SEVERAL, **{"routers.py": ROUTER})
    live, side, other = (folder.new(kind, OTHER="none") for _ in range(3))
    fill(cluster, live, "live")
    fill(cluster, other, "other")
    path = write(tmp_path / "f.json", [{"model": "a.setting", "pk": 9, "fields": {"key": "k", "value": "sent"}}])
    text = Path(live.env_file).read_text(encoding="utf-8").replace("OTHER=none", f"OTHER={database(other)}")
    written = []
    for how in ("routed", "same", "other"):
        Path(live.env_file).write_text(text + f"HOW={how}\n", encoding="utf-8")
        where = live.replace(name=database(side))
        if how == "other":
            with pytest.raises(SauvegardeError) as caught:
                data_load.load(where, [path], {"mode": "replace"})
            assert "readonly" in caught.value.why or "read-only" in caught.value.why
        else:
            data_load.load(where, [path], {"mode": "replace", "models": ["a.note"]})
            written += [row[1] for row in rows(cluster, side) if row[1].startswith("by ")]
        assert rows(cluster, live) == [("", "live"), ("site", "live")]
        assert rows(cluster, other) == [("", "other"), ("site", "other")]
    assert written == ["by the router", "by same"]


# --- processes and environments ---------------------------------------------------------------------------------------

WILD = """
import atexit, locale, logging, os, signal, sys, threading, time
if sys.argv[1] == "runserver":
    raise SystemExit
if os.environ.get("WILD"):
    print("printed by the start", flush=True)
    os.write(1, b"written by the start")
    logging.basicConfig(stream=sys.stdout)
    logging.error("logged by the start")
    assert sys.stdin.read() == ""
    threading.Thread(target=lambda: time.sleep(3600)).start()
    if os.fork() == 0:
        open(os.environ["WILD"], "w").write(" ".join(os.listdir("/proc/self/fd")))
        time.sleep(15)
        os._exit(0)
    atexit.register(time.sleep, 3600)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    os.chdir("/")
    os.umask(0o777)
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    sys.setrecursionlimit(400)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_wild_start_changes_no_stream_and_ends(cluster, tmp_path, kind):
    folder = Folder(tmp_path / "wild", cluster, ENVIRONMENTS[0], WILD)
    quiet = folder.new(kind)
    fill(cluster, quiet, "é\n%s" % ("x" * 90))
    pieces, stock = [], manage(quiet, "dumpdata", "a")
    with Path(quiet.env_file).open("a", encoding="utf-8") as file:
        file.write(f"WILD={tmp_path}/descriptors\n")
    held = (tmp_path / "lock").open("w")
    process.inherit(held.fileno())
    try:
        data_dump.stream(quiet, {"labels": ["a"]}, pieces.append)
        assert b"".join(pieces) == stock.strip()
        path = write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": "new"}}])
        assert data_load.load(quiet, [path], {"mode": "merge"})["written"]
    finally:
        process.disinherit(held.fileno())
    assert ("", "new") in rows(cluster, quiet)
    # What stays of the start holds neither the stream nor the job's lock: only the three that it could not do without.
    conftest.wait_until(lambda: (tmp_path / "descriptors").exists() and (tmp_path / "descriptors").read_text())
    assert len((tmp_path / "descriptors").read_text(encoding="ascii").split()) <= 5


CLASSES = """
import os, sys, types
import lib_of_the_site
def main():
    os.environ["DJANGO_SETTINGS_MODULE"] = "made"
    made = types.ModuleType("made")
    import conf
    class Production:
        pass
    for name in dir(conf):
        if name.isupper():
            setattr(Production, name, getattr(conf, name))
    Production.DATABASES = {"default": dict(conf.DATABASES["default"], NAME=lib_of_the_site.name())}
    for name in dir(Production):
        if name.isupper():
            setattr(made, name, getattr(Production, name))
    sys.modules["made"] = made
    from django.core.management import execute_from_command_line as execute
    try:
        execute(sys.argv)
    except Exception:
        sys.exit("swallowed")
main()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_made_as_manage_makes_them(cluster, tmp_path, kind):
    folder = Folder(tmp_path / "classes", cluster, ENVIRONMENTS[-1])
    where = folder.new(kind)
    fill(cluster, where, "live")
    (tmp_path / "lib").mkdir()
    text = "import os\ndef name():\n    return os.environ['MANY'].split()[1]\n"
    (tmp_path / "lib" / "lib_of_the_site.py").write_text(text, encoding="ascii")
    side = folder.new(kind)
    (folder.path / "manage.py").write_text(CLASSES, encoding="ascii")
    name = database(where)
    with Path(where.env_file).open("a", encoding="utf-8") as file:
        file.write(f"LIB={tmp_path}/lib\nPYTHONPATH=/nowhere:${{LIB}}\nMANY='several\n{name}\nlines'\n")
    where = where.replace(settings="made")
    assert site.run(where, "survey", {"labels": [], "exclude": [], "include": []})["name"] == name
    path = write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": "new"}}])
    data_load.load(where.replace(name=database(side)), [path], {"mode": "merge"})
    assert rows(cluster, side) == [("", "new")] and ("", "new") not in rows(cluster, where)


CHOOSES = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "dev"
from django.conf import settings
if settings.DEBUG:
    print("debugging")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
DEV = """
from conf import *
DEBUG = True
DATABASES["default"]["NAME"] = os.environ["OTHER"]
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_descriptions_settings_are_those_of_the_job(cluster, tmp_path, kind):
    """As with the option --settings of Django's own commands, whatever manage.py chooses for developers."""
    folder = Folder(tmp_path / "chooses", cluster, ENVIRONMENTS[0], **{"dev.py": DEV})
    where, other = folder.new(kind), folder.new(kind)
    fill(cluster, where, "live")
    fill(cluster, other, "developers")
    (folder.path / "manage.py").write_text(CHOOSES, encoding="ascii")
    with Path(where.env_file).open("a", encoding="utf-8") as file:
        file.write(f"OTHER={database(other)}\n")
    pieces = []
    data_dump.stream(where, {"labels": ["a"]}, pieces.append)
    assert b"live" in b"".join(pieces) and b"developers" not in b"".join(pieces)


WRITES_ON = """
import os, threading, time
def write():
    while True:
        try:
            from a.models import Note
            Note.objects.create(text="by a thread")
        except Exception:
            pass
        time.sleep(0.002)
if os.environ.get("THREAD"):
    threading.Thread(target=write).start()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_of_the_start_does_not_write_into_a_side_database(cluster, tmp_path, kind):
    folder = Folder(tmp_path / "threads", cluster, ENVIRONMENTS[0], WRITES_ON)
    one, two = folder.new("sqlite"), folder.new(kind, THREAD="1")
    fill(cluster, one, "source")
    done = migrate(one, two, tmp_path)
    assert done["proof"]["rows"] == 2
    # The thread lives as long as its task, and none may have written its first row yet.
    side = two.replace(name=done["side"])
    end = time.monotonic() + 300
    while ("", "by a thread") not in rows(cluster, two) and time.monotonic() < end:
        site.describe(side)
    assert ("", "by a thread") in rows(cluster, two)
    assert ("", "by a thread") not in rows(cluster, two, done["side"])


EXITS = {
    "import sys; sys.exit(3)": "start-up ended before it ran a command",
    "import os; os._exit(0)": "ended without an answer",
    "import os, sys; os.execv(sys.executable, [sys.executable, 'manage.py', *sys.argv[1:]])": "replaces itself",
    "raise ValueError('of the site')": "site's own code failed",
}


def test_a_start_that_ends_is_reported(asking):
    where = asking.new("sqlite")
    text = asking.start.read_text(encoding="utf-8")
    try:
        for start, what in EXITS.items():
            asking.start.write_text(start, encoding="utf-8")
            with pytest.raises(SauvegardeError, match=what) as caught:
                site.describe(where)
            assert caught.value.fix
    finally:
        asking.start.write_text(text, encoding="utf-8")
