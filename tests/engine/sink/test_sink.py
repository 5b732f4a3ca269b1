"""Databases at random: a backup and its restore, and the restore of stock's dumps, against `pg_dump | pg_restore`.

Every restored database must equal what stock makes of the same source, or the source itself where stock lost something,
in its definitions and in every row. What it lacks of the source must be among the losses that the engine named; a
foreign key that rows break may be there for new rows only (NOT VALID) where stock has none.

SAUVEGARDE_SINK is the number of databases (200), SAUVEGARDE_SINK_SEED the seed. A database that differs does not end
the run: all of them are reported, each with the statements that make it.
"""

import functools
import json
import os
import re
import shutil
import subprocess

import pytest
import restores

pytest.importorskip("hypothesis", reason="python3-hypothesis is not installed")

import contents
import objects
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.restore.dump import loss_names
from sauvegarde.restore.dump.entries import Entry
from sauvegarde.targets import side_database

BLOCKS = 10
COUNT = int(os.environ.get("SAUVEGARDE_SINK", "200"))
SEED = int(os.environ.get("SAUVEGARDE_SINK_SEED", "20261128"))
NAMES = ("source", "stock", "ours", "custom", "plain")
# What takes time and changes nothing in what is compared.
SERVER = {
    "autovacuum": "off",
    "jit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "default_statistics_target": "1",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
}
TEMPLATE = "with_postgis"  # CREATE EXTENSION postgis takes longer than all the rest


@pytest.fixture(scope="module")
def server(cluster):
    """The cluster, with the roles that generated databases name."""
    for name, value in SERVER.items():
        cluster.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    cluster.stop()
    cluster.start()
    for role in objects.ROLES:
        cluster.execute(f"CREATE ROLE {sql_names.quote(role)}")
    cluster.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    cluster.execute("CREATE EXTENSION postgis", TEMPLATE)
    # The programs of a server stay the same for all databases.
    known = client_tools.clients
    client_tools.clients = functools.lru_cache(maxsize=None)(known)
    yield cluster
    client_tools.clients = known


@pytest.fixture(scope="module")
def tally():
    """How many statements of all databases the server took, and how many it refused."""
    collected = {"taken": 0, "refused": 0}
    yield collected
    assert collected["refused"] < collected["taken"] / 4, f"too much of what is generated is refused: {collected}"


def create(cluster, name, database):
    """A new database, from a template that spares the time of its largest extension."""
    template = TEMPLATE if "postgis" in database.extensions else "template0"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template}")


def fill(cluster, database, tally):
    """Make the source: settings first, since they act on what is computed. Returns the statements that were taken."""
    create(cluster, "source", database)
    for setting, value in database.settings:
        cluster.execute(f"ALTER DATABASE source SET {setting} TO {value}")
    taken = []
    connection = cluster.connect("source")
    try:
        postgres_server.execute(connection, "SET default_transaction_read_only TO off")
        connection.set_client_encoding("UTF8")
        for statement in database.statements:
            try:
                postgres_server.execute(connection, statement)
            except Exception:  # noqa: BLE001 - whatever the server says, the statement is none of this database
                tally["refused"] += 1
            else:
                taken.append(statement)
    finally:
        connection.close()
    tally["taken"] += len(taken)
    return taken


def stock(cluster, database, folder):
    """What people use today: both of pg_dump's usual forms, and pg_restore into a new database. Returns its errors."""
    env = client_tools.environment(cluster.server, "source")
    dump = contents.client(cluster, "pg_dump")
    subprocess.run([dump, "-Fc", "-f", folder / "source.dump"], env=contents.environment(cluster, "source"), check=True)
    subprocess.run([dump, "-Fp", "-f", folder / "source.sql"], env=env, check=True)
    create(cluster, "stock", database)
    words = [contents.client(cluster, "pg_restore"), "-d", "stock", folder / "source.dump"]
    return subprocess.run(words, env=env, check=False, stderr=subprocess.PIPE, text=True, errors="replace").stderr


def restore(cluster, path, database, folder, lossy):
    """Restore into a database of that name with the engine; raises what the engine raises. Where stock lost something
    (`lossy`), the losses that the engine names are accepted, as its user would. Returns them.
    """
    spec = {
        "connection": cluster.values, "path": str(path), "database": database, "directory": str(folder / "runs"),
        "mode": "beside", "jobs": 2 if database == "custom" else 1,
    }  # fmt: skip
    try:
        filled = restores.fill(spec)
    except SauvegardeError as error:
        names = re.search(r"restore_accept_losses: (\[.*\])", error.why + error.fix)
        if not names or not lossy:
            raise
        spec["accept_losses"] = json.loads(names.group(1))
        filled = restores.fill(spec)
    restores.swap_in(spec, filled["id"])
    return filled["losses"]


