from pathlib import Path

import pytest
import yaml
from tests_support.hosts import Server, lab_host

VERSIONS = {"bullseye": "13", "bookworm": "15", "trixie": "17"}


@pytest.fixture(scope="session")
def described():
    """The variables that the hosts were converged with."""
    return yaml.safe_load((Path(__file__).parents[1] / "group_vars/postgresql.yml").read_text())


@pytest.fixture(scope="session")
def servers():
    """{host: Server} of all three."""
    return {name: Server(lab_host(name), version) for name, version in VERSIONS.items()}


@pytest.fixture
def server(host, servers):
    """The server on the host that the test is run for."""
    return servers[host.backend.get_hostname()]
