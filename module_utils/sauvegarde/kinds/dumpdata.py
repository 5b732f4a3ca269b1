"""The `dumpdata` kind: a Django site's data as one fixture, as stock `dumpdata` writes it.

job: site (see django.site.Site), and `dumpdata`: the options of the dump (see django.dump.DEFAULTS); a key for masking
comes as `key_file`, a file with its hexadecimal digits. `archive`: {"files": an archive's fixtures, which are read in
place of the site's database, "masked": whether they already were}.
"""

import contextlib
import shlex
from pathlib import Path

from .. import archive
from ..django import dump as dumping
from ..django import proof
from ..django import site as sites
from ..errors import DAMAGED, SauvegardeError

_LEAST = 64 * 1024 * 1024  # bytes asked for where there is no last archive to go by


def preflight(job, directory, last):
    """The site answers in its own environment, the archive has room. Migrations that are not applied only warn."""
    where = sites.site(job.get("site") or {})
    options = dumping.options(_options(job))
    described = sites.describe(where, asked=not job.get("archive"))
    archive.require_space(directory, int(last["stored_bytes"] * 1.2) if last else _LEAST)
    return {"site": where, "options": options, "described": described}


def _options(job):
    options = dict(job.get("dumpdata") or {})
    key = read_key(options.pop("key_file", None))
    return dict(options, key=key) if key else options


def read_key(path):
    """The hexadecimal digits of the masking's key in a job's `key_file`; "" without one."""
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SauvegardeError(
            f"The key of the masking cannot be read: {path}",
            str(error),
            "Write it there as hexadecimal digits, for the job's user to read.",
        ) from error


def dump(job, stage, facts, notify):
    """One fixture, parsed and counted while it is written."""
    where, options, described = facts["site"], facts["options"], facts["described"]
    name = "data." + options["format"]
    with stage.writer(name) as target:

        def told(event):
            notify("model", **event)

        given = job.get("archive")
        if given:
            result = dumping.converted(where, given["files"], options, target.write, told)
        else:
            result = dumping.stream(where, options, target.write, told)
    warnings = list(result["warnings"])
    if described["unapplied"]:
        warnings.append("Migrations are not applied: {}.".format(", ".join(described["unapplied"])))
    return {
        "source": {
            "site": where.path,
            "settings": where.settings,
            "database": described["database"],
            "options": {key: value for key, value in options.items() if key not in ("key", "policy")},
            "masked": result["masked"] or bool(given and given["masked"]),
            "masking": result.get("masking"),
            "counts": result["counts"],
            "stock": result["stock"],
            "many": result["many"],
            "file": name,
        },
        "tools": dict(archive.tools(), django=described["django"], site_python=described["python"]),
        "fingerprint": result["fingerprint"],
        "restore_by_hand": by_hand(where, [name]),
        "warnings": warnings,
    }


def by_hand(where, names):
    """The stock commands that load the files, in an archive's folder."""
    manage = f"{shlex.quote(where.python)} {shlex.quote(str(Path(where.path) / 'manage.py'))} loaddata "
    manage += " ".join(f'"$PWD/{name}"' for name in names)
    return {
        "local": ["zstd -dq -- " + " ".join(shlex.quote(name + ".zst") for name in names), manage],
        "plain": [manage],
    }


def read(path, manifest):
    """Parse every file and compare what is in it with the fingerprint, checksums included."""
    found = {}

    @contextlib.contextmanager
    def sink(entry):
        form = "jsonl" if entry["path"].endswith(".jsonl") else "json"
        with dumping.Check(form) as check:
            check.many.update(manifest["source"]["many"])
            yield check.feed
            found.update(check.end().result()["tables"])

    archive.stream(path, manifest["files"], sink)
    differences = proof.compare(manifest["fingerprint"], {"tables": found})
    if differences:
        raise SauvegardeError(
            f"The archive is damaged: {path}",
            "\n".join(each["sentence"] for each in differences),
            "Use another archive, or the offsite copy of this one.",
            DAMAGED,
        )
