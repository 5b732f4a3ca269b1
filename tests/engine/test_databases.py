"""Jobs that back up several databases, as cron starts them: one archive, one result and one retention a database."""

import contextlib
import dataclasses
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import conftest
import pytest
import quick_restic
from sauvegarde import catalog
from sauvegarde.archive import archive_reader, ids
from sauvegarde.errors import OK, Locked, Partial, SauvegardeError
from sauvegarde.offsite import offsite_copy, restic
from sauvegarde.offsite.repository import Repository
from sauvegarde.postgres import postgres_server, sql_names
from sauvegarde.postgres.database_selection import escape
from sauvegarde.report import job_state
from sauvegarde.restore import archive_choice

ODD = ["o*d", "[d]*", "O d.d", "quo\"te's", "com,ma=%2C", "all"]
pytestmark = pytest.mark.one_host("which databases a job chooses is the same on every version")


class EveryJob:
    """A host's folders with one job, `every`, of several databases."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        self.state, self.directory = folder / "state", folder / "archives" / "every"
        for each in ("etc/jobs", "etc/pings", "state", "metrics", "archives"):
            (folder / each).mkdir(parents=True)
        self.directory.mkdir(mode=0o700)

    def configure(self, **values):
        whole = {
            "name": "every",
            "kind": "pg_dump",
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "host": "db1",
            "root": str(self.folder / "archives"),
            "state": str(self.state),
            "metrics": str(self.folder / "metrics"),
            "connection": self.cluster.values,
            "workers": 1,
            **values,
        }
        (self.folder / "etc" / "jobs" / "every.json").write_text(json.dumps(whole))

    def start(self, *words):
        code = f"import sys; sys.path.insert(0, {conftest.ENGINE!r})\n"
        code += "from sauvegarde.cli import main; sys.exit(main())"
        words = ["--configuration", str(self.folder / "etc"), *words]
        return subprocess.Popen(
            [sys.executable, "-I", "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words):
        process = self.start(*(words or ("run", "every")))
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def recorded_state(self):
        return job_state.read(self.state / "state.json")

    def archives(self):
        """The archives' ids by database, oldest first."""
        collected = {}
        for identifier in ids.list_ids(self.directory):
            manifest = archive_reader.read_manifest(self.directory / identifier)
            collected.setdefault(manifest.source["database"], []).append(identifier)
        return collected

    def metric(self, name):
        """A metric by its label `database`; "" without one."""
        collected = {}
        for line in (self.folder / "metrics" / "sauvegarde_every.prom").read_text().splitlines():
            if line.startswith(f"sauvegarde_backup_{name}{{"):
                label = re.search(r'database="((?:[^"\\]|\\.)*)"', line)
                text = re.sub(r"\\(.)", r"\1", label.group(1)) if label else ""
                collected[text] = float(line.rsplit(" ", 1)[1])
        return collected


@pytest.fixture()
def vault(tmp_path):
    """A new repository outside the job's folders."""
    quick_restic.make(tmp_path / "vault", "secret")
    (tmp_path / "private").mkdir()
    values = {"name": "vault", "repository": str(tmp_path / "vault"), "password": "secret"}
    return dataclasses.replace(Repository.from_values(values), secrets_folder=str(tmp_path / "private")), values


@pytest.fixture()
def every(cluster, tmp_path):
    tmp_path.chmod(0o755)
    return EveryJob(tmp_path, cluster)


def create(cluster, *names):
    for name in names:
        cluster.execute(f"CREATE DATABASE {sql_names.quote(name)} TEMPLATE template0")


def drop(cluster, *names):
    for name in names:
        cluster.execute(f"DROP DATABASE IF EXISTS {sql_names.quote(name)}")


@contextlib.contextmanager
def databases(cluster, *names):
    """New databases for the block. Yields what exists besides, as patterns of `exclude`."""
    others = [
        escape(name) for (name,) in cluster.execute("SELECT datname::text FROM pg_database WHERE NOT datistemplate")
    ]
    try:
        create(cluster, *names)
        yield others
    finally:
        drop(cluster, *names)


