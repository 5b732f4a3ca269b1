"""The filters that say what of a cluster that others set up changes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "filter"))

from sauvegarde_ended_rules import ended_rules
from sauvegarde_takeover import takeover

ALL = {"type": "host", "database": "all", "user": "all"}
LOCAL = {"type": "local", "database": "all", "user": "all", "method": "peer"}


@pytest.mark.parametrize(
    ("line", "entries", "sentence"),
    [
        ("local all postgres peer", [], None),
        ("host all all 10.0.0.0/8 md5", [], "would end: host all all 10.0.0.0/8 md5"),
        ("# host all all 10.0.0.0/8 md5", [], None),
        ("host shop,blog app 10.0.0.0/8 md5", [{**ALL, "user": "app", "address": "10.0.0.0/8"}], None),
        ("hostssl all all 10.1.2.3/32 md5", [{**ALL, "address": "0.0.0.0/0"}], None),
        ("host all all ::1/128 md5", [{**ALL, "address": "::/0"}], None),
        (
            "host replication all 10.0.0.0/8 md5",
            [{**ALL, "address": "all"}],
            "would end: host replication all 10.0.0.0/8 md5",
        ),
        ("local all all trust", [LOCAL], "would be asked for peer: local all all trust"),
        ("local all all peer map=site", [LOCAL], "would lose map=site: local all all peer map=site"),
        ("local all all peer map=site", [{**LOCAL, "options": 'map="site"'}], None),
        ('local "all" all peer # comment', [LOCAL], None),
    ],
)  # fmt: skip
def test_what_becomes_of_a_rule(line, entries, sentence):
    assert ended_rules([line], entries, "md5") == ([sentence] if sentence else [])


def test_attributes_that_a_description_does_not_list():
    attributes = {"lea": ["SUPERUSER", "CREATEDB"], "postgres": ["SUPERUSER"]}
    state = {"role_attributes": attributes, "altered": {"work_mem": 3}}
    common = {"host": "db", "hba": "/hba", "hba_copy": "/copy", "foreign": False, "ended": [], "takes_md5": False}
    common.update(md5_roles=[], locked_out=[], port="5432", new_port="5432", settings={"Work_Mem": "1MB"})
    roles = [{"name": "lea", "attributes": ["createdb"]}, {"name": "postgres"}]
    altered, taken = takeover(state, roles=roles, **common)
    assert altered.startswith("Work_Mem: ALTER SYSTEM sets it too (postgresql.auto.conf, line 3)")
    assert taken == "role lea has SUPERUSER, which postgresql_roles does not list: taken from it."
    (_, kept) = takeover(state, roles=[{"name": "lea"}], **common)
    assert kept.startswith("role lea has CREATEDB, SUPERUSER, which postgresql_roles does not list: kept.")
