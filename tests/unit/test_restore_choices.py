"""Names, choices, confirmations and sentences of a restore. No server."""

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import database_names
from sauvegarde.report import render
from sauvegarde.restore import archive_choice, dump_roles, source_needs
from sauvegarde.restore.dump import dump_properties


def entry(identifier, **more):
    line = {"id": identifier, "kind": "pg_dump", "source": "elpaso (15.3)", "job": "j", "host": "a", "verified": True}
    return dict(line, problem="", **more) if "verified" not in more else {**line, "problem": "cut", **more}


ENTRIES = [
    entry("20261122T030000Z"),
    entry("20261123T030000Z"),
    entry("20261124T030000Z", verified=False),
    {**entry("20261125T030000Z"), "source": "elpaso (b) (15.3)"},
    {**entry("20261126T030000Z"), "kind": "globals", "source": "cluster (15.3)"},
    {**entry("20261121T030000Z"), "kind": "globals", "source": "cluster (15.3)"},
]


@pytest.mark.parametrize(
    "point, expected",
    [
        ("latest", "20261123T030000Z"),
        ("20261122T030000Z", "20261122T030000Z"),
        ("2026-11-23T02:59Z", "20261122T030000Z"),
        ("2026-11-23 03:00", "20261123T030000Z"),
        ("2026-11-22", "20261122T030000Z"),
        ("2027-01-01", "20261123T030000Z"),
    ],
)
def test_the_nearest_archive_at_or_before(point, expected):
    assert archive_choice.choose(ENTRIES, "elpaso", point)["id"] == expected


@pytest.mark.parametrize("point", ["2026-11-21", "20261124T030000Z", "yesterday", "20261122T030001Z"])
def test_no_archive_is_made_up(point):
    with pytest.raises(SauvegardeError) as error:
        archive_choice.choose(ENTRIES, "elpaso", point)
    assert error.value.fix


def test_a_name_is_not_cut_at_its_own_brackets():
    assert archive_choice.choose(ENTRIES, "elpaso (b)")["id"] == "20261125T030000Z"
    with pytest.raises(SauvegardeError):
        archive_choice.choose(ENTRIES, "elpas")


def test_other_kinds_only_where_they_are_asked_for():
    data = {**entry("20261127T030000Z"), "kind": "dumpdata", "source": "/srv/site", "job": "site"}
    file = {**entry("20261128T030000Z"), "kind": "sqlite", "source": "/srv/db.sqlite3", "job": "file"}
    both, kinds = [*ENTRIES, data, file], ("pg_dump", "sqlite", "dumpdata")
    for database, job, expected in (("/srv/site", "", data), ("", "site", data), ("/srv/db.sqlite3", "", file)):
        assert archive_choice.choose(both, database, job=job, kinds=kinds) == expected
        with pytest.raises(SauvegardeError, match=database or "the job site"):
            archive_choice.choose(both, database, job=job)
    assert archive_choice.choose(both, "elpaso", kinds=kinds)["id"] == "20261123T030000Z"
    # Of one file each archive is whole; of a site's data another job may hold another part.
    assert archive_choice.choose([*both, {**file, "job": "g"}], "/srv/db.sqlite3", kinds=kinds)["id"] == file["id"]
    with pytest.raises(SauvegardeError, match="part, site") as error:
        archive_choice.choose([*both, {**data, "job": "part"}], "/srv/site", kinds=kinds)
    assert "migrate_job" in error.value.fix


def test_two_hosts_are_not_guessed_between():
    both = [*ENTRIES, {**entry("20261123T040000Z"), "host": "b"}]
    with pytest.raises(SauvegardeError) as error:
        archive_choice.choose(both, "elpaso")
    assert "a, b" in error.value.what
    assert archive_choice.choose(both, "elpaso", host="b")["id"] == "20261123T040000Z"


def test_the_roles_that_go_with_an_archive():
    assert archive_choice.roles_for(ENTRIES, ENTRIES[1])["id"] == "20261121T030000Z"
    assert archive_choice.roles_for(ENTRIES[:5], ENTRIES[1])["id"] == "20261126T030000Z"
    assert archive_choice.roles_for(ENTRIES[:4], ENTRIES[1]) is None


LONG = "é" * 31
ID = "20261124T030000Z"


@pytest.mark.parametrize("name", ["elpaso", "-a 'b\" $(c)", LONG, LONG[:-1] + "e", "x__before_" + ID, "a\nb"])
def test_made_names_fit_and_lead_back(name):
    for make, kind in ((database_names.side_name, "restore"), (database_names.previous_name, "before")):
        result = make(name, ID)
        assert len(result.encode("utf-8")) <= database_names.LONGEST
        assert database_names.belongs(result, name, kind)
        assert not database_names.belongs(result, name + "x", kind)
        assert not database_names.belongs(name, name, kind)


