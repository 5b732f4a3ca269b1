"""Django's `dumpdata` and `loaddata` against ours, side by side, on the sample site with a fixture of at least 90 MB.

Runs as root on a machine with a PostgreSQL server and PostGIS: python3 fixtures.py [OFFERS]. It makes its own server
and virtual environment under a temporary folder and removes them. Needs pip's package index once. Last line: JSON.
"""

import filecmp
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _measuring import Cluster, say

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "molecule" / "_shared" / "site"
sys.path.insert(0, str(ROOT / "module_utils"))

from sauvegarde.django import dump, load, site  # noqa: E402 - found through the path set above

PACKAGES = ["Django==5.2.*", "psycopg2-binary"]
OFFERS = 12500


class Bench:
    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        self.python = folder / "venv" / "bin" / "python"
        self._sites = {}

    def prepare(self):
        subprocess.run([sys.executable, "-m", "venv", str(self.folder / "venv")], check=True)
        subprocess.run([str(self.python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)

    def site(self, name):
        """{the Site's values} of a migrated site on a fresh database, whose kind is the name's start."""
        if name.startswith("pg"):
            self._sql("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
            self._sql(name, "CREATE EXTENSION postgis")
            url = f"postgis:///{name}?host={self.cluster.folder}&port={self.cluster.port}"
            url = url.replace("postgis:///", "postgis://postgres@/")
        else:
            url = f"sqlite:///{self.folder / name}.sqlite3"
        env_file = self.folder / f"{name}.env"
        env_file.write_text(f"SITE_ENV=/nonexistent\nDATABASE_URL={url}\n", encoding="utf-8")
        self._sites[name] = {
            "path": str(SITE),
            "python": str(self.python),
            "settings": "cap.settings",
            "env_file": str(env_file),
        }
        self.manage(name, "migrate", "-v0")
        return self._sites[name]

    def _sql(self, database, statement):
        connection = self.cluster.connect(database)
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def manage(self, name, *arguments):
        """Seconds of a stock command."""
        where = site.site(self._sites[name])
        start = time.monotonic()
        subprocess.run(
            [str(self.python), "manage.py", *arguments],
            cwd=str(SITE),
            env=site.environment(where),
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return time.monotonic() - start

    def ours(self, task, name, path):
        """(seconds, peak MB of both our processes together) of one of our operations, in a process of its own."""
        call = [sys.executable, __file__, "--one", task, json.dumps(self._sites[name]), str(path)]
        start = time.monotonic()
        answer = subprocess.run(call, check=True, stdout=subprocess.PIPE)
        return time.monotonic() - start, json.loads(answer.stdout.decode())["peak_mb"]


def one(task, where, path):
    if task == "dump":
        dump.to_file(site.site(where), {}, path)
    else:
        load.load(site.site(where), [path], {})
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"peak_mb": (own + child) / 1024}))


def measure(bench, offers):
    result = {"bench": "fixtures"}
    peak = 0
    fixture = {}
    for kind in ("pg", "sqlite"):
        bench.site(f"{kind}_source")
        bench.manage(f"{kind}_source", "generate", "--offers", str(offers))
        stock_file, our_file = bench.folder / f"{kind}-stock.json", bench.folder / f"{kind}-ours.json"
        ours, memory = min(bench.ours("dump", f"{kind}_source", our_file) for _ in range(2))
        peak = max(peak, memory)
        options = ["--natural-foreign", "--exclude", "contenttypes", "--exclude", "auth.permission"]
        stock = bench.manage(f"{kind}_source", "dumpdata", *options, "-o", str(stock_file))
        # Compared piecewise: what this process holds would count as its children's memory too.
        if not filecmp.cmp(str(stock_file), str(our_file), shallow=False):
            raise SystemExit("The two dumps are not the same, byte for byte.")
        say(f"dump, {kind}: stock {stock:.1f} s, ours {ours:.2f} s, {our_file.stat().st_size / 1e6:.0f} MB")
        result["dump_" + kind] = round(stock / ours, 1)
        fixture[kind] = our_file
    for kind in ("pg", "sqlite"):
        times = []
        for attempt in range(2):
            bench.site(f"{kind}_ours{attempt}")
            seconds, memory = bench.ours("load", f"{kind}_ours{attempt}", fixture[kind])
            times.append(seconds)
            peak = max(peak, memory)
        bench.site(f"{kind}_stock")
        stock = bench.manage(f"{kind}_stock", "loaddata", "-v0", str(fixture[kind]))
        say(f"load, {kind}: stock {stock:.1f} s, ours {min(times):.2f} s")
        result[f"load_{kind}"] = round(stock / min(times), 1)
    result["peak_mb"] = round(peak)
    result["peak_mb_4x"] = round(_four_times(bench, offers))
    return result


def _four_times(bench, offers):
    """The peak with a fixture four times as large."""
    peak = 0
    bench.manage("pg_source", "generate", "--first", str(offers + 1), "--offers", str(3 * offers))
    path = bench.folder / "large.json"
    peak = max(peak, bench.ours("dump", "pg_source", path)[1])
    for kind in ("pg", "sqlite"):
        bench.site(f"{kind}_large")
        peak = max(peak, bench.ours("load", f"{kind}_large", path)[1])
    say(f"four times as much: {path.stat().st_size / 1e6:.0f} MB, peak {peak:.0f} MB")
    return peak


def main():
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])
        return
    offers = int(sys.argv[1]) if len(sys.argv) > 1 else OFFERS
    os.umask(0o022)
    folder = Path(tempfile.mkdtemp(prefix="sauvegarde-bench-"))
    try:
        shutil.chown(str(folder), "postgres")
        folder.chmod(0o755)
        with Cluster(folder) as cluster:
            bench = Bench(folder, cluster)
            bench.prepare()
            result = measure(bench, offers)
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
