"""Databases at random, restored by the engine and by stock tools, must be equal."""

import os
from pathlib import Path
from xml.etree import ElementTree

from tests_support.hosts import play


def test_generated_databases_restore_as_with_stock_tools(tmp_path):
    folder = Path(os.environ.get("SAUVEGARDE_REPORTS") or tmp_path)
    scenario = Path(__file__).parents[1].name
    run = play(playbook=f"molecule/{scenario}/sink.yml", variables={"sink_reports": str(folder)})
    print(run.output)
    assert run.code == 0, run.output
    (suite,) = ElementTree.parse(folder / "sink-trixie.xml").iter("testsuite")
    count = {key: int(suite.get(key)) for key in ("tests", "skipped", "failures", "errors")}
    assert count == {"tests": 10, "skipped": 0, "failures": 0, "errors": 0}
