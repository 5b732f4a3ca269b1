"""The access rules as the server enforces them, and the roles as it has them. It speaks its locale's language."""

testinfra_hosts = ["ansible://postgresql"]


def test_the_right_password_logs_in(server):
    login = server.login("geotribu", "canary-Zephyr-41", "elpaso")
    assert (login.rc, login.stdout.strip()) == (0, "geotribu"), login.stderr


def test_a_wrong_password_does_not(server):
    login = server.login("geotribu", "canary-Zephyr-42", "elpaso")
    assert login.rc == 2
    assert "authentification par mot de passe échouée pour l'utilisateur" in login.stderr


def test_a_database_that_the_rules_do_not_give_is_refused(server):
    login = server.login("geotribu", "canary-Zephyr-41", "postgres")
    assert login.rc == 2
    assert "pg_hba.conf rejette la connexion" in login.stderr


def test_a_role_that_the_rules_do_not_name_is_refused(server):
    login = server.login("postgres", "canary-Zephyr-41", "elpaso")
    assert login.rc == 2
    assert "pg_hba.conf rejette la connexion pour l'hôte « 127.0.0.1 », utilisateur « postgres »" in login.stderr


def test_the_socket_asks_who_the_caller_is(host, server):
    login = host.run("PGPASSWORD=canary-Zephyr-41 %s -Xw -p 5432 -U geotribu elpaso -c 'SELECT 1'", server.psql)
    assert login.rc == 2
    assert "authentification peer échouée pour l'utilisateur « geotribu »" in login.stderr


def test_the_rules_are_those_described_and_no_others(server):
    rules = server.sql(
        "SELECT concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask,"
        " auth_method, array_to_string(options, ','), error) FROM pg_hba_file_rules ORDER BY line_number"
    )
    assert rules.splitlines() == [
        "local all postgres peer",
        "local all all peer",
        "host elpaso geotribu,lecture 127.0.0.1 255.255.255.255 scram-sha-256",
        "host all all 127.0.0.1 255.255.255.255 reject",
    ]


def test_only_the_server_s_user_reads_the_rules(host, server):
    with host.sudo():
        rules = host.file(f"/etc/postgresql/{server.version}/main/pg_hba.conf")
        assert (rules.user, rules.group, rules.mode) == ("postgres", "postgres", 0o640)


def test_passwords_are_stored_as_scram(server):
    stored = server.sql("SELECT rolname, left(rolpassword, 14) FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert stored == "geotribu|SCRAM-SHA-256$"


def test_roles_have_their_attributes_and_limits(server):
    roles = server.sql(
        "SELECT rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolconnlimit"
        " FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname"
    )
    assert roles.splitlines() == [
        "geotribu|t|f|f|f|f|20",
        "lecture|f|f|f|f|f|-1",
        "postgres|t|t|t|t|t|-1",
    ]


def test_roles_have_their_memberships(server):
    members = server.sql(
        "SELECT member::regrole, roleid::regrole FROM pg_auth_members WHERE roleid::regrole::text !~ '^pg_'"
    )
    assert members == "geotribu|lecture"


def test_roles_have_their_settings(server):
    rows = server.sql("SELECT rolname, unnest(rolconfig) FROM pg_roles WHERE rolconfig IS NOT NULL")
    assert rows == "geotribu|lo_compat_privileges=on"
