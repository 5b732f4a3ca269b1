"""What the measurements on a machine with a PostgreSQL server share: a throwaway cluster with the benchmark's database,
the engine's work in a process of its own, and the memory that it takes."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import _database
import psycopg2


def say(text):
    print(text, flush=True)


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.binaries = max(
            (each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")),
            key=lambda each: float(each.parent.name),
        )
        self.port = 55987

    def _owner(self, *arguments):
        subprocess.run(
            ["runuser", "-u", "postgres", "--", *map(str, arguments)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )

    def __enter__(self):
        data = self.folder / "data"
        self._owner(self.binaries / "initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\nport = {self.port}\n"
                "shared_buffers = 256MB\nmax_wal_size = 4GB\n"
            )
        self._owner(self.binaries / "pg_ctl", "-D", data, "-l", self.folder / "log", "-w", "start")
        return self

    def __exit__(self, *_):
        self._owner(self.binaries / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def connect(self, database="bench"):
        return psycopg2.connect(host=str(self.folder), port=self.port, user="postgres", dbname=database)

    @property
    def connection(self):
        return {"host": str(self.folder), "port": self.port, "user": "postgres"}

    @property
    def environment(self):
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "PGHOST": str(self.folder),
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGDATABASE": "bench",
        }

    def shell(self, line, cwd):
        """Seconds that a shell line takes, as a user would type it; {bin} is the server's own program folder."""
        start = time.monotonic()
        subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", line.format(bin=self.binaries)],
            check=True,
            env=self.environment,
            cwd=str(cwd),
        )
        return time.monotonic() - start


def size_of(path):
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


@contextlib.contextmanager
def memory_of(pid):
    """Peak, in MB, of the memory of a process and all its children, looked at 5 times a second, for looking takes time
    from what is measured: each page of memory once (PSS), and beside it the plain sum of resident sizes, which counts
    shared libraries again in each process."""
    peak, done = {"pss": 0, "rss": 0}, threading.Event()

    def family(root):
        children = {}
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
                    children.setdefault(parent, []).append(int(each.name))
        result, queue = [], [root]
        while queue:
            result.append(queue.pop())
            queue += children.get(result[-1], [])
        return result

    def look():
        while not done.wait(0.2):
            now = {"pss": 0, "rss": 0}
            for number in family(pid):
                with contextlib.suppress(OSError):
                    for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                        name, _, rest = line.partition(":")
                        if name.lower() in now:
                            now[name.lower()] += int(rest.split()[0]) / 1024
            for name, value in now.items():
                peak[name] = max(peak[name], value)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    yield peak
    done.set()
    watcher.join()


# As cron starts it, with the engine where the benchmark has it.
RUN = "import sys; sys.path.insert(0, sys.argv[1])\nfrom sauvegarde.cli import main; sys.exit(main(sys.argv[2:]))"
JOBS = min(4, os.cpu_count())  # at once, for every side: what the engine takes where nobody says


def in_a_process(code, *arguments):
    """What the code, given these arguments, prints, with its peak memory in MB (see memory_of)."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}
    )
    with memory_of(child.pid) as peak:
        output = child.communicate()[0]
    if child.returncode:
        raise SystemExit("the engine failed")
    return output.decode(), peak


def back_up(cluster, engine, root, repository=None):
    """A whole run of a job, as cron starts it, into new folders below ROOT, and offsite where a repository is given:
    its times in seconds, its size, its peak memory in MB, the archive's path."""
    # Not there the first time; one that could not be removed makes mkdir fail.
    for name in ("archives", "state", "settings"):
        shutil.rmtree(str(root / name), ignore_errors=True)
    for name in ("archives/bench", "state", "settings/jobs", "settings/offsite"):
        (root / name).mkdir(parents=True, mode=0o700)
    job = {"name": "bench", "kind": "pg_dump", "user": "root", "host": "bench", "connection": cluster.connection}
    job.update(database="bench", root=str(root / "archives"), state=str(root / "state"))
    if repository:
        job["offsite"] = [repository["name"]]
        (root / "settings/offsite" / "{name}.json".format(**repository)).write_text(json.dumps(repository))
    (root / "settings/jobs/bench.json").write_text(json.dumps(job))
    began = time.time()
    start = time.monotonic()
    _, peak = in_a_process(RUN, engine, "--configuration", root / "settings", "run", "bench")
    seconds = time.monotonic() - start
    (path,) = (root / "archives/bench").iterdir()
    size = json.loads((path / "manifest.json").read_text())["stored_bytes"]
    return dict(peak, job=seconds, size=size, path=str(path), **_steps(began))


def _steps(began):
    """{step: seconds} of the run since then, as the engine's lines in the journal say."""
    words = ["journalctl", "-o", "cat", "-t", "sauvegarde", f"--since=@{began:.6f}", "SAUVEGARDE_STATUS=ok"]
    lines = subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.decode().splitlines()
    printed_lines = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
    return {each["step"]: float(each["seconds"]) for each in printed_lines if each["step"] != "run"}


def main(measure):
    """measure(cluster, engine, folder, times) on a filled database, its result as the last line.

    Arguments of the script: the engine's folder, and how often the rows are in the database (`times`, 1).
    """
    engine, times = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder = Path(tempfile.mkdtemp(prefix="sauvegarde-bench-", dir="/var/tmp"))
    shutil.chown(str(folder), "postgres")
    folder.chmod(0o755)
    work = folder / "work"
    work.mkdir(mode=0o755)
    try:
        with Cluster(folder) as cluster:
            cluster.shell("{bin}/createdb -T template0 bench", "/")
            start = time.monotonic()
            size = _database.create(cluster.connect, times)
            taken = time.monotonic() - start
            say(f"database: {size / 1e6:.0f} MB on disk, made in {taken:.0f} s; {os.cpu_count()} processors")
            if size < 1_000_000_000:
                raise SystemExit("the database is smaller than 1 GB")
            with contextlib.closing(cluster.connect()) as connection:
                share = _database.texts(connection) / size
            if times == 1 and not 0.75 < share < 0.85:
                raise SystemExit(f"the two tables of text are {share:.0%} of it: the recipe says four fifths")
            say(json.dumps(measure(cluster, engine, work, times)))
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