def test_two_long_names_stay_two():
    assert database_names.previous_name(LONG, ID) != database_names.previous_name(LONG[:-1] + "è", ID)


@pytest.mark.parametrize(
    "text, number", [("9.6.10", 90610), ("15.18 (Debian 15.18-0+deb12u1)", 150018), ("17beta1", 170000), ("", 0)]
)
def test_version_numbers(text, number):
    assert source_needs.version_number(text) == number


@pytest.mark.parametrize(
    "name, value, kept",
    [
        ("search_path", "'a'", '"a"'),
        ("search_path", "'a', '$user'", '"a", "$user"'),
        ("search_path", '"$user", Public', '"$user", "public"'),
        ("Search_Path", "''", '""'),
        ("session_preload_libraries", "'a-b', 'it''s'", '"a-b", "it\'s"'),
        ("jit", "on", "on"),
        ("site.name", "'it''s'", "it's"),
        ("DateStyle", "'iso, mdy'", "iso, mdy"),
    ],
)
def test_settings_as_the_server_keeps_them(name, value, kept):
    assert dump_properties.stored_setting(name, value) == kept


GLOBALS = '''--
-- PostgreSQL database cluster dump
--
\\restrict abc
CREATE ROLE "a ""b""";
ALTER ROLE "a ""b""" WITH LOGIN PASSWORD 'md5;
x';
CREATE ROLE c;
GRANT "a ""b""" TO c WITH INHERIT TRUE GRANTED BY postgres;
ALTER ROLE c IN DATABASE "d e" SET work_mem TO '7MB';
--
-- PostgreSQL database cluster dump complete
--
'''


def test_globals(tmp_path):
    path = tmp_path / "globals.sql"
    path.write_text(GLOBALS)
    result = dump_roles.read(path)
    assert sorted(result.roles) == ['a "b"', "c"] and result.roles['a "b"'][1].endswith("'md5;\nx';")
    assert result.memberships == [dump_roles.Membership('a "b"', "c", " WITH INHERIT TRUE")]
    assert [(setting.database, setting.role) for setting in result.settings] == [("d e", "c")]
    path.write_text(GLOBALS[:-40])
    with pytest.raises(SauvegardeError):
        dump_roles.read(path)


def test_sizes_and_durations():
    assert [render.size(n) for n in (0, 1023, 1024, 3 * 2**30, 5000 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "3.0 GiB",
        "5000.0 GiB",
    ]
    assert [render.duration(n) for n in (0, 59.9, 90, 3600, 90061)] == ["0 s", "59 s", "1 min 30 s", "1 h", "1 d 1 h"]


def test_progress_is_one_line():
    state = {"database": "d", "step": "data", "elapsed": 61, "expected": 90, "bytes": 1024, "bytes_total": 2048}
    line = render.of_progress(dict(state, tables=3, tables_total=2))
    assert line == "d: data · 1.0 KiB of about 2.0 KiB · 2 of 2 tables · 1 min 1 s of about 1 min 30 s"
    assert render.of_progress({"database": "d", "step": "read", "elapsed": 0}) == "d: read · 0 s"


def test_the_roles_of_the_same_cluster_go_with_an_archive():
    one, other = {"system": "1"}, {"system": "2"}
    globals_ = [dict(entry(f"2026112{day}T030000Z"), kind="globals", **of) for day, of in ((1, one), (2, other))]
    archive = entry("20261123T030000Z", **one)
    assert archive_choice.roles_for(globals_, archive) is globals_[0]
    assert archive_choice.roles_for(globals_[1:], archive) is globals_[1], "better than none"
    assert archive_choice.roles_for(globals_, entry("20261123T030000Z")) is globals_[1]


def test_archives_of_two_machines_that_take_turns_are_not_chosen_between():
    nights = [entry(f"2026112{day}T030000Z", system=system) for day, system in enumerate("11222")]
    assert archive_choice.choose(nights, "elpaso")["id"] == nights[-1]["id"], "an upgrade"
    nights.append(entry("20261126T030000Z", system="1"))
    for point in ("latest", "2026-11-22"):
        with pytest.raises(SauvegardeError, match="Two machines of one name"):
            archive_choice.choose(nights, "elpaso", point)
    assert archive_choice.choose(nights, "elpaso", nights[2]["id"]) is nights[2]
    # Two clusters of one host that have a database of the same name: each has a job of its own.
    nights = [entry(f"2026112{day}T030000Z", system=str(day % 2)) for day in range(4)]
    for each in nights:
        each["job"] = each["system"]
    assert archive_choice.choose(nights, "elpaso")["id"] == nights[-1]["id"]