def without_invalid(result, lost):
    """Definitions without the mark of constraints that the engine kept for new rows only, and said so."""
    kept = {each["object"] for each in lost if each["kept"] == "NOT VALID"}
    return {
        name: definition.replace(" NOT VALID;", ";") if "FK CONSTRAINT" in name and loss(name) in kept else definition
        for name, definition in result.items()
    }


def loss(entry):
    """The name of a loss of what an entry of `contents.definitions` defines."""
    named = re.match(r"Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: (.*)", entry)
    name, kind, schema, owner = named.groups()
    return loss_names.loss_name(Entry(kind, "" if schema == "-" else schema, name, owner))


def unnamed(result, of_source, lost):
    """What the source has, the restored database has not, and no loss names."""
    names = {each["object"] for each in lost}
    # pg_restore lists the data of materialized views among definitions, pg_dump does not.
    missing = [name for name in of_source if re.match("Name: (?!.*; Type: MATERIALIZED VIEW DATA; )", name)]
    missing = [name for name in missing if name not in result]
    return [f"lost without a word: {name}" for name in missing if loss(name) not in names]


def differences(result, of_stock, of_source):
    """Each of the restored parts that is neither what stock restored nor what the source has."""
    return [
        f"{key}\n  found:  {result.get(key)!r:.900}\n  stock:  {of_stock.get(key)!r:.900}\n"
        f"  source: {of_source.get(key)!r:.900}"
        for key in sorted(set(result) | set(of_stock))
        if result.get(key) not in (of_stock.get(key), of_source.get(key))
        or (key in of_stock and key not in result)  # whatever became of it
    ]


def drop_all(cluster):
    connection = cluster.connect()
    try:
        for name in NAMES:
            side_database.drop(connection, name)
    finally:
        connection.close()


def broken_keys(archive, of_stock, of_source, options):
    """Yield what is wrong with the archive's own look at foreign keys, by what stock said of them."""
    look = archive["source"]["foreign_keys"]
    if look["looked_at"] == look["of"] and of_stock[1] == of_source[1]:  # else there may be other reasons
        refused = options.count("violates foreign key constraint")
        if len(look["broken"]) != refused:
            yield "{} foreign keys are broken, the archive names {}".format(refused, look["broken"])


def compare(server, folder, options):
    """Yield what differs from stock, by the name of the database that was restored. said: stock's errors."""
    (folder / "repository" / "sink").mkdir(parents=True, mode=0o700)
    job = {"name": "sink", "kind": "pg_dump", "connection": server.values, "database": "source", "workers": 2}
    archive = kinds.back_up(job, folder / "repository")
    sources = {
        "ours": folder / "repository" / "sink" / archive["id"],
        "custom": folder / "source.dump",
        "plain": folder / "source.sql",
    }
    of_stock = contents.definitions(server, "stock"), contents.rows(server, "stock")
    of_source = contents.definitions_of_dump(server, folder / "source.dump"), contents.rows(server, "source")
    yield from broken_keys(archive, of_stock, of_source, options)
    for name, path in sources.items():
        try:
            lost = restore(server, path, name, folder, bool(options))
        except SauvegardeError as error:
            yield f"{name} is not restored: {error.what}\n{error.why}\n{error.fix}"
            continue
        result = without_invalid(contents.definitions(server, name), lost), contents.rows(server, name)
        silent = unnamed(result[0], of_source[0], lost)
        if silent:
            yield f"{name} lacks what it does not name:\n" + "\n".join(silent)
        for different in map(differences, result, of_stock, of_source):
            if different:
                yield f"{name} is not what stock restores:\n" + "\n".join(different)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_databases(block, server, tally, tmp_path):
    reports = []
    count = max(1, COUNT // BLOCKS)
    for number, database in enumerate(objects.drawn(count, SEED + block * count)):
        folder = tmp_path / str(number)
        folder.mkdir()
        drop_all(server)
        taken = fill(server, database, tally)
        options = stock(server, database, folder)
        try:
            result = list(compare(server, folder, options))
        except SauvegardeError as error:
            result = [f"no backup: {error.what}\n{error.why}\n{error.fix}"]
        if result:
            outcome = f"-- settings: {database.settings}\n" + "".join(f"{each};\n" for each in taken)
            reports.append("\n".join([f"Database {block}-{number}", outcome, f"stock said: {options}", *result]))
        shutil.rmtree(str(folder))
    assert not reports, f"{len(reports)} databases differ:\n\n" + "\n\n".join(reports)
