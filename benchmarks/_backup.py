"""What `backup.py` runs on a machine with a PostgreSQL server: makes a throwaway cluster and the benchmark's database,
then dumps it in every way, one after the other. As root: python3 _backup.py ENGINE_FOLDER [TIMES]. Last line: JSON."""

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

ROUNDS = 3  # of what takes seconds; the best counts, on both sides


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
                  "proof": times["publish"] - times["read_back"], "publish": end - times["publish"]}))
"""


def run_job(cluster, engine, root):
    """The engine's whole job in a process of its own: its times in seconds, its size, its peak memory in MB."""
    folder = root / "bench"
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(mode=0o700)
    connection = {"host": str(cluster.folder), "port": cluster.port, "user": "postgres"}
    job = {"name": "bench", "kind": "pg_dump", "connection": connection, "database": "bench"}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", JOB, engine, json.dumps(job), str(root)],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin"},
    )
    with memory_of(child.pid) as peak:
        output = child.communicate()[0]
    if child.returncode:
        raise SystemExit("the job failed")
    return dict(json.loads(output.decode()), **peak)


def measure(cluster, engine, folder):
    out = folder / "out"

    def shell(name, line):
        if out.exists():
            shutil.rmtree(str(out))
        out.mkdir()
        seconds = cluster.shell(line, out)
        size = size_of(out)
        shutil.rmtree(str(out))
        say(f"{name:<44} {seconds:7.1f} s {size / 1e6:8.0f} MB")
        return seconds, size

    # Everything is read once before anything counts, so that the first way does not pay for the others' warm cache.
    shell("(warming up: pg_dump -Fd -j2 -Z0)", "{bin}/pg_dump -Fd -j2 -Z0 -f d")
    raw, jobs = [], []
    for _ in range(ROUNDS):
        raw.append(shell("pg_dump -Fd -j2 -Z0, zstd -T2", "{bin}/pg_dump -Fd -j2 -Z0 -f d && zstd -q -T2 --rm d/*"))
        jobs.append(run_job(cluster, engine, folder))
        each = jobs[-1]
        say(f"{'Sauvegarde: dump phase':<44} {each['dump']:7.1f} s {each['size'] / 1e6:8.0f} MB")
        say(
            f"{'Sauvegarde: whole job':<44} {each['job']:7.1f} s          (proof {each['proof']:.1f} s, publishing"
            f" {each['publish']:.1f} s; memory {each['pss']:.0f} MB, {each['rss']:.0f} with shared pages counted again)"
        )
    gzip, _ = shell("pg_dump | gzip", "{bin}/pg_dump | gzip > dump.sql.gz")
    custom, custom_size = shell("pg_dump -Fc", "{bin}/pg_dump -Fc -f dump")
    parallel, _ = shell("pg_dump -Fd -j2", "{bin}/pg_dump -Fd -j2 -f d")
    dump, whole = min(each["dump"] for each in jobs), min(each["job"] for each in jobs)
    return {
        "bench": "backup",
        "dump_vs_fc": round(custom / dump, 2),
        "dump_vs_best_raw": round(dump / min(seconds for seconds, _ in raw), 3),
        "size_vs_fc": round(jobs[-1]["size"] / custom_size, 3),
        "job_vs_fc": round(custom / whole, 2),
        "peak_mb": round(max(each["pss"] for each in jobs)),
        "dump_vs_gzip": round(gzip / dump, 2),
        "dump_vs_parallel": round(parallel / dump, 2),
    }


def main():
    engine, times = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder = Path(tempfile.mkdtemp(prefix="sauvegarde-bench-", dir="/var/tmp"))
    shutil.chown(str(folder), "postgres")
    folder.chmod(0o755)
    repository = folder / "repository"
    repository.mkdir(mode=0o755)
    try:
        with Cluster(folder) as cluster:
            connection = cluster.connect("postgres")
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE bench TEMPLATE template0")
            connection.close()
            start = time.monotonic()
            size = _database.create(cluster.connect, times)
            taken = time.monotonic() - start
            say(f"database: {size / 1e6:.0f} MB on disk, made in {taken:.0f} s; {os.cpu_count()} processors")
            if size < 1_000_000_000:
                raise SystemExit("the database is smaller than 1 GB")
            say(json.dumps(measure(cluster, engine, repository)))
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


if __name__ == "__main__":
    main()
