"""A site's start-up and its settings: no task reaches another database than the one that it was told."""

import pytest
from little_site import Folder, fill, migrate, rows
from sample_site import ENVIRONMENTS

KINDS = ("sqlite", "pg")
# What InvenTree and others do: settings are kept in the database, asked for and completed when the site starts.
ASKS = """
from django.db import DatabaseError
from a.models import Note, Setting
try:
    values = dict(Setting.objects.values_list("key", "value"))
    Setting.objects.get_or_create(key="made by the start", defaults={"value": "x"})
except DatabaseError:
    values = {}
"""


@pytest.fixture(scope="module")
def asking(cluster, tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("asking"), cluster, ENVIRONMENTS[0], ASKS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_asks_the_database_asks_the_named_one(cluster, asking, tmp_path, kind):
    one, two = asking.new(kind), asking.new(kind)
    fill(cluster, one, "source")
    fill(cluster, two, "live")
    done = migrate(one, two, tmp_path)
    assert ("site", "live") in rows(cluster, two) and ("", "live") in rows(cluster, two)
    assert not [row for row in rows(cluster, two) if "source" in row]
    assert rows(cluster, two, done["side"]) == rows(cluster, one)
    assert done["proof"]["rows"] == 3