@contextlib.contextmanager
def locked_table(cluster, database):
    """A table that a session has locked, so that a dump of the database waits for it."""
    with contextlib.closing(cluster.connect(database)) as connection:
        postgres_server.execute(connection, "CREATE TABLE held (id integer)")
        postgres_server.execute(connection, "BEGIN; LOCK TABLE held")
        yield


def wait_for_lock(cluster, database):
    """Wait until a session of the job waits for the locked table."""
    query = (
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted AND datname = '{}'"
    )
    conftest.wait_until(lambda: cluster.execute(query.format(database)) != [(0,)])


def test_forty_databases_one_failing_one_appearing_one_vanishing(cluster, every):
    names = ["a_held", *ODD, *(f"site{number:02d}" for number in range(31)), "z_drop", "z_last"]
    kept = "site00__before_20260101T000000Z"
    assert len(names) == 40
    with databases(cluster, *names, kept, "scratch") as others:
        every.configure(databases=["[a]ll", "all"], exclude=[*others, "scr*"], lock_timeout=5)
        try:
            # Its first database waits for a lock until it fails: the time to change the others. All others follow.
            with locked_table(cluster, "a_held"):
                process = every.start("run", "every")
                wait_for_lock(cluster, "a_held")
                drop(cluster, "z_drop")
                create(cluster, "appeared")
                _, err = process.communicate(timeout=600)
            expected = sorted({*names, "appeared"} - {"a_held", "z_drop"})
            archives = every.archives()
            assert sorted(archives) == expected and process.returncode == Partial.exit_code
            assert len({identifier for matches in archives.values() for identifier in matches}) == len(expected) == 39
            assert "39 archives are good" in err and "The database a_held was not backed up." in err
            assert err.count("was not backed up") == 1
            state = every.recorded_state()
            results = {name: entry["last_run"] for name, entry in state["databases"].items() if "last_run" in entry}
            assert {name for name, result in results.items() if result["status"] == "ok"} == set(expected)
            assert results["a_held"]["exit_code"] == Locked.exit_code
            assert results["a_held"]["status"] == "failed" and "z_drop" not in state["databases"]
            assert "z_drop was dropped or renamed" in " ".join(state["last_run"]["warnings"])
            assert state["left_out"][kept] == "the previous database of a swap"
            assert state["left_out"]["scratch"] == "excluded by scr*" and state["left_out"]["template1"] == "a template"
            assert state["last_success"]["id"] == max(matches[0] for matches in archives.values())
            assert state["without_job"] == [] and state["available"] == 39
            assert every.metric("database_last_run_success") == {**dict.fromkeys(expected, 1), "a_held": 0}
            assert every.metric("database_available") == {**dict.fromkeys(expected, 1), "a_held": 0}
            assert sorted(every.metric("database_last_success_timestamp_seconds")) == expected
            assert every.metric("last_run_exit_code") == {"": Partial.exit_code}
            entries = [entry.as_dict() for entry in catalog.of_job(every.folder / "archives", "every", "db1")]
            for name in expected:
                assert archive_choice.choose(entries, name)["id"] == archives[name][0]
            with pytest.raises(SauvegardeError, match="several databases"):
                archive_choice.choose(entries, "", job="every")
        finally:
            drop(cluster, "appeared")


