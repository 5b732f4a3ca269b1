"""Bad input: each has its own error, and the host, its server and its configuration stay as they were."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from tests_support.hosts import play


class Case(NamedTuple):
    """A change to what is described, the host it is for, and what the error must say."""

    name: str
    host: str
    change: dict
    says: tuple


def database(described, **keys):
    """The described databases, with a changed one."""
    return [{**described["postgresql_databases"][0], **keys}]


def rule(**keys):
    """An access rule over TCP, in front of those described."""
    return {"type": "host", "database": "elpaso", "user": "geotribu", "address": "127.0.0.1/32", **keys}


CASES = [
    Case(
        "unknown version",
        "bullseye",
        {"postgresql_version": "9.7"},
        ('postgresql_version "9.7" on bullseye is not known', "9.6, 10, 11", "Set one of these"),
    ),
    Case(
        "version that the release never had",
        "bookworm",
        {"postgresql_version": "9.6"},
        ('"9.6" was never built for bookworm', "bullseye, buster", "postgresql_apt_uri"),
    ),
    Case(
        "locale of a database that does not exist",
        "trixie",
        {"postgresql_databases": lambda d: [*d["postgresql_databases"], {"name": "essai", "locale": "xx_XX.UTF-8"}]},
        ("xx_XX.UTF-8", "no locale that trixie can generate", "/usr/share/i18n/SUPPORTED"),
    ),
    Case(
        "locale of a new cluster that does not exist",
        "bullseye",
        {"postgresql_cluster_name": "essai", "postgresql_port": 5499, "postgresql_locale": "fr_XX.UTF-8"},
        ("fr_XX.UTF-8", "no locale that bullseye can generate"),
    ),
    Case(
        "port of another cluster",
        "bookworm",
        {"postgresql_cluster_name": "essai", "postgresql_port": 5432},
        ("postgresql_port 5432 on bookworm is taken by the cluster main", "Set another postgresql_port"),
    ),
    Case(
        "key that is not there",
        "trixie",
        {"postgresql_apt_uri": "http://archive.example.org", "postgresql_apt_key": "/nowhere/key.asc"},
        ('postgresql_apt_key "/nowhere/key.asc" for trixie is not a readable', "gpg --armor --export"),
    ),
    Case(
        "key that is none",
        "bullseye",
        {"postgresql_apt_uri": "http://archive.example.org", "postgresql_apt_key": __file__},
        ("for bullseye is not a readable ASCII-armoured public key",),
    ),
    Case(
        "setting that the server does not know",
        "bookworm",
        {"postgresql_settings": {"work_memory": "6MB"}},
        ("postgresql_settings has work_memory", "PostgreSQL 15 on bookworm does not know"),
    ),
    Case(
        "setting whose name is none",
        "trixie",
        {"postgresql_settings": {"work mem": "6MB"}},
        ("postgresql_settings", "work mem"),
    ),
    Case(
        "setting with a bad value",
        "bullseye",
        {"postgresql_settings": {"work_mem": "beaucoup"}},
        (
            "postgresql_settings or postgresql_hba_entries have what PostgreSQL 13 on bullseye refuses",
            "work_mem",
            "beaucoup",
            "what was there before is in place and in force",
        ),
    ),
    Case(
        "setting of a database with a bad value",
        "bookworm",
        {"postgresql_databases": lambda d: database(d, settings={"work_mem": "beaucoup"})},
        ("work_mem", "beaucoup"),
    ),
    Case(
        "owner that does not exist",
        "trixie",
        {"postgresql_databases": lambda d: database(d, owner="personne")},
        ("postgresql_databases on trixie names personne as owner", "Add it to postgresql_roles"),
    ),
    Case(
        "grant to a role that does not exist",
        "bullseye",
        {"postgresql_databases": lambda d: database(d, grants=[{"role": "personne", "privileges": ["CONNECT"]}])},
        ("names personne as owner or in a grant",),
    ),
    Case(
        "another major version over the cluster",
        "bookworm",
        {"postgresql_version": "16"},
        (
            'bookworm has a cluster "main" of PostgreSQL 15, and postgresql_version is "16"',
            "never put over another",
            "pg_upgradecluster",
        ),
    ),
    Case(
        "access rule with an unknown method",
        "trixie",
        {"postgresql_hba_entries": [rule(method="confiance")]},
        ("confiance", "scram-sha-256"),
    ),
    Case(
        "access rule that the server refuses",
        "bullseye",
        # It wants to know the LDAP server.
        {"postgresql_hba_entries": [rule(method="ldap")]},
        (
            "postgresql_settings or postgresql_hba_entries have what PostgreSQL 13 on bullseye refuses",
            "ldap",
            "Correct what it names",
        ),
    ),
    Case(
        "access rule with a bad address",
        "bookworm",
        {"postgresql_hba_entries": [rule(address="127.0.0.1/99")]},
        ("postgresql_settings or postgresql_hba_entries have what PostgreSQL 15 on bookworm refuses", "127.0.0.1/99"),
    ),
    Case(
        "access rule with a bad address beside a good setting",
        "trixie",
        {"postgresql_hba_entries": [rule(address="127.0.0.1/99")], "postgresql_settings": {"work_mem": "7MB"}},
        ("postgresql_settings or postgresql_hba_entries have what PostgreSQL 17 on trixie refuses", "127.0.0.1/99"),
    ),
    Case(
        "access rule without an address",
        "bullseye",
        {"postgresql_hba_entries": [{"type": "host", "database": "all", "user": "all"}]},
        ('rule of type "host" without an address', "192.0.2.0/24"),
    ),
    Case(
        "checksums of an existing cluster",
        "bookworm",
        {"postgresql_data_checksums": False},
        ('postgresql_data_checksums is "False"', 'was made with "True"', "bin/pg_checksums --disable -D /var/lib"),
    ),
    Case(
        "locale of an existing cluster",
        "trixie",
        {"postgresql_locale": "C.UTF-8", "postgresql_databases": []},
        ('postgresql_locale is "C.UTF-8"', 'the cluster main was made with "fr_FR.UTF-8"'),
    ),
    Case(
        "data directory of an existing cluster",
        "bullseye",
        {"postgresql_data_directory": "/srv/postgresql"},
        ('postgresql_data_directory is "/srv/postgresql"', 'was made with "/var/lib/postgresql/13/main"'),
    ),
    Case(
        "encoding of an existing database",
        "bookworm",
        {"postgresql_databases": lambda d: database(d, encoding="LATIN9")},
        ('encoding is "LATIN9"', 'the database elpaso was made with "UTF8"'),
    ),
    Case(
        "attribute that no role has",
        "trixie",
        {"postgresql_roles": lambda d: [*d["postgresql_roles"], {"name": "essai", "attributes": ["SUPERBE"]}]},
        ('role "essai"', "SUPERBE"),
    ),
]


@pytest.fixture(scope="session")
def outcomes(servers, described):
    """{case: what came of it}, a future each: {"run": Run, "before": state, "after": state}. Hosts run side by side."""
    locks = {host: threading.Lock() for host in servers}

    def refuse(case):
        variables = {
            name: value(copy.deepcopy(described)) if callable(value) else value for name, value in case.change.items()
        }
        server = servers[case.host]
        with locks[case.host]:
            before = server.state()
            run = play(f"--limit={case.host}", variables=variables)
            return {"run": run, "before": before, "after": server.state()}

    with ThreadPoolExecutor(len(servers)) as pool:
        yield {case.name: pool.submit(refuse, case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_input_is_refused_and_nothing_changes(outcomes, case):
    outcome = outcomes[case.name].result()
    run = outcome["run"]
    assert run.code == 2, run.output
    assert run.recap[case.host]["failed"] == 1, run.output
    missing = [words for words in case.says if words not in run.text]
    assert not missing, run.output
    assert "canary-" not in run.output
    assert sorted(set(outcome["before"]) ^ set(outcome["after"])) == []
