"""The filter that names the parts of a split file on the controller."""

import runpy

import pytest
from ansible.errors import AnsibleFilterError

from sauvegarde_cli.system import ROOT


@pytest.fixture(scope="module")
def parts():
    return runpy.run_path(str(ROOT / "plugins/filter/sauvegarde_parts.py"))["parts"]


def make(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (["d.sql.aa", "d.sql.ab", "d.sql.ac"], "d.sql.aa"),
        (["d.sql.aa", "d.sql.ab"], "d.sql"),
        (["xaa", "xab"], "xaa"),
        (["d.part1", "d.part2"], "d.part1"),
        (["d.zip.001", "d.zip.002"], "d.zip.001"),
        (["d-00", "d-01"], "d-00"),
    ],
)
def test_all_parts_are_named_in_their_order(parts, tmp_path, names, given):
    make(tmp_path, *names, "other.aa")
    assert parts(str(tmp_path / given)) == [str(tmp_path / name) for name in names]


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
    with pytest.raises(AnsibleFilterError, match=r"d\.ab"):
        parts(str(tmp_path / "d.aa"))
    make(tmp_path, "d.ab")
    with pytest.raises(AnsibleFilterError, match="later part"):
        parts(str(tmp_path / "d.ab"))
