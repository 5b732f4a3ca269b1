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
    """Peak, in MB, of the memory of a process and all its children, looked at 40 times a second: each page of memory
    once (PSS), and beside it the plain sum of resident sizes, which counts shared libraries again in each process."""
    peak, done = {"pss": 0, "rss": 0}, threading.Event()

    def family(root):
        children = {}
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
                    children.setdefault(parent, []).append(int(each.name))
        found, queue = [], [root]
        while queue:
            found.append(queue.pop())
            queue += children.get(found[-1], [])
        return found

    def look():
        while not done.wait(0.025):
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


JOB = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from sauvegarde import kinds
times = {}
def notify(step, **values):
    times.setdefault(step, time.monotonic())
job = json.loads(sys.argv[2])
start = time.monotonic()
manifest = kinds.back_up(job, sys.argv[3], notify)
end = time.monotonic()
print(json.dumps({"job": end - start, "dump": times["read_back"] - times["dump"], "size": manifest["stored_bytes"],
                  "proof": times["publish"] - times["read_back"], "publish": end - times["publish"],
                  "path": "{}/{job}/{id}".format(sys.argv[3], **manifest)}))
"""


def in_a_process(code, *arguments):
    """What the code, given these arguments, prints as JSON, with its peak memory in MB (see memory_of)."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}
    )
    with memory_of(child.pid) as peak:
        output = child.communicate()[0]
    if child.returncode:
        raise SystemExit("the engine failed")
    return dict(json.loads(output.decode()), **peak)


def back_up(cluster, engine, root):
    """The whole job into ROOT/bench: its times in seconds, its size, its peak memory in MB, the archive's path."""
    folder = root / "bench"
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(mode=0o700)
    job = {"name": "bench", "kind": "pg_dump", "connection": cluster.connection, "database": "bench"}
    return in_a_process(JOB, engine, json.dumps(job), root)


def main(measure):
    """measure(cluster, engine, folder) on a filled database, its result as the last line. Arguments: the engine's
    folder, and how often the rows are in the database."""
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
            say(json.dumps(measure(cluster, engine, work)))
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
