"""The filter that leaves out settings whose value is the same in another spelling."""

import runpy

import pytest

from sauvegarde_cli.system import ROOT


@pytest.fixture(scope="module")
def overridden():
    return runpy.run_path(str(ROOT / "plugins/filter/sauvegarde_overridden.py"))["overridden"]


def line(ours, theirs, vartype, unit):
    return {"name": "x", "ours": ours, "theirs": theirs, "vartype": vartype, "unit": unit, "file": "f", "line": 1}


@pytest.mark.parametrize(
    ("ours", "theirs", "vartype", "unit"),
    [
        ("64MB", "65536kB", "integer", "kB"),
        ("65536", "64MB", "integer", "kB"),
        ("128MB", "16384", "integer", "8kB"),
        ("1GB", "1024 MB", "integer", "8kB"),
        ("1.5GB", "1536MB", "integer", "MB"),
        ("1h", "3600000", "integer", "ms"),
        ("5min", "300", "integer", "s"),
        ("2ms", "2", "real", "ms"),
        ("0.50", "0.5", "real", None),
        ("on", "true", "bool", None),
        ("off", "0", "bool", None),
        ("Yes", "t", "bool", None),
        ("on", "true", "enum", None),
        ("replica", "REPLICA", "enum", None),
    ],
)
def test_equal_values_in_another_spelling_are_no_override(overridden, ours, theirs, vartype, unit):
    assert overridden([line(ours, theirs, vartype, unit), line(theirs, ours, vartype, unit)]) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "vartype", "unit"),
    [
        ("64MB", "64kB", "integer", "kB"),
        ("64MB", "64", "integer", "kB"),
        ("128MB", "128", "integer", "8kB"),
        ("1min", "1", "integer", "ms"),
        ("on", "off", "bool", None),
        ("on", "o", "bool", None),
        ("on", "local", "enum", None),
        ("1", "on", "string", None),
        ("64MB", "65536kB", "string", None),
        ("a", "b", None, None),
        ("10", "010", "integer", None),
        ("10", "1O", "integer", None),
    ],
)
def test_other_values_are_one(overridden, ours, theirs, vartype, unit):
    assert overridden([line(ours, theirs, vartype, unit)]) == [line(ours, theirs, vartype, unit)]
