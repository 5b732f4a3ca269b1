"""An archive is compared with the live database that its job dumps: which tables differ, in rows and content."""

import json

import pytest
from sauvegarde import catalog
from sauvegarde.backup import kinds
from sauvegarde.restore import live_comparison

pytestmark = pytest.mark.one_host("reads the fingerprint, which other tests compare between versions")


def test_the_tables_that_differ_from_the_live_database(cluster, database, repository, tmp_path):
    cluster.execute(
        "CREATE TABLE offers AS SELECT i, md5(i::text) AS t FROM generate_series(1, 500) i;"
        "CREATE TABLE same (i int); CREATE TABLE changed AS SELECT 1 AS i; CREATE TABLE gone AS SELECT 2 AS i",
        database,
    )
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    identifier = kinds.back_up(job, repository)["id"]
    values = {**job, "user": "root", "host": "here", "root": str(repository), "state": str(tmp_path)}
    (tmp_path / "etc/jobs").mkdir(parents=True)
    (tmp_path / "etc/jobs/demo.json").write_text(json.dumps(values))

    def shown():
        entries = catalog.local(repository, "here")
        return live_comparison.show(
            entries, identifier, with_live=True, here="here", configuration=str(tmp_path / "etc")
        )

    (before,) = shown()
    assert before["live"]["differing"] == [] and before["live"]["equal"] == 4, before["live_problem"]
    assert before["manifest"]["fingerprint"]["tables"]['"public"."offers"']["rows"] == 500
    cluster.execute("DELETE FROM offers WHERE i > 88; UPDATE changed SET i = 2; DROP TABLE gone", database)
    (after,) = shown()
    assert [each["sentence"] for each in after["live"]["differing"]] == [
        "public.offers: 500 rows in the archive, 88 in the live database",
        "public.gone: 1 rows in the archive, no such table in the live database",
        "public.changed: 1 rows in both, with other content or other columns",
    ]
    assert after["live"]["equal"] == 1 and json.dumps(after)


def test_an_archive_is_shown_where_the_live_database_does_not_answer(cluster, database, repository, tmp_path):
    cluster.execute("CREATE TABLE t (i int)", database)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    identifier = kinds.back_up(job, repository)["id"]
    shown = live_comparison.show(
        catalog.local(repository, "here"), identifier, with_live=True, here="here", configuration=str(tmp_path)
    )
    assert shown[0]["manifest"]["id"] == identifier and shown[0]["live"] is None
    assert "There is no job named demo" in shown[0]["live_problem"]
