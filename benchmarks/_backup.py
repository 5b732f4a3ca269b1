"""What `backup.py` runs on a machine with a PostgreSQL server: the benchmark's database, dumped in every way, one after
the other. As root: python3 _backup.py ENGINE_FOLDER [TIMES]. Last line: JSON."""

import shutil
import statistics

from _measuring import JOBS, back_up, main, say, size_of

ROUNDS = 3  # of what takes seconds; the middle one counts, on both sides
# Phases that make a dump are compared before anything is synced, on every side; the whole job, which syncs, with a
# pg_dump that does. At our own level of zstd, which is faster than zstd's own default of 3.
RAW = f"pg_dump -Fd -j{JOBS} -Z0 --no-sync -f d && zstd -q -2 -T{JOBS} --rm d/*"


def measure(cluster, engine, folder, times):
    if times > 1:
        job = back_up(cluster, engine, folder)
        return {"bench": "backup", "times": times, "peak_mb": round(job["pss"]), "job_seconds": round(job["job"], 1)}
    out = folder / "out"

    def shell(name, line):
        if out.exists():
            shutil.rmtree(str(out))
        out.mkdir()
        seconds = cluster.shell(line, out)
        size = size_of(out)
        shutil.rmtree(str(out))
        say(f"{name:<48} {seconds:7.1f} s {size / 1e6:8.0f} MB")
        return seconds, size

    # Everything is read once before anything counts, so that the first way does not pay for the others' warm cache.
    shell("(warming up: pg_dump -Fd -Z0)", f"{{bin}}/pg_dump -Fd -j{JOBS} -Z0 -f d")
    raw, jobs = [], []
    for _ in range(ROUNDS):
        raw.append(shell(RAW, "{bin}/" + RAW)[0])
        jobs.append(back_up(cluster, engine, folder))
        each = jobs[-1]
        say(f"{'Sauvegarde: dump phase':<48} {each['dump']:7.1f} s {each['size'] / 1e6:8.0f} MB")
        say(
            f"{'Sauvegarde: whole job':<48} {each['job']:7.1f} s          (proof {each['read_back']:.1f} s, publishing"
            f" {each['publish']:.1f} s; memory {each['pss']:.0f} MB, {each['rss']:.0f} with shared pages counted again)"
        )
    gzip, _ = shell("pg_dump | gzip", "{bin}/pg_dump | gzip > dump.sql.gz")
    custom, custom_size = shell("pg_dump -Fc", "{bin}/pg_dump -Fc -f dump")
    unsynced, _ = shell("pg_dump -Fc --no-sync", "{bin}/pg_dump -Fc --no-sync -f dump")
    parallel, _ = shell(f"pg_dump -Fd -j{JOBS}", f"{{bin}}/pg_dump -Fd -j{JOBS} -f d")
    dump, whole = (statistics.median(each[name] for each in jobs) for name in ("dump", "job"))
    return {
        "bench": "backup",
        "dump_vs_fc": round(unsynced / dump, 2),
        "dump_vs_best_raw": round(dump / statistics.median(raw), 3),
        "size_vs_fc": round(jobs[-1]["size"] / custom_size, 3),
        "job_vs_fc": round(custom / whole, 2),
        "peak_mb": round(max(each["pss"] for each in jobs)),
        "dump_vs_gzip": round(gzip / dump, 2),
        "dump_vs_parallel": round(parallel / dump, 2),
    }


if __name__ == "__main__":
    main(measure)
