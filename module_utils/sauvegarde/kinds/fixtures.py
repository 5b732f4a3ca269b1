"""The `fixtures` kind: a Django site's fixture sets, one file each, and on request into the site's git repository.

job: site (see django.site.Site); sets (see django.sets, by default the seven of the seed's site); `people`: keep where
the sets may hold people's data (see django.privacy); `key_file`: a file with the masking's key (hexadecimal), where the
sets have masks; and `repository`, where the files are to be committed: path, folder (inside it), user, name, email,
message, push.
"""

from pathlib import Path

from .. import archive, git
from ..django import privacy
from ..django import sets as fixture_sets
from ..django import site as sites
from ..errors import SauvegardeError
from . import dumpdata

read = dumpdata.read
_POINTER = "{}: Git LFS keeps it (.gitattributes), so that git shows a pointer instead of its changes."


def preflight(job, directory, last):
    """The site answers, the sets are right, the repository is one."""
    where = sites.site(job.get("site") or {})
    sets = fixture_sets.checked(job.get("sets") or fixture_sets.SETS, job.get("people") or privacy.PRIVATE)
    key = dumpdata.read_key(job.get("key_file"))
    privacy.require_key(sets, key)
    repository = job.get("repository")
    if repository and not (Path(repository["path"]) / ".git").exists():
        raise SauvegardeError(
            "There is no git repository for the fixtures: {}".format(repository["path"]),
            fix="Clone the site's repository there, or correct the job's “repository”.",
        )
    warnings = []
    if repository:
        folder, user = Path(repository.get("folder", "fixtures")), repository.get("user", "")
        files = [str(folder / each["file"]) for each in sets]
        git.require_place(repository["path"], files, user)
        warnings = [_POINTER.format(file) for file in git.kept_by_lfs(repository["path"], files, user)]
    described = sites.describe(where)
    # A set that says too little of its people stops here, before anything is read.
    chosen = [
        label
        for label in described["models"]
        if any(privacy.names(name, label) for each in sets for name in each["models"])
    ]
    privacy.actions(described["models"], sets, chosen)
    archive.require_space(directory, int(last["stored_bytes"] * 1.2) if last else 16 * 1024 * 1024)
    return {"site": where, "sets": sets, "key": key, "described": described, "warnings": warnings}


def dump(job, stage, facts, notify):
    """Each set's file into the archive, and into the repository where it changed."""
    where, described = facts["site"], facts["described"]
    tables, many = {}, {}
    made = fixture_sets.read(where, facts["sets"], key=facts["key"])
    for each in made:
        notify("set", name=each["name"], objects=each["objects"])
        tables.update(each["fingerprint"]["tables"])
        many.update(each["many"])
        with stage.writer(each["file"]) as target:
            target.write(each["text"].encode("utf-8"))
    emptied = fixture_sets.private_sentences(made)
    if emptied:
        notify("private", fields=emptied)
    committed = _publish(job, made, notify)
    return {
        "source": {
            "site": where.path,
            "settings": where.settings,
            "database": described["database"],
            "sets": facts["sets"],
            "many": many,
            "private": {model: rules for each in made for model, rules in each["private"].items()},
            "commit": committed,
        },
        "tools": dict(archive.tools(), django=described["django"], site_python=described["python"]),
        "fingerprint": {"algorithm": fixture_sets.ALGORITHM, "tables": tables},
        "restore_by_hand": dumpdata.by_hand(where, [each["file"] for each in facts["sets"]]),
        "warnings": facts["warnings"] + fixture_sets.doubts(made),
    }


def _publish(job, made, notify):
    """Commit just what was archived; returns the new commit, or None where nothing changed."""
    values = dict(job.get("repository") or {})
    if not values:
        return None
    path, folder = Path(values.pop("path")), values.pop("folder", "fixtures")
    message = values.pop("message", "Update the fixtures")
    done = fixture_sets.put(made, path / folder, owner=values.get("user", ""))
    files = [str(Path(each["path"]).relative_to(path)) for each in done]
    result = git.commit(path, files, message, **values)
    notify("committed", commit=result["committed"], pushed=result["pushed"])
    return result["committed"]
