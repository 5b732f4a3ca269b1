"""Fixtures read as streams, and the proof of what they hold."""

import io
import json

import pytest
from sauvegarde.django import fixture_fingerprint, fixture_sets, fixture_stream
from sauvegarde.errors import SauvegardeError

ENTRIES = [{"model": "a.b", "pk": number, "fields": {'é"}': "x]}, {" * number, "n": None}} for number in range(40)]


class Slow(io.BytesIO):
    """Gives a few bytes at a time."""

    def __init__(self, data, size):
        super().__init__(data)
        self.size = size

    def read(self, size=-1):
        return super().read(min(self.size, size) if size and size > 0 else size)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [1, 2, 7, 1000, 1 << 20])
def test_objects_come_whole_however_the_bytes_come(indent, size):
    data = json.dumps(ENTRIES, ensure_ascii=False, indent=indent).encode()
    assert list(fixture_stream.objects(Slow(data, size), "json")) == ENTRIES
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ENTRIES).encode()
    assert list(fixture_stream.objects(Slow(lines, size), "jsonl")) == ENTRIES


def test_a_cut_anywhere_is_seen():
    data = json.dumps(ENTRIES, ensure_ascii=False).encode()
    for end in range(0, len(data), 13):
        with pytest.raises(SauvegardeError, match="not a whole fixture"):
            list(fixture_stream.objects(io.BytesIO(data[:end]), "json"))


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '["a"]', "[,]", "[] x", '[{"model": "a", "fields": {}},]', '[{"model": "a"}]', '{"model": 1'],
)
def test_what_is_no_fixture_is_refused(text):
    with pytest.raises(SauvegardeError):
        list(fixture_stream.objects(io.BytesIO(text.encode()), "json"))


def test_names_tell_the_format():
    assert fixture_stream.kind_of("/x/places.json") == ("json", None)
    assert fixture_stream.kind_of("places.jsonl.zst") == ("jsonl", "zst")
    assert fixture_stream.kind_of("places.yml") == ("yaml", None)
    for name in ("places", "json", "places.csv", "places.gz"):
        with pytest.raises(SauvegardeError, match="not named like a fixture"):
            fixture_stream.kind_of(name)


def _fingerprint(*entries, many=None):
    result = fixture_fingerprint.Fingerprint(many or {})
    for entry in entries:
        result.add(entry)
    return result.result()


def entry(**fields):
    return {"model": "a.b", "pk": 1, "fields": fields}


def test_the_proof_sees_content_not_order_or_looks():
    one, two = dict(entry(x="1"), pk=1), dict(entry(x="2"), pk=2)
    assert _fingerprint(one, two) == _fingerprint(two, one)
    assert _fingerprint(entry(a=1, b={"x": 1, "y": 2})) == _fingerprint(entry(b={"y": 2, "x": 1}, a=1))
    assert _fingerprint(entry(m=[2, 1]), many={"a.b": ["m"]}) == _fingerprint(entry(m=[1, 2]), many={"a.b": ["m"]})
    # How a geometry's text ends its numbers depends on the version of GEOS.
    geometry = "SRID=4326;POINT ({} 44.5)"
    assert _fingerprint(entry(p=geometry.format("2.0078125000000000"))) == _fingerprint(
        entry(p=geometry.format("2.0078125"))
    )
    # Microseconds below a millisecond are cut, and what is loaded then has none at all.
    for cut, again in (("2026-11-25T10:07:37.000Z", "2026-11-25T10:07:37Z"), ("10:07:37.000", "10:07:37")):
        assert _fingerprint(entry(t=cut)) == _fingerprint(entry(t=again))


@pytest.mark.parametrize(
    "left, right",
    [
        (entry(x="1"), entry(x=1)),
        (entry(x="1"), entry(y="1")),
        (entry(x=None), entry(x="")),
        (entry(m=[1, 2]), entry(m=[2, 1])),
        (entry(a="1\nb:1:2"), entry(a="1", b="2")),
        (entry(t="10:07:37.001"), entry(t="10:07:37")),
        (entry(x="version 1.000"), entry(x="version 1")),
        (entry(p="SRID=4326;POINT (2.5 44.5)"), entry(p="SRID=4326;POINT (2.6 44.5)")),
    ],
)
def test_the_proof_sees_every_difference(left, right):
    assert fixture_fingerprint.compare(_fingerprint(left), _fingerprint(right))[0]["sentence"].startswith(
        "a.b: 1 rows, but not"
    )


def test_missing_rows_and_models_are_reported():
    assert [each["sentence"] for each in fixture_fingerprint.compare(_fingerprint(entry(x=1)), _fingerprint())] == [
        "a.b: 1 rows expected, 0 found."
    ]


def test_sets_have_one_object_a_line_sorted_the_same_everywhere():
    entries = [{"model": "a.b", "pk": key, "fields": {}} for key in (10, 9, 1)]
    text = fixture_sets.render(sorted(entries, key=fixture_sets.place), "json")
    assert [json.loads(line.rstrip(","))["pk"] for line in text.splitlines()[1:-1]] == [1, 9, 10]
    assert json.loads(text) == sorted(entries, key=fixture_sets.place)
    assert fixture_sets.render([], "json") == "[]\n"


@pytest.mark.parametrize(
    "wrong",
    [
        [{"name": "x"}],
        [{"models": ["a"]}],
        [{"name": "x", "models": ["a"], "colour": 1}],
        [{"name": "x", "models": ["a"]}, {"name": "y", "models": ["b"], "file": "x.json"}],
        [{"name": "x", "models": ["a"], "file": "../x.json"}],
        [{"name": "x", "models": ["a"], "file": "x.csv"}],
    ],
)
def test_sets_that_are_wrong_are_refused(wrong):
    with pytest.raises(SauvegardeError):
        fixture_sets.checked(wrong)


def test_the_default_sets_are_seven():
    assert len(fixture_sets.checked(fixture_sets.SETS)) == 7
