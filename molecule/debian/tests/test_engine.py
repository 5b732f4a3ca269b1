"""The engine's own tests, on the servers that it is for."""

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests_support.hosts import play


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The folder with a report of each host; where the caller names one, it counts their tests too."""
    folder = Path(os.environ.get("SAUVEGARDE_REPORTS") or tmp_path_factory.mktemp("reports"))
    run = play(playbook="molecule/debian/engine.yml", variables={"engine_reports": str(folder)})
    print(run.output)
    assert run.code == 0, run.output
    return folder


def test_the_engine_passes_its_tests_on_every_server(reports, servers):
    for name in servers:
        (suite,) = ElementTree.parse(reports / f"engine-{name}.xml").iter("testsuite")
        count = {key: int(suite.get(key)) for key in ("tests", "skipped", "failures", "errors")}
        assert count["failures"] == count["errors"] == 0, name
        assert count["tests"] - count["skipped"] > 100, f"{name}: {count}"
