"""What `fixtures.py` runs on a machine with a PostgreSQL server and PostGIS: the sample site, dumped and loaded by
Django and by us, in turns. Measured is what stands against the stock commands: one dump to a file, one load of a file;
not the proof and the reports that jobs, migrations and modules add. As root: python3 _fixtures.py ENGINE_FOLDER
[OFFERS]. Last line: JSON."""

import filecmp
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _measuring import Cluster, say

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "molecule" / "_shared" / "site"
WHEELS = ROOT / ".cache" / "benchmark-wheels"
OFFERS = 12500
KINDS = ("pg", "sqlite")
NATURAL = ["--natural-foreign", "--exclude", "contenttypes", "--exclude", "auth.permission"]
# One of our operations, in a process of its own that holds nothing else; it answers with the peak of the memory of
# both our processes together, in MB, shared libraries counted in each.
OURS = """
import json, resource, sys
engine, task, site, path = sys.argv[1:]
sys.path.insert(0, engine)
from sauvegarde.django import data_dump, data_load
from sauvegarde.django.site import site as described
if task == "dump":
    data_dump.to_file(described(json.loads(site)), {}, path)
else:
    data_load.load(described(json.loads(site)), [path], {})
print(sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024)
"""


class Bench:
    """The sample site on databases whose names begin with their kind; `apps`: more of its applications, whose databases
    have the mark in their names."""

    def __init__(self, engine, folder, cluster, apps="", mark=""):
        self.engine, self.folder, self.cluster = engine, folder, cluster
        self.apps, self.mark = apps, mark
        self.python = folder / "venv" / "bin" / "python"
        if not self.python.exists():
            self._install()
        for kind in KINDS:
            self.create(f"{kind}_{mark}empty")
            self.stock(f"{kind}_{mark}empty", "migrate", "-v0")

    def _install(self):
        subprocess.run([sys.executable, "-m", "venv", str(self.folder / "venv")], check=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        subprocess.run([*pip, "--find-links", str(WHEELS), "--requirement", str(SITE / "requirements.txt")], check=True)

    def fill(self, kind, what, offers):
        """A database with so many offers, and with what the applications make of them."""
        name = f"{kind}_{self.mark}{what}"
        self.create(name)
        self.stock(name, "generate", "--offers", offers)
        if self.apps:
            self.stock(name, "comment")

    def create(self, name):
        """A database whose kind is the name's start: a copy of the migrated one, which comes first."""
        kind = name.split("_")[0]
        empty = f"{kind}_{self.mark}empty"
        if kind == "pg":
            template = "template0" if name == empty else empty
            self._sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
            if template == "template0":
                self._sql(name, "CREATE EXTENSION postgis")
            url = f"postgis://postgres@/{name}?host={self.cluster.folder}&port={self.cluster.port}"
        else:
            if name != empty:
                shutil.copy(str(self.folder / empty), str(self.folder / name))
            url = f"sqlite:///{self.folder / name}"
        lines = f"SITE_ENV=/nonexistent\nDATABASE_URL={url}\nSITE_EXTRA_APPS={self.apps}\n"
        (self.folder / f"{name}.env").write_text(lines, encoding="utf-8")

    def remove(self, name):
        if name.startswith("pg"):
            self._sql("postgres", f"DROP DATABASE {name}")
        else:
            (self.folder / name).unlink()

    def _sql(self, database, statement):
        connection = self.cluster.connect(database)
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def stock(self, name, *arguments):
        """Seconds of one of the site's own commands, in the environment that ours has too."""
        lines = (self.folder / f"{name}.env").read_text(encoding="utf-8").splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        environment.update(PATH="/usr/bin:/bin", LC_ALL="C.UTF-8", PYTHONUTF8="1")
        start = time.monotonic()
        command = [str(self.python), "manage.py", *map(str, arguments)]
        done = subprocess.run(command, cwd=str(SITE), env=environment, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise SystemExit(done.stderr.decode())
        return time.monotonic() - start

    def ours(self, task, name, path):
        """(seconds, peak MB of our processes) of one of our operations."""
        where = {"path": str(SITE), "python": str(self.python), "settings": "cap.settings"}
        where["env_file"] = str(self.folder / f"{name}.env")
        # A peak begins with that of the process that starts the program: this one's is no matter of ours, the shell's
        # is small.
        shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
        call = [*shell, sys.executable, "-I", "-c", OURS, self.engine, task, json.dumps(where), str(path)]
        start = time.monotonic()
        answer = subprocess.run(call, check=True, stdout=subprocess.PIPE)
        return time.monotonic() - start, float(answer.stdout.decode())

    def dumps(self, kind):
        """(stock's seconds, each of ours, our memory, the file): ours before, and twice behind."""
        source, stock_file = f"{kind}_{self.mark}source", self.folder / "stock.json"
        our_file = self.folder / f"{self.mark}{kind}.json"
        runs = [self.ours("dump", source, our_file)]
        stock = self.stock(source, "dumpdata", *NATURAL, "-o", stock_file)
        runs += [self.ours("dump", source, our_file) for _ in range(2)]
        # Piece by piece: what this process holds would count as its children's memory too.
        if not filecmp.cmp(str(stock_file), str(our_file), shallow=False):
            raise SystemExit("The two dumps are not the same, byte for byte.")
        return stock, [each[0] for each in runs], max(each[1] for each in runs), our_file

    def loads(self, kind, file):
        """(stock's seconds, each of ours, our memory): into a migrated database that is otherwise empty."""
        runs, stock = [], None
        for turn in range(4):
            name = f"{kind}_{self.mark}turn{turn}"
            self.create(name)
            if turn == 1:
                stock = self.stock(name, "loaddata", "-v0", file)
            else:
                runs.append(self.ours("load", name, file))
        self._equal(kind)
        for turn in range(4):
            self.remove(f"{kind}_{self.mark}turn{turn}")
        return stock, [each[0] for each in runs], max(each[1] for each in runs)

    def _equal(self, kind):
        """What was loaded, dumped again: ours (turn 0) against stock's (turn 1)."""
        files = [self.folder / f"again{turn}.json" for turn in range(2)]
        for turn, file in enumerate(files):
            self.ours("dump", f"{kind}_{self.mark}turn{turn}", file)
        if not filecmp.cmp(*map(str, files), shallow=False):
            raise SystemExit("The two loads did not come to the same rows.")

    def hears(self, kind):
        """What the site's listeners hear of a load of ours must be what they hear of stock's, call by call."""
        self.fill(kind, "few", 100)
        file, heard = self.folder / "few.json", []
        self.ours("dump", f"{kind}_{self.mark}few", file)
        for who in ("stock", "ours"):
            name, log = f"{kind}_{self.mark}{who}", self.folder / f"{kind}_{who}.heard"
            self.create(name)
            with (self.folder / f"{name}.env").open("a", encoding="utf-8") as lines:
                lines.write(f"SITE_HEARD={log}\n")
            if who == "stock":
                self.stock(name, "loaddata", "-v0", file)
            else:
                self.ours("load", name, file)
            # An object's address in memory says nothing.
            heard.append(re.sub(" at 0x[0-9a-f]+", "", log.read_text(encoding="utf-8")).splitlines())
        if heard[0] != heard[1]:
            one, other = next((pair for pair in zip(*heard, strict=False) if pair[0] != pair[1]), map(len, heard))
            raise SystemExit(f"Listeners did not hear the same, {kind}:\n{one}\n{other}")
        say(f"listeners, {kind}: {len(heard[0])} calls, the same")


def measure(bench, offers):
    """The ratios by name, the peak of our memory, and the fixtures."""
    result, memory, files = {}, [], {}
    for kind in KINDS:
        bench.fill(kind, "source", offers)
        stock, ours, peak, files[kind] = bench.dumps(kind)
        report("dump", bench.mark + kind, stock, ours, files[kind], peak)
        if offers >= OFFERS and size(files[kind]) < 90:
            raise SystemExit("the fixture is smaller than 90 MB")
        result[f"{bench.mark}dump_{kind}"] = round(stock / statistics.median(ours), 1)
        memory.append(peak)
    for kind in KINDS:
        stock, ours, peak = bench.loads(kind, files[kind])
        report("load", bench.mark + kind, stock, ours, files[kind], peak)
        result[f"{bench.mark}load_{kind}"] = round(stock / statistics.median(ours), 1)
        memory.append(peak)
    return result, round(max(memory))


def everything(engine, folder, cluster, offers):
    """The site as it is, and with what third-party applications bring."""
    bench = Bench(engine, folder, cluster)
    result, peak = measure(bench, offers)
    result.update(peak_mb=peak, peak_mb_4x=round(four_times(bench, offers)))
    with_apps = Bench(engine, folder, cluster, "community", "apps_")
    for kind in KINDS:
        with_apps.hears(kind)
    more, peak = measure(with_apps, offers)
    return dict(bench="fixtures", **result, **more, apps_peak_mb=peak)


def report(task, kind, stock, ours, file, peak):
    seconds, file = ", ".join(f"{each:.2f}" for each in ours), f"{size(file):.0f} MB"
    say(f"{task}, {kind}: stock {stock:.1f} s; ours {seconds} s (the middle one counts); {file}, peak {peak:.0f} MB")


def size(file):
    return file.stat().st_size / 1e6


def four_times(bench, offers):
    """The peak of our memory with a fixture four times as large."""
    bench.stock("pg_source", "generate", "--first", offers + 1, "--offers", 3 * offers)
    path = bench.folder / "large.json"
    peaks = [bench.ours("dump", "pg_source", path)[1]]
    for kind in KINDS:
        bench.create(f"{kind}_large")
        peaks.append(bench.ours("load", f"{kind}_large", path)[1])
    say(f"four times as much: {size(path):.0f} MB, peak {max(peaks):.0f} MB")
    return max(peaks)


def main():
    engine, *offers = sys.argv[1:]
    os.umask(0o022)
    folder = Path(tempfile.mkdtemp(prefix="sauvegarde-bench-", dir="/var/tmp"))
    try:
        shutil.chown(str(folder), "postgres")
        folder.chmod(0o755)
        with Cluster(folder) as cluster:
            result = everything(engine, folder, cluster, int(offers[0]) if offers else OFFERS)
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
