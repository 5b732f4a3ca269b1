"""What the role postgresql makes of a server that others set up: its variables and tasks, without a server."""

import json
import sys

import pytest
import yaml

from sauvegarde_cli.playbooks import play
from sauvegarde_cli.system import ROOT

ROLE = ROOT / "roles/postgresql"
CONFIG = "/etc/postgresql/15/main"
FOREIGN = r"""
# Kept by hand.
local   all       postgres                       peer
local   all       all                            peer map=people
host    all       all        127.0.0.1/32        md5   # as ever
host    all       all        10.0.0.0 255.0.0.0  scram-sha-256
host    all       all        ::1/128             md5
hostssl all       all        192.0.2.0/24        md5 clientcert=verify-ca
host    all       all        samenet             md5
"""
ENTRIES = [
    {"type": "local", "database": "all", "user": "all", "method": "peer"},
    {"type": "host", "database": "all", "user": "all", "address": "0.0.0.0/0"},
]
COPY = f"{CONFIG}/pg_hba.conf.before-sauvegarde"


OURS = "# The way in that the cluster's keeper needs.\nlocal all postgres peer\n"
ALL = [
    {**ENTRIES[0], "options": "map=people"},
    {"type": "host", "database": "all", "user": "all", "address": "all", "options": "clientcert=verify-ca"},
]
SAYS = "Takeover | Show what changes on a cluster that the role did not create"
SHOWN = ("__postgresql_hba_copy", "__postgresql_password_method", "__postgresql_overridden_message")
SETTING = {"name": "work_mem", "ours": "64MB", "file": "/x/postgresql.auto.conf", "line": 3, "vartype": "integer"}
SAME, OTHER = {**SETTING, "theirs": "65536kB", "unit": "kB"}, {**SETTING, "theirs": "1MB", "unit": "kB"}


def case(result=FOREIGN, state=None, copy=None, overrides=(), **described):
    """A host's variables; `state` is its server's answer (None: it is down), `copy` the checksum of a copy."""
    if state is not None:
        files = {"config_file": f"{CONFIG}/postgresql.conf", "hba_file": f"{CONFIG}/pg_hba.conf"}
        state = {"files": files, "altered": {}, "role_attributes": {}, "md5_roles": [], **state}
    copied = {"exists": True, "checksum": copy} if copy else {"exists": False}
    return {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
        "postgresql_version": "15",
        "postgresql_hba_entries": ENTRIES,
        "__postgresql_hba_found": {"stdout": result, "stdout_lines": result.splitlines()},
        "__postgresql_hba_files": {"results": [{"stat": {"exists": True, "checksum": "1" * 40}}, {"stat": copied}]},
        "__postgresql_lsclusters": {"stdout_lines": ["15 main 5432 down postgres /data /log"]},
        "__postgresql_state_result": {"skipped": True} if state is None else {"stdout": json.dumps(state)},
        "__postgresql_overrides_result": {"stdout": json.dumps({"overrides": list(overrides)})},
        **described,
    }


MD5 = {"md5_roles": ["old"]}
CASES = {
    "down": case(),
    "covered": case(postgresql_hba_entries=ALL),
    "copied": case(copy="1" * 40),
    "copied_another": case(copy="2" * 40),
    "kept_auto": case(OURS, MD5),
    "kept_scram": case(OURS, MD5, postgresql_password_encryption="scram-sha-256"),
    "kept_md5": case(OURS, MD5, postgresql_password_encryption="md5"),
    "first_auto": case(FOREIGN, MD5),
    "first_scram": case(FOREIGN, MD5, postgresql_password_encryption="scram-sha-256"),
    "first_scram_without": case(FOREIGN, {}, postgresql_password_encryption="scram-sha-256"),
    "altered": case(
        OURS,
        {"altered": {"work_mem": 3}, "role_attributes": {"odile": ["CREATEDB"]}},
        postgresql_settings={"work_mem": "1MB"},
        postgresql_roles=[{"name": "odile"}],
    ),
    "taken_out": case(
        OURS,
        {
            "memberships": [["odile", "lecture"], ["odile", "staff"], ["odile", "staff"], ["other", "staff"]],
            "databases": {
                "shop": {
                    "owner": "shop",
                    "grants": [
                        ["PUBLIC", "CONNECT"],
                        ["shop", "CREATE"],
                        ["odile", "TEMPORARY"],
                        ["odile", "CREATE"],
                        ["old", "CONNECT"],
                        ["old", "CREATE"],
                        ["PUBLIC", "CREATE"],
                    ],
                },
                "of_others": {"owner": "postgres", "grants": [["old", "CONNECT"]]},
            },
        },
        postgresql_roles=[{"name": "odile", "member_of": ["lecture"]}],
        postgresql_databases=[
            {"name": "shop", "owner": "shop", "grants": [{"role": "odile", "privileges": ["temp", "CREATE"]}]},
            {"name": "new"},
        ],
    ),
    "same_value": case(OURS, {}, overrides=[SAME]),
    "other_value": case(OURS, {}, overrides=[SAME, OTHER]),
}