def test_each_database_has_its_own_retention_and_a_dropped_one_stays(cluster, every):
    with databases(cluster, "keep_a", "keep_b") as _:
        every.configure(databases=["keep_*"], retention={"last": 1})
        assert every.run() == (OK, "", "")
        first = every.archives()
        drop(cluster, "keep_b")
        create(cluster, "keep_c")
        try:
            assert every.run() == (OK, "", "")
            (warning,) = every.recorded_state()["last_run"]["warnings"]
            assert "keep_b is no longer backed up: it is not on the server" in warning
            assert every.run() == (OK, "", "") and every.recorded_state()["last_run"]["warnings"] == []
            archives = every.archives()
            assert archives["keep_b"] == first["keep_b"] and [len(result) for result in archives.values()] == [1, 1, 1]
            assert archives["keep_a"][0] > first["keep_a"][0]
            assert every.metric("database_available") == {"keep_a": 1, "keep_b": 1, "keep_c": 1}
            assert sorted(every.metric("database_last_success_timestamp_seconds")) == ["keep_a", "keep_c"]
            code, out, _ = every.run("prune", "--dry-run", "every")
            assert code == OK and out.count("keep ") == 3 and "keep_b: last 1 of 1" in out
            assert every.run("verify", "every") == (OK, "", "")
            assert every.metric("database_available") == {"keep_a": 1, "keep_b": 1, "keep_c": 1}
        finally:
            drop(cluster, "keep_c")


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
def test_a_repository_forgets_by_database(cluster, every, vault):
    repository, values = vault
    (every.folder / "etc" / "offsite").mkdir()
    (every.folder / "etc" / "offsite" / "vault.json").write_text(json.dumps(values))

    def copies():
        return sorted((snapshot.database, snapshot.id) for snapshot in restic.all_snapshots(repository))

    with databases(cluster, "co,a", "co=b"):
        # What the job copied when it had one database has no tag, and is not displaced by another database's archives.
        every.configure(database="co=b", offsite=["vault"], retention={"last": 1})
        assert every.run() == (OK, "", "")
        first = every.archives()["co=b"][0]
        assert copies() == [("", first)]
        every.configure(databases=["co*"], offsite=["vault"], retention={"last": 1})
        drop(cluster, "co=b")
        assert every.run() == (OK, "", "")
        assert copies() == [("", first), ("co,a", every.archives()["co,a"][0])]
        create(cluster, "co=b")
        assert every.run() == (OK, "", "")
        archives = every.archives()
        assert (
            copies() == [("co,a", archives["co,a"][0]), ("co=b", archives["co=b"][0])] and first not in archives["co=b"]
        )
        policies = [{"host": "db1", "job": "every", "retention": {"last": 1}}]
        (done,) = offsite_copy.forget_for_others(repository, policies, lambda *_, **_values: None)
        assert done["forgotten"] == []


def test_what_a_stopped_run_did_not_reach_comes_first_in_the_next(cluster, every):
    with databases(cluster, "one_a", "one_b", "one_c"):
        every.configure(databases=["one_*"], lock_timeout=600)
        with locked_table(cluster, "one_a"):
            process = every.start("run", "every")
            wait_for_lock(cluster, "one_a")
            (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(worker), signal.SIGKILL)
            _, err = process.communicate(timeout=300)
        assert process.returncode == SauvegardeError.exit_code and every.archives() == {}
        assert "At work: one_a. Not reached (2): one_b, one_c." in err
        assert every.metric("database_last_run_success") == {"one_a": 0}
        assert every.run() == (OK, "", "")
        archives = every.archives()
        assert archives["one_b"] < archives["one_c"] < archives["one_a"]


def test_a_named_database_has_to_exist(cluster, every):
    with databases(cluster, "here"):
        every.configure(databases=["here", "absent"])
        code, _, err = every.run()
        assert code == Partial.exit_code and "There is no database absent" in err and list(every.archives()) == ["here"]
        every.configure(databases=["absent*"])
        code, _, err = every.run()
        assert code == SauvegardeError.exit_code and "No database of the job every" in err


def test_a_list_covers_what_its_job_names_or_excludes(cluster, every):
    with databases(cluster, "cov_a", "cov_b", "cov_c") as others:
        every.configure(databases=["cov_*"], exclude=["cov_b"])
        assert every.run() == (OK, "", "")
        assert not {"cov_a", "cov_b", "cov_c"} & set(every.recorded_state()["without_job"])
        every.configure(databases=["cov_a"])
        assert every.run()[0] == OK
        assert {"cov_b", "cov_c"} <= set(every.recorded_state()["without_job"])
        listed = json.loads(every.run("list")[1])["databases_without_job"]
        assert {"cov_b", "cov_c"} <= {entry["database"] for entry in listed}
        every.configure(databases=["all"], exclude=others)
        assert json.loads(every.run("list")[1])["databases_without_job"] == []
