"""A restore refuses a good archive of another kind by that kind, whatever form it has. No server."""

import pytest
from sauvegarde.archive import archive_reader, archive_writer
from sauvegarde.backup import kinds
from sauvegarde.errors import Damaged
from sauvegarde.restore import restore_plan
from sauvegarde.restore.request import RestoreRequest

# What restores an archive of each other kind, and a file that such an archive has.
OTHERS = {
    "sqlite": ("playbooks/migrate.yml", "database.sqlite3"),
    "dumpdata": ("playbooks/migrate.yml", "site.jsonl"),
    "fixtures": ("playbooks/migrate.yml", "places.json"),
    "globals": ("restore_globals", "globals.sql"),
}


def archived(root, kind, file):
    """A good archive that says no more of its source than any kind does."""
    (root / "job").mkdir(mode=0o700, parents=True)
    part = {
        "source": {},
        "tools": {},
        "fingerprint": None if kind == "globals" else {"algorithm": "a", "tables": {}},
        "restore_by_hand": {"local": [f"zstd -dq {file}.zst"], "plain": ["true"]},
        "warnings": [],
    }
    with archive_writer.Stage(root, "job", kind) as stage:
        with stage.writer(file) as target:
            target.write(b"content")
        return root / "job" / stage.publish(part).id


@pytest.mark.parametrize("form", ["as stored", "plain"])
@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_is_refused_by_name(tmp_path, kind, form):
    remedy, file = OTHERS[kind]
    path = archived(tmp_path / "backups", kind, file)
    if form == "plain":
        archive_reader.expand(path, tmp_path / "plain")
        path = tmp_path / "plain"
        archive_reader.verify_plain(path)
    else:
        archive_reader.verify(path)
    values = {"path": str(path), "database": "elpaso", "directory": str(tmp_path / "runs")}
    (blocker,) = restore_plan.make_plan(RestoreRequest.from_values(values)).blockers
    assert f"of the kind {kind}" in blocker.what and str(path) in blocker.what
    assert remedy in blocker.fix and "restore_by_hand" in blocker.fix
    assert blocker.exit_code != Damaged.exit_code and "damaged" not in f"{blocker.what} {blocker.why}"


def test_all_other_kinds_are_tried():
    assert {*OTHERS, "pg_dump"} == set(kinds.kinds())
