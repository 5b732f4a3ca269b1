"""The engine's round trip between all major versions of PostgreSQL, on one host."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

from tests_support.hosts import play

MAJORS = ["9.6", *map(str, range(10, 20))]


def test_every_version_is_restored_on_itself_and_on_every_newer_one(tmp_path):
    folder = Path(os.environ.get("SAUVEGARDE_REPORTS") or tmp_path)
    run = play(playbook="molecule/majors/majors.yml", variables={"majors_reports": str(folder)})
    print(run.output)
    assert run.code == 0, run.output
    (suite,) = ElementTree.parse(folder / "majors.xml").iter("testsuite")
    assert (suite.get("skipped"), suite.get("failures"), suite.get("errors")) == ("0", "0", "0")
    results = json.loads((folder / "majors.json").read_text())
    outcomes = {(entry["source"], entry["target"]): entry["outcome"] for entry in results}
    assert outcomes == {
        (source, target): "proven" if MAJORS.index(source) <= MAJORS.index(target) else "refused"
        for source in MAJORS
        for target in MAJORS
    }
    assert len({entry["fingerprint"] for entry in results if entry["outcome"] == "proven"}) == 1
    assert {entry["client"].split("rc")[0].split(".")[0] for entry in results} == {"19"}
