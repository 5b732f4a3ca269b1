"""The engine's round trip between all major versions of PostgreSQL, from 9.6 on, on one host.

SAUVEGARDE_MAJORS is a folder of servers, a folder each (9.6, 10, …), beside those of /usr/lib/postgresql. The clients
are those of /usr/lib/postgresql: the newest one dumps and restores all versions. SAUVEGARDE_MAJORS_RESULT is the JSON
file to write: one entry a pair, with source, target, client, outcome, fingerprint.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import conftest
import pytest
import restores
import site_objects
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools, fingerprint, server_versions, sql_names
from sauvegarde.targets import swap

pytestmark = pytest.mark.skipif("SAUVEGARDE_MAJORS" not in os.environ, reason="the scenario majors has the servers")

MAJORS = [server_versions.major(version.version_num) for version in server_versions.MAJOR_VERSIONS]
DATABASE = '-majors\' "é" $(id)'
PAIRS = [(source, target) for source in MAJORS for target in MAJORS]
# What takes time and changes nothing in what is compared.
SETTINGS = (
    "autovacuum = off\nfull_page_writes = off\nwal_level = minimal\nmax_wal_senders = 0\nshared_buffers = 16MB\n"
    "synchronous_commit = off\nmax_connections = 30\n"
)


def _older(first, second):
    return MAJORS.index(first) < MAJORS.index(second)


def _binaries(major):
    for folder in (Path(os.environ["SAUVEGARDE_MAJORS"]), Path("/usr/lib/postgresql")):
        if (folder / major / "bin/initdb").exists():
            return folder / major / "bin"
    return None


class Started(dict):
    """What is started at its first use: {major: …}, by a function of the major."""

    def __init__(self, start):
        super().__init__()
        self.start = start

    def __missing__(self, major):
        self[major] = self.start(major)
        return self[major]


@pytest.fixture(scope="module", autouse=True)
def newest_client(tmp_path_factory):
    """Let the engine have the newest client alone, as on a host that has no other."""
    newest = Path(client_tools.clients("pg_dump")[-1].path).parents[1]
    folder = tmp_path_factory.mktemp("clients")
    (folder / newest.name).symlink_to(newest)
    binaries, client_tools._BINARIES = client_tools._BINARIES, folder
    yield
    client_tools._BINARIES = binaries


@pytest.fixture(scope="module")
def servers():
    """{major: running Cluster}."""
    folder = Path(tempfile.mkdtemp(prefix="sauvegarde-majors-"))
    folder.chmod(0o755)

    def start(major):
        assert _binaries(major), f"There is no server of PostgreSQL {major}."
        place = folder / major
        place.mkdir(mode=0o755)
        cluster = conftest.Cluster(_binaries(major), place, 55000 + MAJORS.index(major))
        shutil.chown(str(place), cluster.user)
        cluster.create()
        with (cluster.data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
        cluster.start()
        cluster.execute(site_objects.ROLES)
        return cluster

    running = Started(start)
    try:
        yield running
    finally:
        for cluster in running.values():
            cluster.stop("immediate")
        shutil.rmtree(str(folder), ignore_errors=True)


@pytest.fixture(scope="module")
def archives(servers, tmp_path_factory):
    """{major: (path, manifest, objects)}: a verified archive of the site on each version, which has lost it since."""
    root = tmp_path_factory.mktemp("repository")
    root.chmod(0o755)

    def start(major):
        cluster = servers[major]
        cluster.execute(f"CREATE DATABASE {sql_names.quote(DATABASE)} TEMPLATE template0")
        cluster.execute(f"ALTER DATABASE {sql_names.quote(DATABASE)} SET work_mem TO '7MB'")
        for statement in site_objects.statements(int(cluster.execute("SHOW server_version_num")[0][0])):
            cluster.execute(statement, DATABASE)
        job = {"name": f"of_{major}", "kind": "pg_dump", "connection": cluster.values, "database": DATABASE}
        (root / job["name"]).mkdir(mode=0o700)
        manifest = kinds.back_up(job, root)
        path = root / job["name"] / manifest["id"]
        kinds.verify(path)
        objects = _objects(cluster)
        cluster.execute(f"DROP DATABASE {sql_names.quote(DATABASE)}")
        return path, manifest, objects

    return Started(start)


@pytest.fixture(scope="module")
def result(servers):
    """What was known for each pair; written to a file at the end."""
    entries = []
    yield entries
    place = os.environ.get("SAUVEGARDE_MAJORS_RESULT")
    if place:
        Path(place).write_text(json.dumps(entries, indent=1) + "\n")


def _objects(cluster):
    return cluster.execute(site_objects.OBJECTS, DATABASE)


def _digest(sums):
    """One hash of what all versions have in common: tables, sequences, large objects."""
    later = tuple(
        f'"public"."{text.split(" ")[0]}' for _, sql in site_objects.LATER for text in sql.split("CREATE TABLE ")[1:]
    )
    common = {
        part: {name: value for name, value in sums[part].items() if not name.startswith(later)}
        for part in ("tables", "sequences", "matviews")
    }
    common["large_objects"] = sums["large_objects"]
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()


def _entry(servers, source, target, manifest, outcome, actual):
    version = {major: servers[major].execute("SHOW server_version")[0][0] for major in (source, target)}
    return {
        "source": source,
        "source_version": version[source],
        "target": target,
        "target_version": version[target],
        "client": manifest["tools"]["pg_dump"],
        "outcome": outcome,
        "fingerprint": actual,
    }


def test_the_site_has_one_fingerprint_on_all_versions(archives):
    digests = {major: _digest(archives[major][1]["fingerprint"]) for major in MAJORS}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("source, target", [pair for pair in PAIRS if not _older(pair[1], pair[0])])
def test_round_trip(servers, archives, result, tmp_path, source, target):
    path, manifest, objects = archives[source]
    cluster = servers[target]
    cluster.execute(f"CREATE DATABASE {sql_names.quote(DATABASE)} TEMPLATE template0")
    cluster.execute("CREATE TABLE before AS SELECT 1 AS one", DATABASE)
    values = {"connection": cluster.values, "path": str(path), "database": DATABASE, "directory": str(tmp_path)}
    run = restores.fill(values)
    assert (run["status"], run["proof"]["by"], run["losses"]) == ("ready", "fingerprint", [])
    restores.swap_in(values, run["id"])
    assert _objects(cluster) == objects
    rolled_back = restores.roll_back(values)
    assert cluster.execute("SELECT one FROM before", DATABASE) == [(1,)]
    swap.remove(cluster.server, DATABASE, rolled_back["kept"])
    cluster.execute(f"DROP DATABASE {sql_names.quote(DATABASE)}")
    _restore_by_hand(cluster, path, manifest)
    sums = manifest["fingerprint"]
    actual = fingerprint.take(lambda: cluster.connect(DATABASE), reference=sums)
    assert fingerprint.compare(sums, actual) == []
    assert _objects(cluster) == objects
    cluster.execute(f"DROP DATABASE {sql_names.quote(DATABASE)}")
    result.append(_entry(servers, source, target, manifest, "proven", _digest(actual)))


def _restore_by_hand(cluster, path, manifest):
    """Run the manifest's own lines as a person types them, where PG* says which server."""
    tools = Path(client_tools.clients("pg_restore")[-1].path).parent
    environment = client_tools.environment(cluster.server, "postgres", PATH=f"{tools}:/usr/bin:/bin")
    del environment["PGDATABASE"]
    lines = "\n".join(manifest["restore_by_hand"]["local"])
    subprocess.run(["/bin/bash", "-euo", "pipefail", "-c", lines], cwd=str(path), env=environment, check=True)


