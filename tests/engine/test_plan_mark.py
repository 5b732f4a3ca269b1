"""A restore carries out the plan that was confirmed, or stops."""

import contextlib

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import postgres_server
from sauvegarde.restore import restore_state
from sauvegarde.restore.plan_mark import PlanMark
from sauvegarde.targets import side_database

pytestmark = pytest.mark.one_host("a mark is computed from the text of a plan")

LIVE = "marked"


@pytest.fixture()
def site(cluster):
    cluster.execute(f"CREATE DATABASE {LIVE} TEMPLATE template0")
    cluster.execute("CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 3)", LIVE)
    yield cluster
    with contextlib.closing(cluster.connect()) as connection:
        names = postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^marked'")
        for (name,) in names:
            side_database.drop(connection, name)


@pytest.fixture(params=["archive", "custom"])
def spec(request, site, repository, tmp_path):
    if request.param == "archive":
        job = {"name": "demo", "kind": "pg_dump", "connection": site.values, "database": LIVE}
        path = repository / "demo" / kinds.back_up(job, repository)["id"]
    else:
        path = tmp_path / "dump"
        site.run("pg_dump", "-Fc", "-f", path, database=LIVE)
    return {
        "connection": site.values,
        "path": str(path),
        "database": LIVE,
        "directory": str(tmp_path / "restores"),
        "jobs": 1,
    }


def marked(spec):
    plan = restores.plan(spec)
    assert plan["obstacles"] == []
    return dict(spec, plan_mark=plan["mark"])


def count(site):
    return site.execute("SELECT count(*) FROM t", LIVE)[0][0]


def replaced(site):
    """Another database of the same name."""
    site.execute(f"DROP DATABASE {LIVE}")
    site.execute(f"CREATE DATABASE {LIVE} TEMPLATE template0")
    site.execute("CREATE TABLE t (i int); INSERT INTO t VALUES (9)", LIVE)


def test_a_site_that_writes_does_not_change_the_plan(site, spec):
    confirmed = marked(spec)
    with contextlib.closing(site.connect(LIVE)) as session:
        postgres_server.execute(session, "INSERT INTO t SELECT generate_series(1, 10000)")
        assert restores.plan(confirmed)["mark"] == confirmed["plan_mark"]
        done = restores.fill(confirmed)
    assert done["plan_mark"] == confirmed["plan_mark"]
    restores.swap_in(spec, done["id"], confirmed=PlanMark.from_text(confirmed["plan_mark"]))
    assert count(site) == 3


def set_for_live(site, spec):
    site.execute(f"ALTER DATABASE {LIVE} SET work_mem TO '5MB'")
    return spec


def replace_live(site, spec):
    replaced(site)
    return spec


def other_option(site, spec):
    return dict(spec, missing_roles="create")


def other_target(site, spec):
    return dict(spec, database="marked_too")


@pytest.mark.parametrize(
    "change, words",
    [
        (set_for_live, "the live database"),
        (replace_live, "the live database"),
        (other_option, "an option"),
        (other_target, "the target"),
    ],
)
def test_what_changed_since_stops_it_and_is_named(site, spec, change, words):
    confirmed = change(site, marked(spec))
    before = site.execute("SELECT oid, datname FROM pg_database ORDER BY 1")
    (blocker,) = restores.plan(confirmed)["obstacles"]
    assert words in blocker["what"] and blocker["fix"]
    with pytest.raises(SauvegardeError, match="not the plan that was confirmed") as caught:
        restores.fill(confirmed)
    assert words in caught.value.what
    assert site.execute("SELECT oid, datname FROM pg_database ORDER BY 1") == before
    # Without the mark it is carried out, as ever.
    done = restores.fill({key: value for key, value in confirmed.items() if key != "plan_mark"})
    assert done["status"] == restore_state.READY


def test_another_archive_stops_it(site, spec, repository, tmp_path):
    confirmed = marked(spec)
    site.execute("DELETE FROM t", LIVE)
    if spec["path"].startswith(str(repository)):
        job = {"name": "demo", "kind": "pg_dump", "connection": site.values, "database": LIVE}
        confirmed["path"] = str(repository / "demo" / kinds.back_up(job, repository)["id"])
    else:  # at the same path
        site.run("pg_dump", "-Fc", "-f", spec["path"], database=LIVE)
    with pytest.raises(SauvegardeError, match="changed since: the archive"):
        restores.fill(confirmed)


def test_a_blocker_that_came_since_stops_it(cluster, spec):
    """The mark of a plan names no blocker: one that came since stops the restore by itself."""
    confirmed = marked(spec)
    with pytest.raises(SauvegardeError, match="not started: The target lacks the locale"):
        restores.fill(dict(confirmed, locale="xx_XX.UTF-8"))


def test_a_live_database_replaced_before_the_swap_is_kept(site, spec):
    confirmed = marked(spec)
    done = restores.fill(confirmed)
    replaced(site)
    with pytest.raises(SauvegardeError, match="changed since: the live database"):
        restores.swap_in(spec, done["id"], confirmed=PlanMark.from_text(confirmed["plan_mark"]))
    assert count(site) == 1 and restores.waiting(spec).id == done["id"]
    # The plan is made, read and confirmed again; the proven side database is still good.
    again = PlanMark.from_text(restores.plan(spec)["mark"])
    assert restores.swap_in(spec, done["id"], confirmed=again)["kept"] and count(site) == 3


def test_a_mark_is_none_of_another_s_words(spec):
    with pytest.raises(SauvegardeError, match="is not the mark of a plan"):
        restores.request(dict(spec, plan_mark="yes"))
