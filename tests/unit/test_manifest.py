"""The manifest's schema and its small validator, held against the real one."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from sauvegarde.archive import manifest, manifest_schema
from sauvegarde.errors import Damaged, SauvegardeError

DIGEST = "0" * 64
GOOD = {
    "format": 1,
    "id": "20261124T020835Z",
    "job": "elpaso",
    "kind": "pg_dump",
    "tool": {"name": "sauvegarde", "version": "0.1.0"},
    "host": "db1",
    "started": "2026-11-24T02:08:35.000Z",
    "ended": "2026-11-24T02:09:35Z",
    "files": [{"path": "dump/toc.dat", "bytes": 3, "sha256": DIGEST, "stored_bytes": 12}],
    "bytes": 3,
    "stored_bytes": 12,
    "source": {"database": "elpaso"},
    "tools": {"pg_dump": "15.18"},
    "fingerprint": {
        "algorithm": "md5-sum/1",
        "tables": {'"public"."offers"': {"rows": 1, "hash": "0" * 32, "columns": ["id"], "condition": ""}},
        "large_objects": {"rows": 0, "hash": "0" * 32},
        "sequences": {'"public"."offers_id_seq"': [7, True]},
        "matviews": {'"public"."m"': False},
    },
    "restore_by_hand": {"local": ["true"], "plain": ["true"]},
    "warnings": [],
    "checksum": DIGEST,
}


def changed(path, value):
    """A copy of GOOD with the value at a path of keys replaced, or the key removed where the value is `...`."""
    copied = copy.deepcopy(GOOD)
    place = copied
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copied


WRONG = [
    *((([key], ...)) for key in GOOD),
    (["format"], 2),
    (["format"], True),
    (["id"], "20261124T020835Z\n"),
    (["id"], "../../etc"),
    (["job"], "a/b"),
    (["job"], ".hidden"),
    (["started"], "yesterday"),
    (["bytes"], -1),
    (["bytes"], 1.5),
    (["bytes"], True),
    (["files"], {}),
    (["files", 0, "sha256"], "F" * 64),
    (["files", 0, "sha256"], ...),
    (["files", 0, "more"], 1),
    *(
        (["files", 0, "path"], path)
        for path in ("/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "", ".", "a\nb")
    ),
    (["fingerprint"], []),
    (["fingerprint", "tables", "x"], {"rows": "1", "hash": "0" * 32}),
    (["fingerprint", "tables", "x"], {"rows": 1, "hash": "short"}),
    (["fingerprint", "sequences", "x"], ["7"]),
    (["fingerprint", "matviews", "x"], 1),
    (["tools", "pg_dump"], 15),
    (["warnings"], [1]),
    (["unknown"], 1),
]


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(manifest_schema.SCHEMA)


PUBLISHED = Path(__file__).parents[2] / "docs" / "manifest.schema.json"


def test_the_schema_is_published():
    """After a change: PYTHONPATH=module_utils python3 -c "import json; from sauvegarde.archive import manifest_schema;
    print(json.dumps(manifest_schema.SCHEMA, indent=2, ensure_ascii=False))" > docs/manifest.schema.json"""
    assert json.loads(PUBLISHED.read_text()) == manifest_schema.SCHEMA


@pytest.mark.parametrize("value", [GOOD, changed(["fingerprint"], None)])
def test_a_good_manifest_is_valid_to_both(value):
    assert manifest_schema.problems(value) == []
    jsonschema.Draft202012Validator(manifest_schema.SCHEMA).validate(value)


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda each: str(each)[:40])
def test_a_wrong_manifest_is_wrong_to_both(path, value):
    wrong = changed(path, value)
    assert manifest_schema.problems(wrong)
    # Python's `$` also matches before a final newline, and jsonschema takes it as it is.
    if value != "20261124T020835Z\n":
        assert not jsonschema.Draft202012Validator(manifest_schema.SCHEMA).is_valid(wrong)


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_something_else_is_no_manifest(value):
    assert manifest_schema.problems(value)


def test_written_and_read_again():
    text = manifest.dumps(GOOD)
    read = manifest.loads(text, "here")
    assert {**read.as_dict(), "checksum": DIGEST} == GOOD


def test_nothing_invalid_is_written():
    with pytest.raises(SauvegardeError, match="schema"):
        manifest.dumps(changed(["host"], 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        manifest.dumps(GOOD)[:-20],
        manifest.dumps(GOOD).replace('"db1"', '"db2"'),
        manifest.dumps(GOOD).replace('"checksum": "', '"checksum": "0'),
        manifest.dumps(changed(["files"], GOOD["files"] * 2)),
    ],
    ids=["empty", "cut", "null", "truncated", "edited", "wrong checksum", "file twice"],
)
def test_a_damaged_manifest_is_refused(text):
    with pytest.raises(SauvegardeError) as caught:
        manifest.loads(text, "here")
    assert caught.value.exit_code == Damaged.exit_code


def test_a_newer_format_says_so():
    with pytest.raises(SauvegardeError, match="format 2"):
        manifest.loads(json.dumps({**GOOD, "format": 2}), "here")


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "real").write_text(manifest.dumps(GOOD))
    assert manifest.load(tmp_path / "real")["id"] == GOOD["id"]
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SauvegardeError):
        manifest.load(tmp_path / "link")
