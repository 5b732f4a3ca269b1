"""What is not covered is said everywhere: manifest, journal, state, metrics, list, plan, report. Globals, standbys, and
the stock commands of old dumps."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import conftest
import pytest
import restores
from sauvegarde import catalog
from sauvegarde.backup import kinds, manual_restore, uncovered_databases, worker_report
from sauvegarde.postgres import client_tools, database_properties, fingerprint, postgres_server, sql_names
from sauvegarde.report import metrics, render
from sauvegarde.restore import dump_roles as restore_roles
from sauvegarde.system import process

SHARED = Path(os.environ.get("SAUVEGARDE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
BY_96 = SHARED / "cases" / "files" / "32-one-table-by-9.6.dump"


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, **more}


def restore(cluster, tmp_path, path, database, **more):
    """The run's state and the lines of its report; the database is put beside."""
    spec = dict({"path": str(path), "database": database, "connection": cluster.values, "mode": "beside"}, **more)
    spec = dict(spec, directory=str(tmp_path / "runs"))
    filled = restores.fill(spec)
    return filled, restores.swap_in(spec, filled["id"])["lines"]


@contextlib.contextmanager
def standby_of(cluster):
    """A streaming replica of the cluster, as another Cluster."""
    result = conftest.Cluster(cluster.binaries, Path(tempfile.mkdtemp(prefix="sauvegarde-standby-")))
    result.port = cluster.port + 5000
    result.server = postgres_server.Server(host=str(result.folder), port=result.port, user="postgres")
    result.values = {"host": str(result.folder), "port": result.port, "user": "postgres"}
    if os.geteuid() == 0:
        shutil.chown(str(result.folder), result.user)
    result.folder.chmod(0o755)
    try:
        result.as_owner(
            *(cluster.binaries / "pg_basebackup", "-h", cluster.folder, "-p", cluster.port, "-U", "postgres"),
            *("-D", result.data, "-R", "-X", "stream", "-c", "fast"),
        )
        with (result.data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {result.port}\nunix_socket_directories = '{result.folder}'\nhot_standby = on\n")
        result.start()
        try:
            yield result
        finally:
            result.stop("immediate")
    finally:
        shutil.rmtree(str(result.folder), ignore_errors=True)


def test_unlogged_tables_on_a_standby(cluster, database, repository, tmp_path):
    """Left out of the dump by pg_dump and out of the fingerprint by us, and said in every place."""
    cluster.execute(
        "CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100);"
        "CREATE UNLOGGED TABLE cache (k serial PRIMARY KEY, v text); INSERT INTO cache (v) VALUES ('b');"
        "CREATE TABLE child (t int REFERENCES t); INSERT INTO child VALUES (1)",
        database,
    )
    with standby_of(cluster) as standby:
        conftest.wait_until(
            lambda: standby.execute("SELECT count(*) FROM pg_class WHERE relname = 'child'", database)[0][0]
        )
        manifest = kinds.back_up(job(standby, database), repository)
        kinds.back_up({"name": "demo", "kind": "globals", "connection": standby.values}, repository)
    assert manifest["source"]["server"]["standby"]
    [unproven] = manifest["fingerprint"]["unproven"]
    assert unproven["object"] == "TABLE public.cache"
    assert sorted(manifest["fingerprint"]["tables"]) == ['"public"."child"', '"public"."t"']
    assert manifest.proof_scope == "rows of 2 of 3 tables"
    sentences = " ".join(manifest["warnings"])
    assert "unlogged tables are not in the archive" in sentences and "without a fingerprint" in sentences, manifest[
        "warnings"
    ]

    [entry] = [each for each in catalog.of_job(repository, "demo", "db1") if each.kind == "pg_dump"]
    assert entry.proven == "rows of 2 of 3 tables" and entry.warnings == manifest.warnings
    assert [each["object"] for each in entry.unproven] == ["TABLE public.cache"]
    summary = worker_report.ArchiveSummary.of_manifest(manifest)
    text = metrics.render("demo", "pg_dump", {"last_success": dict(asdict(summary), ended=1.0)})
    assert 'last_unproven{backup_job="demo",kind="pg_dump"} 1' in text
    assert f'last_warnings{{backup_job="demo",kind="pg_dump"}} {len(manifest["warnings"])}' in text

    path = repository / "demo" / manifest["id"]
    spec = {"path": str(path), "database": "of_standby", "connection": cluster.values, "mode": "beside"}
    plan = restores.plan(dict(spec, directory=str(tmp_path / "runs")))
    assert plan["obstacles"] == []
    noted = [line for line in render.of_plan(plan) if line.startswith("Note:")]
    assert any("unlogged tables" in line for line in noted), noted
    try:
        filled, lines = restore(cluster, tmp_path, path, "of_standby")
        assert filled["proof"]["unproven"] == manifest["fingerprint"]["unproven"]
        assert any(line.startswith("Unproven: TABLE public.cache") for line in lines), lines
        assert cluster.execute("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM cache)", "of_standby") == [
            (100, 0)
        ]
    finally:
        cluster.execute("DROP DATABASE IF EXISTS of_standby")


# Databases without a job


class Jobs:
    """The configuration of a host with jobs on a cluster."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        for each in ("etc/jobs", "etc/pings", "archives", "state", "metrics"):
            (folder / each).mkdir(parents=True)
        self.configuration = str(folder / "etc")

    def add(self, name, **values):
        for each in (self.folder / "archives" / name, self.folder / "state" / name):
            each.mkdir(mode=0o700)
        whole = {
            "name": name,
            "kind": "pg_dump",
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "host": "db1",
            "root": str(self.folder / "archives"),
            "state": str(self.folder / "state" / name),
            "metrics": str(self.folder / "metrics"),
            "connection": self.cluster.values,
            **values,
        }
        (self.folder / "etc" / "jobs" / f"{name}.json").write_text(json.dumps(whole))

    def run(self, name):
        return runner_process(self.configuration, "run", name)

    def samples(self, name):
        return (self.folder / "metrics" / f"sauvegarde_{name}.prom").read_text()


def runner_process(configuration, *arguments):
    code = f"import sys; sys.path.insert(0, {conftest.ENGINE!r})\n"
    code += "from sauvegarde.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, "--configuration", configuration, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_databases_that_no_job_names(cluster, tmp_path):
    tmp_path.chmod(0o755)
    host = Jobs(tmp_path, cluster)
    kept = "covered__before_20260101T000000Z"
    for name in ("covered", "forgotten", kept, "of_template"):
        cluster.execute(f"CREATE DATABASE {sql_names.quote(name)} TEMPLATE template0")
    cluster.execute("ALTER DATABASE of_template IS_TEMPLATE true")
    try:
        host.add("site", database="covered")
        host.add("globals", kind="globals")
        host.add("elsewhere", database="forgotten", connection={"host": "db.example.org"})
        for name in ("site", "globals"):
            host.run(name)
            assert f'databases_without_job{{backup_job="{name}"' in host.samples(name)
            assert f'kind="{"globals" if name == "globals" else "pg_dump"}"}} 1' in host.samples(name)
        address = postgres_server.Server.from_values(cluster.values).address
        listed = json.loads(runner_process(host.configuration, "list"))
        assert listed["databases_without_job"] == [{"server": address, "database": "forgotten"}]
        assert {each["job"]: each["proven"] for each in listed["archives"]}["site"] == "rows of 0 of 0 tables"
        host.add("new", database="forgotten")
        assert uncovered_databases.listed(host.configuration) == []
    finally:
        cluster.execute("ALTER DATABASE of_template IS_TEMPLATE false")
        for name in ("covered", "forgotten", kept, "of_template"):
            cluster.execute(f"DROP DATABASE {sql_names.quote(name)}")


# Globals


def test_half_dropped_databases_and_locked_ones(cluster, repository):
    """What an interrupted DROP DATABASE leaves has a limit that no statement sets; pg_dumpall passes over it."""
    for name in ("half", "locked"):
        cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    cluster.execute("ALTER DATABASE locked ALLOW_CONNECTIONS false")
    cluster.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'")
    try:
        manifest = kinds.back_up({"name": "demo", "kind": "globals", "connection": cluster.values}, repository)
        assert "half" not in manifest["source"]["databases"]
        assert any(each.endswith("drop them: half.") for each in manifest["warnings"])
        folder = repository / "demo" / manifest["id"]
        text = subprocess.run(
            ["zstd", "-dcq", str(folder / "databases.sql.zst")], stdout=subprocess.PIPE, check=True
        ).stdout.decode("utf-8")
        assert '"half"' not in text and 'ALTER DATABASE "locked" ALLOW_CONNECTIONS false;' in text
        assert text.startswith("SET client_encoding TO 'UTF8';\n")
    finally:
        cluster.execute("UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'half'")
        for name in ("half", "locked"):
            cluster.execute(f"DROP DATABASE {name}")


GLOBALS = """--
-- PostgreSQL database cluster dump
--

SET client_encoding = 'UTF8';

CREATE ROLE owner_of_it;
ALTER ROLE owner_of_it WITH NOSUPERUSER LOGIN PASSWORD 'md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa';
CREATE ROLE "Default";
ALTER ROLE "Default" WITH NOSUPERUSER;
CREATE ROLE stranger;
ALTER ROLE stranger WITH SUPERUSER LOGIN;
GRANT owner_of_it TO stranger;
GRANT "Default" TO owner_of_it;

-- PostgreSQL database cluster dump complete
"""


def test_only_roles_that_the_archive_names(cluster, database, repository, tmp_path):
    made_here = ("owner_of_it", '"Default"', "stranger")
    cluster.execute('CREATE ROLE owner_of_it; CREATE ROLE "Default"')
    cluster.execute(
        'CREATE TABLE t (id int); ALTER TABLE t OWNER TO owner_of_it; GRANT SELECT ON t TO "Default"', database
    )
    path = tmp_path / "of_globals.dump"
    cluster.run("pg_dump", "-Fc", "-f", path, database=database)
    manifest = kinds.back_up(job(cluster, database), repository)
    cluster.execute('DROP TABLE t; DROP ROLE owner_of_it; DROP ROLE "Default"', database)
    of_globals = tmp_path / "globals.sql"
    of_globals.write_text(GLOBALS)
    existing = "SELECT rolname::text FROM pg_roles WHERE rolname IN ('owner_of_it', 'Default', 'stranger') ORDER BY 1"
    try:
        for source in (path, repository / "demo" / manifest["id"]):
            filled, _ = restore(cluster, tmp_path, source, "with_roles", globals=str(of_globals))
            assert sorted(filled["roles_made"]) == ["Default", "owner_of_it"]
            assert cluster.execute(existing) == [("Default",), ("owner_of_it",)]
            assert cluster.execute("SELECT pg_has_role('owner_of_it', 'Default', 'MEMBER')") == [(True,)]
            assert any("stranger" in each["what"] for each in filled["warned"])
            cluster.execute("DROP DATABASE with_roles")
            cluster.execute('DROP ROLE owner_of_it; DROP ROLE "Default"')
        filled, _ = restore(cluster, tmp_path, path, "with_roles", globals=str(of_globals), globals_roles="all")
        assert cluster.execute(existing) == [("Default",), ("owner_of_it",), ("stranger",)]
    finally:
        cluster.execute("DROP DATABASE IF EXISTS with_roles")
        for name in made_here:
            cluster.execute(f"DROP ROLE IF EXISTS {name}")
    assert restore_roles.existing(cluster.connect()).isdisjoint({"owner_of_it", "Default", "stranger"})


# By hand


def run_lines(cluster, lines, folder):
    environment = client_tools.environment(cluster.server, "postgres")
    environment["PATH"] = f"{cluster.binaries}:{environment['PATH']}"
    environment["TMPDIR"] = str(folder.parent)
    for variable in ("PGDATABASE", "PGCLIENTENCODING"):
        del environment[variable]
    done = subprocess.run(
        ["/bin/bash", "-euc", "\n".join(lines)],
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")


def source_of(cluster, database):
    with contextlib.closing(cluster.connect(database)) as connection:
        return database_properties.describe(connection)


@pytest.mark.skipif(not BY_96.exists(), reason="the dump by 9.6 is not here (SAUVEGARDE_SHARED)")
@pytest.mark.parametrize("form", ["local", "plain"])
def test_commands_for_a_dump_by_96(cluster, database, tmp_path, form):
    """They stopped at the CREATE SCHEMA public that pg_dump wrote before 11."""
    folder = tmp_path / "by hand é"
    (folder / "dump").mkdir(parents=True)
    source = source_of(cluster, database)
    source["extension_sequences"] = []
    lines = manual_restore.commands(dict(source, database="by_hand"), client_tools.Client("", 90624, "9.6.24"))[form]
    after = manual_restore.after_sql("by_hand", dict(source, database="by_hand"), "UTF8")
    (folder / "after.sql").write_text(after)
    if form == "plain":
        (folder / "dump").rmdir()
        shutil.copyfile(str(BY_96), str(folder / "dump"))
    else:  # one file where the archive has several: what the commands do is the same
        subprocess.run(["zstd", "-q", str(folder / "after.sql")], check=True)
        subprocess.run(["zstd", "-q", str(BY_96), "-o", str(folder / "dump" / "one.zst")], check=True)
        lines = [line.replace('pg_restore --list "$work"', 'pg_restore --list "$work/one"') for line in lines]
        lines = [
            line[: -len('"$work"')] + '"$work/one"' if line.endswith('"$work"') and "--exit" in line else line
            for line in lines
        ]
    try:
        run_lines(cluster, lines, folder)
        tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        assert cluster.execute(tables, "by_hand") == [(1,)]
        assert [each.name for each in tmp_path.iterdir()] == [folder.name], "the commands leave nothing behind"
    finally:
        cluster.execute("DROP DATABASE IF EXISTS by_hand")


@pytest.mark.parametrize("number", [90624, 100023, 110000, 150000])
def test_commands_leave_out_nothing_else(cluster, database, repository, tmp_path, number):
    """The same lines for a dump by this server's own pg_dump: nothing but the schema public is left out."""
    cluster.execute(
        'CREATE SCHEMA "public two"; CREATE TABLE "public two".t AS SELECT 1 AS a; CREATE TABLE u ()', database
    )
    manifest = kinds.back_up(job(cluster, database), repository)
    source = dict(manifest["source"], database="by_hand")
    folder = repository / "demo" / manifest["id"]
    lines = manual_restore.commands(source, client_tools.Client("", number, str(number)))["local"]
    after = manual_restore.after_sql("by_hand", source, "UTF8")
    copy = tmp_path / "copy"
    shutil.copytree(str(folder), str(copy))
    (copy / "after.sql").write_text(after)
    subprocess.run(["zstd", "-qf", str(copy / "after.sql")], check=True)
    try:
        run_lines(cluster, lines, copy)
        result = fingerprint.take(lambda: cluster.connect("by_hand"), reference=manifest["fingerprint"])
        assert fingerprint.compare(manifest["fingerprint"], result) == []
    finally:
        cluster.execute("DROP DATABASE IF EXISTS by_hand")


def test_a_standby_before_10_is_dumped_without_a_snapshot(cluster, database, repository, tmp_path, monkeypatch):
    """It exports none, which stock needs for several workers only."""
    properties, arguments, start = postgres_server.server_properties, [], process.start

    def spied(words, **more):
        arguments.extend(words if "pg_dump" in words[0] else [])
        return start(words, **more)

    monkeypatch.setattr(
        postgres_server, "server_properties", lambda it: replace(properties(it), version_num=90624, standby=True)
    )
    monkeypatch.setattr(process, "start", spied)
    cluster.execute("CREATE TABLE t AS SELECT 1 AS i; CREATE SEQUENCE s; SELECT nextval('s')", database)
    manifest = kinds.back_up(job(cluster, database), repository)
    assert not [word for word in arguments if word.startswith("--snapshot")] and "--jobs=1" in arguments
    assert manifest["fingerprint"]["tables"] == {} and list(manifest["fingerprint"]["sequences"].values()) == [
        [1, True]
    ]
    unproven = {each["object"]: each["why"] for each in manifest["fingerprint"]["unproven"]}
    assert sorted(unproven) == ["LARGE OBJECTS", "TABLE public.t"] and "primary" in unproven["TABLE public.t"]
    assert any("TABLE public.t" in each for each in manifest["warnings"])
    assert kinds.verify(repository / "demo" / manifest["id"])["checksum"] == manifest["checksum"]
