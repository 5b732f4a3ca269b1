"""Check mode on a host that has nothing yet."""

from tests_support.hosts import host_state, lab_host, play


def test_a_check_says_what_would_come_and_leaves_the_host_bare(described):
    bare = lab_host("bare")
    before = host_state(bare)
    run = play("--check", "--diff", "--limit=bare", groups={"postgresql": ["bare"]})
    assert run.code == 0, run.output
    assert run.changed()["bare"] > 0
    missing = [
        words
        for words in (
            "postgresql-15, python3-psycopg2, acl, postgresql-15-postgis-3, postgresql-15-postgis-3-scripts, locales",
            "15/main on port 5432 in /var/lib/postgresql/15/main, UTF8, fr_FR.UTF-8, with checksums",
            "work_mem",
            "roles: lecture, geotribu",
            "databases: elpaso",
            "postgis, postgis_raster, postgis_topology, postgis_tiger_geocoder, hstore",
        )
        if words not in run.text
    ]
    assert not missing, run.output
    assert "canary-" not in run.output
    assert sorted(set(before) ^ set(host_state(bare))) == []


def test_bad_input_is_refused_there_too():
    run = play("--limit=bare", variables={"postgresql_version": "9.6"}, groups={"postgresql": ["bare"]})
    assert run.code == 2, run.output
    assert '"9.6" was never built for bare\'s release, bookworm' in run.text
    assert run.changed() == {"bare": 0}