def test_new_words_for_an_old_server_are_named(servers, tmp_path):
    """What today's pg_dump writes in words that 9.6 lacks stops a restore on 9.6, by name; it loads on 11."""
    old, database = servers["9.6"], "renamed"
    old.execute(f"CREATE DATABASE {database} TEMPLATE template0")
    old.execute(site_objects.COMMON, database)
    for statement in site_objects.RENAMED:
        old.execute(statement, database)
    (tmp_path / "of_old").mkdir(mode=0o700)
    job = {"name": "of_old", "kind": "pg_dump", "connection": old.values, "database": database}
    path = tmp_path / "of_old" / kinds.back_up(job, tmp_path)["id"]
    values = {"path": str(path), "database": "elsewhere", "mode": "beside", "directory": str(tmp_path)}
    with pytest.raises(SauvegardeError) as refused:
        restores.fill(dict(values, connection=old.values))
    assert "COLLATION public.bytes, OPERATOR public.<<<>>>, EVENT TRIGGER watching." in refused.value.what
    assert "dump again with a pg_dump of the server's own version" in refused.value.why
    run = restores.fill(dict(values, connection=servers["11"].values))
    assert (run["status"], run["losses"]) == ("ready", [])


@pytest.mark.parametrize("source, target", [pair for pair in PAIRS if _older(pair[1], pair[0])])
def test_an_older_target_is_refused(servers, archives, result, tmp_path, source, target):
    path, manifest, _ = archives[source]
    values = {"connection": servers[target].values, "path": str(path), "database": DATABASE, "directory": str(tmp_path)}
    blockers = restores.plan(values)["obstacles"]
    sentence = "The target's server is older than the archive's."
    (blocker,) = [blocker for blocker in blockers if blocker["what"] == sentence]
    assert blocker["fix"] == f"Restore on PostgreSQL {source} or newer."
    result.append(_entry(servers, source, target, manifest, "refused", "") | {"sentence": sentence})
