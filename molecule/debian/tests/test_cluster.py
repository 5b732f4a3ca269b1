"""The cluster and its settings, as the server itself says them."""

import pytest

testinfra_hosts = ["ansible://postgresql"]


def test_it_is_the_version_of_the_release(server):
    assert server.sql("SELECT current_setting('server_version_num')::integer / 10000") == server.version


def test_it_is_the_only_cluster(host, server):
    clusters = [line.split()[:4] for line in host.check_output("pg_lsclusters --no-header").splitlines()]
    assert clusters == [[server.version, "main", "5432", "online"]]


def test_it_starts_with_the_host(host, server):
    assert host.file(f"/etc/postgresql/{server.version}/main/start.conf").contains("^auto$")
    assert host.service("postgresql").is_enabled
    assert host.service(f"postgresql@{server.version}-main").is_running


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # In the unit that the server keeps it in: kB and ms.
        ("work_mem", "6144"),
        ("log_min_duration_statement", "2000"),
        ("password_encryption", "scram-sha-256"),
        ("port", "5432"),
    ],
)
def test_settings_are_served_from_the_role_s_own_file(server, name, value):
    rows = server.sql(f"SELECT reset_val, sourcefile, pending_restart FROM pg_settings WHERE name = '{name}'")
    assert rows == f"{value}|/etc/postgresql/{server.version}/main/conf.d/50-sauvegarde.conf|f"


def test_a_quote_in_a_setting_is_kept(server):
    # Every client names itself; the file says what those get that do not.
    assert server.sql("SELECT setting FROM pg_file_settings WHERE name = 'application_name'") == "l'atelier"


def test_the_package_s_own_file_has_none_of_them(server):
    names = server.sql("SELECT name FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.conf'").split()
    assert "data_directory" in names
    assert {"work_mem", "log_min_duration_statement", "application_name", "password_encryption"} & set(names) == set()


def test_it_has_checksums(server):
    assert server.sql("SHOW data_checksums") == "on"


def test_it_has_the_locale_and_the_encoding(server):
    rows = server.sql(
        "SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database ORDER BY datname"
    )
    assert rows.splitlines() == [
        f"{name}|UTF8|fr_FR.UTF-8|fr_FR.UTF-8" for name in ("elpaso", "postgres", "template0", "template1")
    ]


def test_it_sorts_as_french_does(server):
    words = "SELECT string_agg(word, ' ' ORDER BY word) FROM unnest(ARRAY['zèbre', 'écran', 'Eure', 'eau']) word"
    assert server.sql(words) == "eau écran Eure zèbre"


def test_no_copies_of_files_are_left(host, server):
    with host.sudo():
        result = host.check_output("find /etc/postgresql/%s/main -type f -printf '%%P\n'", server.version)
    assert sorted(result.split()) == [
        "conf.d/50-sauvegarde.conf",
        "environment",
        "pg_ctl.conf",
        "pg_hba.conf",
        "pg_ident.conf",
        "postgresql.conf",
        "start.conf",
    ]