@pytest.fixture(scope="module")
def takeover(tmp_path_factory):
    """{case: (its variables, what is said, what is refused)} of one play, a host for each case."""
    folder = tmp_path_factory.mktemp("takeover")
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {name: {**local, **variables} for name, variables in CASES.items()}
    tasks = [
        {
            "name": "Take over",
            "block": [{"include_tasks": str(ROLE / "tasks/takeover.yml")}],
            "rescue": [{"name": "Refused", "debug": {"msg": "{{ ansible_failed_result.msg }}"}}],
            "vars": {"__postgresql_ask": ["sh", "-c", "echo '{}'"]},
        },
        {"name": "Show", "debug": {"msg": {name: f"{{{{ {name} }}}}" for name in SHOWN}}},
    ]
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "all",
                    "gather_facts": False,
                    "vars_files": [str(path) for path in sorted((ROLE / "vars/main").glob("*.yml"))],
                    "tasks": tasks,
                }
            ]
        )
    )
    facts = {"ansible_facts": {"distribution_release": "bookworm"}}
    done = play(folder / "play.yml", folder / "hosts.yml", lambda *_: None, variables=facts)

    def of(task, name):
        return done.results.get(task, {}).get(name, {}).get("msg", [])

    return {name: (of("Show", name), of(SAYS, name), of("Refused", name)) for name in CASES}


def test_the_rules_of_a_cluster_that_is_down_are_kept_and_compared(takeover):
    shown, options, _ = takeover["down"]
    assert shown["__postgresql_hba_copy"] == COPY
    assert options == [
        f"down: {CONFIG}/pg_hba.conf is replaced by postgresql_hba_entries; {COPY} keeps it as it is now.",
        "would lose map=people: local all all peer map=people",
        "would end: host all all ::1/128 md5",
        "would lose clientcert=verify-ca: hostssl all all 192.0.2.0/24 md5 clientcert=verify-ca",
        "would end: host all all samenet md5",
    ]


def test_rules_for_every_address_and_with_options_cover(takeover):
    assert len(takeover["covered"][1]) == 1


def test_another_file_of_others_does_not_replace_the_first_copy(takeover):
    assert takeover["copied"][0]["__postgresql_hba_copy"] == COPY
    assert takeover["copied_another"][0]["__postgresql_hba_copy"] == f"{COPY}.11111111"


@pytest.mark.parametrize(
    ("name", "method", "says"),
    [
        ("kept_auto", "md5", "since some are stored as md5: old"),
        ("kept_scram", "scram-sha-256", "refuse roles whose passwords are stored as md5: old"),
        ("kept_md5", "md5", ""),
        ("first_auto", "md5", "since some are stored as md5: old"),
        ("first_scram_without", "scram-sha-256", ""),
    ],
)
def test_roles_with_passwords_stored_as_md5_are_always_reported(takeover, name, method, says):
    shown, options, refused = takeover[name]
    assert shown["__postgresql_password_method"] == method and not refused
    assert [line for line in options if "stored as md5" in line] == [line for line in options if says and says in line]
    assert not says or says in options[-1]


def test_roles_with_passwords_stored_as_md5_are_locked_out_by_nothing_at_first(takeover):
    assert "old could not log in any more" in takeover["first_scram"][2].replace("\n", " ")
    assert not takeover["first_scram"][1]


def test_what_takes_precedence_over_the_description_is_reported(takeover):
    setting, role = takeover["altered"][1]
    assert setting.startswith("work_mem: ALTER SYSTEM sets it too (postgresql.auto.conf, line 3), and takes precedence")
    assert role.startswith("role odile has CREATEDB, which postgresql_roles does not list: kept.")


def test_settings_that_are_not_in_force_are_reported_with_their_lines(takeover):
    assert takeover["same_value"][0]["__postgresql_overridden_message"] == ""
    message = takeover["other_value"][0]["__postgresql_overridden_message"]
    assert (
        'after them: work_mem is "1MB" by /x/postgresql.auto.conf, line 3 (ALTER SYSTEM), not "64MB". Remove' in message
    )
    assert "65536kB" not in message


def test_memberships_and_privileges_that_are_described_no_more_are_reported(takeover):
    assert takeover["taken_out"][1] == [
        "role odile is a member of staff, which its member_of does not list: kept."
        ' To end it: REVOKE "staff" FROM "odile".',
        "role PUBLIC has CREATE on database shop, which its grants do not list: kept."
        ' To end it: REVOKE CREATE ON DATABASE "shop" FROM PUBLIC.',
        "role old has CONNECT, CREATE on database shop, which its grants do not list: kept."
        ' To end it: REVOKE CONNECT, CREATE ON DATABASE "shop" FROM "old".',
    ]
