"""A database that a restore put beside the live one is listed and removed by name; others never are."""

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.restore import previous_databases


def test_what_a_restore_put_beside_is_removed_by_name(cluster, database, repository, tmp_path):
    cluster.execute("CREATE TABLE t AS SELECT 1 AS a", database)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    path = repository / "demo" / kinds.back_up(job, repository)["id"]
    live = {"connection": cluster.values, "path": str(path), "database": database, "directory": str(tmp_path / "runs")}
    name = "beside_it"
    spec = {**live, "database": name, "mode": "beside"}
    try:
        restores.swap_in(spec, restores.fill(spec)["id"])
        (kept,) = previous_databases.kept(restores.target(live))
        assert (kept.name, kept.kind) == (name, "beside") and kept.bytes > 0

        session = cluster.connect(name)
        with pytest.raises(SauvegardeError) as refusal:
            restores.remove(live, name)
        assert "in use" in refusal.value.what and "postgres" in refusal.value.why
        session.close()
        with pytest.raises(SauvegardeError) as refusal:
            restores.remove(spec, name)
        assert "the live database" in refusal.value.why

        # A database of somebody's own that has taken the name is not one of ours.
        cluster.execute(f"ALTER DATABASE {name} RENAME TO {name}_ours")
        cluster.execute(f"CREATE DATABASE {name}")
        assert previous_databases.kept(restores.target(live)) == []
        with pytest.raises(SauvegardeError):
            restores.remove(live, name)
        cluster.execute(f"DROP DATABASE {name}")
        cluster.execute(f"ALTER DATABASE {name}_ours RENAME TO {name}")

        assert restores.remove(live, name)
        assert cluster.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == []
        assert previous_databases.kept(restores.target(live)) == []
    finally:
        for each in (name, name + "_ours"):
            cluster.execute(f"DROP DATABASE IF EXISTS {each}")
