"""What `restore.py` runs on a machine with a PostgreSQL server and restic: one database, dumped once in each form, then
restored in every way, one after the other. Run as root: python3 _restore.py ENGINE_FOLDER. Last line: JSON."""

import json

from _measuring import JOBS, back_up, in_a_process, main, say

ROUNDS = 2  # of each way; the best counts, on every side

# Straight from the repository, its host being dead, over a database that lives.
RESTORE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from sauvegarde.offsite.repository import Repository
from sauvegarde.restore import fetch, restore_run, restore_swap
from sauvegarde.restore.request import RestoreRequest
repository, values = json.loads(sys.argv[2]), json.loads(sys.argv[3])
start = time.monotonic()
found = fetch.from_restic(Repository.from_values(repository), values["directory"], "bench")
fetched = time.monotonic() - start
request = RestoreRequest.from_values(dict(values, path=found["archive"]["path"]))
done = restore_run.fill(request)
restore_swap.swap_in(request.target, done["id"])
whole = time.monotonic() - start
steps = {step["name"]: step["started"] for step in done["steps"]}
print(json.dumps({
    "whole": whole,
    "fetch": fetched,
    # That the archive is checked once more belongs to its fetching; unpacked it is already.
    "read": steps["roles"] - steps["read"],
    # From the empty server to the last index.
    "load": steps["analyze"] - steps["roles"],
    "analyze": steps["prove"] - steps["analyze"],
    "proof": steps["properties"] - steps["prove"],
}))
"""


def ours(cluster, engine, repository, folder):
    """The engine's whole restore in a process of its own: its times in seconds, its peak memory in MB."""
    spec = {"connection": cluster.connection, "database": "target", "directory": str(folder / "restores")}
    output, peak = in_a_process(RESTORE, engine, json.dumps(repository), json.dumps(dict(spec, jobs=JOBS)))
    return dict(json.loads(output), **peak)


def forget(cluster):
    connection = cluster.connect("postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'target%'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}"')
        cursor.execute("CHECKPOINT")
    connection.close()


def measure(cluster, engine, folder, _times):
    dumps = folder / "dumps"
    dumps.mkdir()
    directory = f"pg_dump -Fd -j{JOBS} -f dump.directory"
    for line in ("pg_dump | gzip > dump.sql.gz", "pg_dump -Fc -f dump.custom", directory):
        cluster.shell("{bin}/" + line, dumps)
    repository = {"name": "vault", "repository": str(folder / "vault"), "password": "bench"}
    back_up(cluster, engine, folder, repository)
    parallel = f"pg_restore -j{JOBS} of -Fd"
    ways = {
        "gunzip | psql": "gunzip -c dump.sql.gz | {bin}/psql -qX -v ON_ERROR_STOP=1 -d target -o /dev/null",
        "pg_restore of -Fc": "{bin}/pg_restore -e -d target dump.custom",
        parallel: f"{{bin}}/pg_restore -e -j{JOBS} -d target dump.directory",
    }
    best, runs = {}, []
    for _ in range(ROUNDS):
        for name, line in ways.items():
            cluster.shell("{bin}/createdb -T template0 target", dumps)
            seconds = cluster.shell(line, dumps)
            best[name] = min(seconds, best.get(name, seconds))
            say(f"{name:<32} {seconds:7.1f} s")
            forget(cluster)
        cluster.shell("{bin}/createdb -T template0 target", dumps)
        runs.append(ours(cluster, engine, repository, folder))
        say(
            "{:<32} {load:7.1f} s (before it, fetched and checked in {fetch:.1f} + {read:.1f} s)\n"
            "{:<32} {whole:7.1f} s (ANALYZE {analyze:.1f} s, proof {proof:.1f} s; memory {pss:.0f} MB)".format(
                "Sauvegarde: loaded", "Sauvegarde: whole, with swap", **runs[-1]
            )
        )
        forget(cluster)
    load, whole = min(each["load"] for each in runs), min(each["whole"] for each in runs)
    return {
        "bench": "restore",
        "vs_fc": round(best["pg_restore of -Fc"] / load, 2),
        "vs_parallel": round(best[parallel] / load, 2),
        "whole_vs_fc": round(best["pg_restore of -Fc"] / whole, 2),
        "peak_mb": round(max(each["pss"] for each in runs)),
        "vs_psql": round(best["gunzip | psql"] / load, 2),
        "read_and_load_vs_fc": round(best["pg_restore of -Fc"] / min(each["read"] + each["load"] for each in runs), 2),
    }


if __name__ == "__main__":
    main(measure)
