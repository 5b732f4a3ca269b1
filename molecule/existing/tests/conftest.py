import pytest
from tests_support.hosts import ROOT, Server, lab_host

VERSIONS = {"legacy": "15", "standby": "17"}
# As a user whose sudo asks for a password; by a connection of its own, beside that of the lab's.
AS_OPS = {
    "ansible_user": "ops",
    "ansible_become_password": "canary-Zephyr-sudo",
    "ansible_ssh_common_args": f"-F {ROOT}/.lab/existing/ssh_config -o ControlPath=~/.ansible/cp/existing-ops-%h",
}


@pytest.fixture(scope="session")
def servers():
    """{host: Server}."""
    return {name: Server(lab_host(name), version) for name, version in VERSIONS.items()}
