"""The database and its extensions, through SQL in it."""

import pytest

testinfra_hosts = ["ansible://postgresql"]


def test_it_has_its_owner_and_limit(server):
    assert (
        server.sql("SELECT datdba::regrole, datconnlimit FROM pg_database WHERE datname = 'elpaso'") == "geotribu|50"
    )


def test_its_settings_reach_a_session(server):
    login = server.login("geotribu", "canary-Zephyr-41", "elpaso", "SHOW timezone; SHOW search_path")
    assert login.stdout.splitlines() == ["Europe/Paris", "public, topology"], login.stderr


def test_it_has_no_other_settings(server):
    found = server.sql(
        "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = 'elpaso' AND s.setrole = 0 ORDER BY 1"
    )
    assert found.splitlines() == ["TimeZone=Europe/Paris", "search_path=public, topology"]


def test_its_grants_are_those_described(server):
    # As the list says them: CONNECT alone would be everybody's anyway.
    found = server.sql(
        "SELECT grantee::regrole, privilege_type FROM pg_database, aclexplode(datacl)"
        " WHERE datname = 'elpaso' AND grantee <> 0 AND grantee <> datdba ORDER BY 1, 2"
    )
    assert found == "lecture|CONNECT"


def test_extensions_are_in_their_schemas(server):
    found = server.sql(
        "SELECT extname, extnamespace::regnamespace FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1", "elpaso"
    )
    assert found.splitlines() == [
        "fuzzystrmatch|public",
        "hstore|public",
        "postgis|public",
        "postgis_raster|public",
        "postgis_tiger_geocoder|tiger",
        "postgis_topology|topology",
    ]


def test_postgis_is_whole(server):
    version = server.sql("SELECT postgis_full_version()", "elpaso")
    assert "POSTGIS=" in version
    assert "RASTER" in version
    assert "TOPOLOGY" in version
    assert "need upgrade" not in version


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("SELECT ST_AsText(ST_Centroid('LINESTRING(2 48, 4 46)'))", "POINT(3 47)"),
        # Paris to Lyon is 392 km as the crow flies.
        (
            "SELECT ST_Distance('POINT(2.3522 48.8566)'::geography, 'POINT(4.8357 45.7640)'::geography)"
            " BETWEEN 391000 AND 393000",
            "t",
        ),
        # Through PROJ and its data: Paris in Lambert 93.
        (
            "SELECT ST_AsText(ST_Transform('SRID=4326;POINT(3 46.5)'::geometry, 2154), 0)",
            "POINT(700000 6600000)",
        ),
        ("SELECT hstore('a', 'b') -> 'a'", "b"),
        ("SELECT ST_Width(ST_MakeEmptyRaster(30, 20, 0, 0, 1))", "30"),
        ("SELECT ST_GeometryType(ST_Polygon(ST_AddBand(ST_MakeEmptyRaster(2, 2, 0, 0, 1), '8BUI', 1)))", "ST_MultiPolygon"),
        ("SELECT abbrev FROM tiger.state_lookup WHERE name = 'Maine'", "ME"),
    ],
)
def test_extensions_answer(server, query, answer):
    assert server.sql(query, "elpaso") == answer


def test_a_topology_can_be_made(server):
    made = server.sql(
        "BEGIN; SELECT topology.CreateTopology('essai', 2154) > 0;"
        " SELECT topology.AddNode('essai', 'SRID=2154;POINT(1 2)'::geometry); ROLLBACK",
        "elpaso",
    )
    assert made.splitlines() == ["t", "1"]


def test_the_owner_asks_postgis_over_tcp(server):
    login = server.login("geotribu", "canary-Zephyr-41", "elpaso", "SELECT ST_AsText(ST_Point(2, 48))")
    assert login.stdout.strip() == "POINT(2 48)", login.stderr
