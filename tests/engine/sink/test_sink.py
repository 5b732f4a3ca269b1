"""Databases at random: a backup and its restore, and the restore of stock's dumps, against `pg_dump | pg_restore`.

Every restored database must equal what stock makes of the same source, or the source itself where stock lost something,
in its definitions and in every row. SAUVEGARDE_SINK is the number of databases (200), SAUVEGARDE_SINK_SEED the seed.
"""

import difflib
import os
import subprocess

import pytest

pytest.importorskip("hypothesis", reason="python3-hypothesis is not installed")

import contents
import objects
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from sauvegarde import kinds, postgres
from sauvegarde.restore import run, side

BLOCKS = 10
COUNT = int(os.environ.get("SAUVEGARDE_SINK", "200"))
SEED = int(os.environ.get("SAUVEGARDE_SINK_SEED", "20261128"))
NAMES = ("source", "stock", "ours", "custom", "plain")


@pytest.fixture(scope="module")
def server(cluster):
    """The cluster, with the roles that generated databases name."""
    for role in objects.ROLES:
        cluster.execute(f"CREATE ROLE {postgres.quoted(role)}")
    yield cluster


@pytest.fixture(scope="module")
def tally():
    """How many statements of all databases the server took, and how many it refused."""
    found = {"taken": 0, "refused": 0}
    yield found
    assert found["refused"] < found["taken"] / 4, f"too much of what is generated is refused: {found}"


def fill(cluster, database, tally):
    """Make the source: settings first, since they act on what is computed. Returns the statements that were taken."""
    name = postgres.quoted("source")
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    for setting, value in database.settings:
        cluster.execute(f"ALTER DATABASE {name} SET {setting} TO {postgres.literal(value)}")
    taken = []
    connection = cluster.connect("source")
    try:
        for statement in [f"CREATE EXTENSION {each} SCHEMA public" for each in database.extensions] + list(
            database.statements
        ):
            try:
                postgres.execute(connection, statement)
            except Exception:  # noqa: BLE001 - whatever the server says, the statement is none of this database
                tally["refused"] += 1
            else:
                taken.append(statement)
    finally:
        connection.close()
    tally["taken"] += len(taken)
    return taken


def stock(cluster, folder):
    """What people use today: both of pg_dump's usual forms, and pg_restore into a new database."""
    env = postgres.environment(cluster.server, "source")
    dump = contents.client(cluster, "pg_dump")
    subprocess.run([dump, "-Fc", "-f", folder / "source.dump"], env=env, check=True)
    subprocess.run([dump, "-Fp", "-f", folder / "source.sql"], env=env, check=True)
    cluster.execute("CREATE DATABASE stock TEMPLATE template0")
    words = [contents.client(cluster, "pg_restore"), "-d", "stock", folder / "source.dump"]
    return subprocess.run(words, env=env, check=False, stderr=subprocess.PIPE, text=True).stderr


def restore(cluster, path, database, folder):
    """Restore into a database of that name with the engine; raises what the engine raises."""
    spec = {
        "connection": cluster.values, "path": str(path), "database": database, "directory": str(folder / "runs"),
        "mode": "beside", "jobs": 2,
    }  # fmt: skip
    run.put_in_place(spec, run.fill(spec)["id"])


def differences(found, expected, fallback):
    """Where `found` equals neither what stock restored nor, in the same place, the source."""
    if found in (expected, fallback):
        return []
    if isinstance(found, list):
        return list(difflib.unified_diff(expected, found, "stock", "found", lineterm="", n=3))
    return [
        f"{key}: {found.get(key)!r:.300}, stock {expected.get(key)!r:.300}, source {fallback.get(key)!r:.300}"
        for key in sorted(set(found) | set(expected))
        if found.get(key) not in (expected.get(key, ()), fallback.get(key, ()))
    ]


def drop_all(cluster):
    connection = cluster.connect()
    try:
        for name in NAMES:
            side.drop(connection, name)
    finally:
        connection.close()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_databases(block, server, tally, tmp_path_factory):
    @seed(SEED + block)
    @settings(
        max_examples=max(1, COUNT // BLOCKS), deadline=None, database=None, phases=[Phase.generate], print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(objects.databases())
    def examine(database):
        drop_all(server)
        folder = tmp_path_factory.mktemp("sink")
        taken = fill(server, database, tally)
        note(f"settings: {database.settings}\n" + ";\n".join(taken))
        note("stock: " + stock(server, folder))
        (folder / "repository" / "sink").mkdir(parents=True, mode=0o700)
        job = {"name": "sink", "kind": "pg_dump", "connection": server.values, "database": "source", "workers": 2}
        archive = kinds.back_up(job, folder / "repository")
        sources = {
            "ours": folder / "repository" / "sink" / archive["id"],
            "custom": folder / "source.dump",
            "plain": folder / "source.sql",
        }
        expected = {
            name: (contents.definitions(server, name), contents.rows(server, name)) for name in ("source", "stock")
        }
        for name, path in sources.items():
            restore(server, path, name, folder)
            for found, of_stock, of_source in zip(
                (contents.definitions(server, name), contents.rows(server, name)), expected["stock"], expected["source"]
            ):
                different = differences(found, of_stock, of_source)
                assert not different, f"{name} is not what stock restores:\n" + "\n".join(different)

    examine()
