import os
from pathlib import Path

import pytest
from tests_support.hosts import ROOT, Server, lab_host

VERSIONS = {"db13": "13", "db15": "15", "db17": "17"}


@pytest.fixture(scope="session")
def servers():
    """{host: Server} of all three."""
    return {name: Server(lab_host(name), version) for name, version in VERSIONS.items()}


@pytest.fixture(scope="session")
def legacy():
    """The folder of the shared legacy dump."""
    found = Path(os.environ.get("SAUVEGARDE_SHARED") or ROOT.parent / "shared") / "legacy"
    if not (found / "elpaso-9.6.dump").exists():
        pytest.skip("the shared legacy dump is not there (SAUVEGARDE_SHARED)")
    return found
