"""What a restore copies from the controller to the target, and where it is there; the parts of a split file."""

import sys

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

from sauvegarde_cli.system import ROOT

action_loader.add_directory(str(ROOT / "plugins/action"))
Plugin = action_loader.get("sauvegarde_restore_source", class_only=True)
plugin = sys.modules[Plugin.__module__]


@pytest.fixture(scope="module")
def parts():
    return plugin.file_parts


def source(**arguments):
    """The archive and the globals on the target, and what is copied there."""
    result = plugin.RestoreSource.from_arguments({"directory": "/d", **arguments})
    return result.archive, result.globals, result.copied


def test_what_is_on_the_target_stays_there():
    assert source(path="/srv/old.dump") == ("/srv/old.dump", "", ())
    assert source(path="/srv/old.dump", globals="/srv/roles.sql") == ("/srv/old.dump", "/srv/roles.sql", ())
    fetched = {"archive": {"path": "/d/fetched/a"}, "globals": None}
    assert source(fetched=fetched) == ("/d/fetched/a", "", ())
    assert source(fetched={**fetched, "globals": {"path": "/d/fetched/g"}})[1] == "/d/fetched/g"


def test_an_archive_of_another_host_is_copied_with_its_globals():
    copies = tuple(str(ROOT / ".restore" / name) for name in ("a", "g"))
    assert source(chosen={"names": ["a"]}) == ("/d/carried/a", "", copies[:1])
    assert source(chosen={"names": ["a", "g"]}) == ("/d/carried/a", "/d/carried/g", copies)


def test_a_file_of_the_controller_is_copied_with_all_its_parts(tmp_path):
    make(tmp_path, "d.sql.aa", "d.sql.ab")
    copies = [str(tmp_path / name) for name in ("d.sql.aa", "d.sql.ab")]
    result = source(file=copies[0], globals="/here/roles.sql")
    assert result == ("/d/carried/d.sql.aa", "/d/carried/roles.sql", (copies[0], "/here/roles.sql", copies[1]))


def test_a_restore_needs_a_source():
    with pytest.raises(AnsibleActionFail, match="Name the source"):
        source()


def make(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (["d.sql.aa", "d.sql.ab", "d.sql.ac"], "d.sql.aa"),
        (["d.sql.aa", "d.sql.ab"], "d.sql"),
        (["xaa", "xab"], "xaa"),
        (["d.part1", "d.part2"], "d.part1"),
        (["d.zip.001", "d.zip.002"], "d.zip.001"),
        (["d-00", "d-01"], "d-00"),
    ],
)
def test_all_parts_are_named_in_their_order(parts, tmp_path, names, value):
    make(tmp_path, *names, "other.aa")
    assert parts(str(tmp_path / value)) == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize("name", ["d.sql", "shop-2026-11-24", "gone"])
def test_what_was_not_split_stays(parts, tmp_path, name):
    make(tmp_path, "d.sql", "shop-2026-11-23")
    (tmp_path / "shop-2026-11-24").mkdir()
    assert parts(str(tmp_path / name)) == [str(tmp_path / name)]


def test_rotated_dumps_are_no_parts(parts, tmp_path):
    for name in ("d.1", "d.2", "d.4"):
        (tmp_path / name).write_bytes(b"PGDMP and more")
    for name in ("d.1", "d.2"):
        assert parts(str(tmp_path / name)) == [str(tmp_path / name)]


def test_a_gap_and_a_later_part_are_refused(parts, tmp_path):
    make(tmp_path, "d.aa", "d.ac")
    with pytest.raises(AnsibleActionFail, match=r"d\.ab"):
        parts(str(tmp_path / "d.aa"))
    make(tmp_path, "d.ab")
    with pytest.raises(AnsibleActionFail, match="later part"):
        parts(str(tmp_path / "d.ab"))
