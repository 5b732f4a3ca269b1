"""A throwaway PostgreSQL cluster and a private repository for the tests that need the real thing.

Runs on a controller and on lab hosts alike (their python3-pytest can be 6.0): standard library, psycopg2 and pytest
only. SAUVEGARDE_ENGINE names the folder that holds the package where it is not the checkout's; SAUVEGARDE_TEST_MAJOR
picks one of several installed servers, the newest by default.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ENGINE = os.environ.get("SAUVEGARDE_ENGINE") or str(Path(__file__).resolve().parents[2] / "module_utils")
sys.path.insert(0, ENGINE)
sys.path.append(str(Path(__file__).resolve().parents[2] / "molecule" / "_shared"))  # the helpers of all tests

psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2 is not installed")

from sauvegarde.postgres import client_tools, postgres_server, sql_names  # noqa: E402 - found through the path set above


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "one_host(why): passes or fails whatever the versions of PostgreSQL and Python are: CI runs it once"
    )
    # Also on hosts, which have no pyproject.toml. What Debian's own packages use there is exempt: only our code fails.
    for category in ("DeprecationWarning", "PendingDeprecationWarning"):
        config.addinivalue_line("filterwarnings", f"default::{category}")
        config.addinivalue_line("filterwarnings", f"error::{category}:(sauvegarde|test_|conftest|tests_support)")
    config.addinivalue_line("markers", "site: needs the virtual environment of a Django site")
    config.addinivalue_line("markers", "slow: belongs to a file whose tests take minutes together")


# What `./sauvegarde test engine` leaves out without words, to end in three minutes; on the lab's hosts they all run.
SLOW = {
    "test_cases_attachments", "test_cases_files", "test_cases_hashing", "test_cases_identity", "test_cases_load",
    "test_cases_locks_summing", "test_cases_losses", "test_cases_sink", "test_cases_waits", "test_databases",
    "test_faults", "test_job_run", "test_offsite", "test_plan_mark", "test_restore_foreign", "test_restore_offsite",
    "test_restore_run", "test_sink",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        name = Path(str(item.fspath)).stem
        if name.startswith("test_django_"):
            item.add_marker("site")
        elif name in SLOW:
            item.add_marker("slow")


def _folder():
    """The bin folder of the server to test with, or None."""
    collected = [
        each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/initdb") if (each.parent / "pg_ctl").exists()
    ]
    expected = os.environ.get("SAUVEGARDE_TEST_MAJOR")
    collected = sorted(
        (each for each in collected if expected in (None, each.parent.name)), key=lambda each: float(each.parent.name)
    )
    return collected[-1] if collected else None


class Cluster:
    """A server of our own: `server` describes it for the engine, `connect` logs in as its superuser."""

    def __init__(self, binaries, folder, port=None):
        self.binaries, self.folder = binaries, folder
        self.data, self.log = folder / "data", folder / "log"
        self.port = port or 55000 + os.getpid() % 5000
        self.server = postgres_server.Server(host=str(folder), port=self.port, user="postgres")
        self.values = {"host": str(folder), "port": self.port, "user": "postgres"}
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def as_owner(self, *arguments):
        prefix = ["runuser", "-u", self.user, "--"] if os.geteuid() == 0 else []
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
        subprocess.run([*prefix, *map(str, arguments)], check=True, env=environment, stdout=subprocess.DEVNULL, cwd="/")

    def create(self):
        self.as_owner(
            self.binaries / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"
        )
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\nport = {self.port}\nfsync = off\n"
                "max_connections = 50\nshared_buffers = 64MB\ndynamic_shared_memory_type = mmap\n"
            )

    def start(self):
        self.as_owner(self.binaries / "pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start")

    def stop(self, how="fast"):
        self.as_owner(self.binaries / "pg_ctl", "-D", self.data, "-m", how, "-w", "-t", "60", "stop")

    def connect(self, database="postgres"):
        return postgres_server.connect(self.server, database)

    def execute(self, statement, database="postgres"):
        connection = self.connect(database)
        try:
            return postgres_server.query(connection, statement)
        finally:
            connection.close()

    def run(self, tool, *arguments, database="postgres"):
        """One of the server's own programs, as its superuser."""
        subprocess.run(
            [str(self.binaries / tool), *map(str, arguments)],
            check=True,
            env=client_tools.environment(self.server, database),
            stdout=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def running():
    """A new empty cluster whose server runs for the block."""
    binaries = _folder()
    if binaries is None:
        pytest.fail("There is no PostgreSQL server under /usr/lib/postgresql. Install the package postgresql.")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("the server cannot run as root, and there is no runuser")
    folder = Path(tempfile.mkdtemp(prefix="sauvegarde-pg-"))
    result = Cluster(binaries, folder)
    if os.geteuid() == 0:
        shutil.chown(str(folder), result.user)
    folder.chmod(0o755)
    try:
        result.create()
        result.start()
        try:
            yield result
        finally:
            result.stop("immediate")
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def sites_in_report(record_testsuite_property):
    """Write into the JUnit report which sites ran with which versions, for docs/supported.md."""
    yield
    sample_site = sys.modules.get("sample_site")
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    for name, python in sample_site.USED.items() if sample_site else ():
        code = "import django, sys; print('%d.%d %d.%d' % (*django.VERSION[:2], *sys.version_info[:2]))"
        django, version = subprocess.check_output([python, "-c", code], text=True).split()
        server = _folder().parent.name
        control = Path(f"/usr/share/postgresql/{server}/extension/postgis.control")
        result = re.search(r"default_version = '(\d+\.\d+)", control.read_text() if control.is_file() else "")
        values = {"debian": release.get("VERSION_CODENAME", "sid"), "python": version, "django": django}
        values.update(driver=name.split(":")[1], postgresql=server, postgis=result.group(1) if result else "")
        record_testsuite_property("sauvegarde_site", json.dumps(values))


@pytest.fixture(scope="session")
def cluster():
    """A running server, the same for the whole session."""
    with running() as result:
        yield result


@pytest.fixture()
def database(cluster, request):
    """A new empty database; its name is hostile by default, or what `@pytest.mark.parametrize(..., indirect)` gives."""
    name = getattr(request, "param", "-o'ff\"re $(id) %s é=1")
    _drop(cluster, name)
    cluster.execute(f"CREATE DATABASE {sql_names.quote(name)} TEMPLATE template0")
    yield name
    _drop(cluster, name)


def _drop(cluster, name):
    connection = cluster.connect()
    try:
        postgres_server.query(
            connection, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        postgres_server.execute(connection, f"DROP DATABASE IF EXISTS {sql_names.quote(name)}")
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def remove_temporary_files(request):
    """Remove a test's files when it ends: pytest keeps those of a whole run, gigabytes where TMPDIR lies in memory."""
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        shutil.rmtree(str(folder), ignore_errors=True)


@pytest.fixture()
def repository(tmp_path):
    """ROOT with a private folder for the job `demo`."""
    root = tmp_path / "repository"
    root.mkdir(mode=0o755)
    (root / "demo").mkdir(mode=0o700)
    return root


@contextlib.contextmanager
def small_disk(folder, size):
    """A folder on a file system of its own, of that size ("24m"): `folder`, or where whoever started the tests has put
    one, as hosts of the lab may not mount by themselves. Skips where there is neither.
    """
    value = os.environ.get("SAUVEGARDE_SMALL_DISKS")
    if value:
        folder = Path(value) / size
        yield folder
        for each in folder.iterdir():
            shutil.rmtree(str(each))
        return
    folder.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        folder.rmdir()
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def wait_until(condition, seconds=300):
    """Wait for what comes by itself, however busy the machine is; fails where it does not come."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)
