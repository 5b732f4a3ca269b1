"""The database and its extensions, through SQL in it."""

testinfra_hosts = ["ansible://postgresql"]


def test_it_has_its_owner_and_limit(server):
    assert server.sql("SELECT datdba::regrole, datconnlimit FROM pg_database WHERE datname = 'elpaso'") == "geotribu|50"


def test_its_settings_reach_a_session(server):
    login = server.login(
        "geotribu", "canary-Zephyr-41", "elpaso", "SELECT current_setting('timezone'), current_setting('search_path')"
    )
    assert login.stdout.strip() == "Europe/Paris|public, topology", login.stderr


def test_it_has_no_other_settings(server):
    rows = server.sql(
        "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = 'elpaso' AND s.setrole = 0 ORDER BY 1"
    )
    assert rows.splitlines() == ["TimeZone=Europe/Paris", "search_path=public, topology"]


def test_its_grants_are_those_described(server):
    # As the list says them: CONNECT alone would be everybody's anyway.
    rows = server.sql(
        "SELECT grantee::regrole, privilege_type FROM pg_database, aclexplode(datacl)"
        " WHERE datname = 'elpaso' AND grantee <> 0 AND grantee <> datdba ORDER BY 1, 2"
    )
    assert rows == "lecture|CONNECT"


def test_extensions_are_in_their_schemas(server):
    rows = server.sql(
        "SELECT extname, extnamespace::regnamespace FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1", "elpaso"
    )
    assert rows.splitlines() == [
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


def test_extensions_answer(server):
    answers = {
        "SELECT ST_AsText(ST_Envelope('LINESTRING(2 48, 4 46)'::geometry))": "POLYGON((2 46,2 48,4 48,4 46,2 46))",
        # Paris to Lyon is 392 km as the crow flies.
        "SELECT round(ST_Distance('POINT(2.352 48.857)'::geography, 'POINT(4.836 45.764)'::geography) / 1000)": "392",
        # Through PROJ and its data: the origin of Lambert 93.
        "SELECT ST_AsText(ST_Transform('SRID=4326;POINT(3 46.5)'::geometry, 2154), 0)": "POINT(700000 6600000)",
        "SELECT hstore('a', 'b') -> 'a'": "b",
        "SELECT (ST_SummaryStats(ST_AddBand(ST_MakeEmptyRaster(3, 2, 0, 0, 1), '8BUI'::text, 7, 0))).sum": "42",
        "SELECT abbrev FROM tiger.state_lookup WHERE name = 'Maine'": "ME",
    }
    assert server.sql("; ".join(answers), "elpaso").splitlines() == list(answers.values())


def test_a_topology_can_be_made(server):
    result = server.sql(
        "BEGIN; SELECT topology.CreateTopology('essai', 2154) > 0;"
        " SELECT topology.AddNode('essai', 'SRID=2154;POINT(1 2)'::geometry); ROLLBACK",
        "elpaso",
    )
    assert result.splitlines() == ["t", "1"]


def test_the_owner_asks_postgis_over_tcp(server):
    login = server.login("geotribu", "canary-Zephyr-41", "elpaso", "SELECT ST_AsText(ST_Point(2, 48))")
    assert login.stdout.strip() == "POINT(2 48)", login.stderr
