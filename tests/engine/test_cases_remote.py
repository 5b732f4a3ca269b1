"""Jobs whose server is not the job's own: a managed server over TLS, and a standby that cancels what is in its way."""

import shutil
import subprocess

import conftest
import pytest
import restores
from sauvegarde import catalog
from sauvegarde.backup import dump_attempts, kinds
from sauvegarde.errors import LoginRefused, SauvegardeError
from sauvegarde.postgres import connection_security, fingerprint
from sauvegarde.report import render
from test_cases_reports import standby_of

PASSWORD = "canary-of-app"


# A managed server


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, stderr=subprocess.DEVNULL)


def make_certificates(folder):
    """ca.pem; server.pem of localhost and client.pem of the role app, signed by it; other.pem, which signs nothing."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(folder, "req", "-x509", *key, *files, "-days", "2", "-subj", f"/CN={name}")
    for name, subject in (("server", "localhost"), ("client", "app")):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "req", "-new", *key, *files, "-subj", f"/CN={subject}")
        (folder / "names").write_text(f"subjectAltName=DNS:{subject}\n")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    """A server as providers run it: TCP and TLS only, no superuser for customers, and functions that are closed.

    Yields the cluster, with `certificates` (a folder) and `values` of the customer's role, app.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    with conftest.running() as cluster:
        folder = tmp_path_factory.mktemp("tls")
        make_certificates(folder)
        for name in ("server.pem", "server.key", "ca.pem"):
            shutil.copy(str(folder / name), str(cluster.data / name))
            shutil.chown(str(cluster.data / name), cluster.user)
        (cluster.data / "server.key").chmod(0o600)
        cluster.stop()
        with (cluster.data / "postgresql.conf").open("a") as settings:
            settings.write(
                "listen_addresses = 'localhost'\nssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n"
                "ssl_ca_file = 'ca.pem'\n"
            )
        (cluster.data / "pg_hba.conf").write_text(
            "local all postgres trust\nhostssl closed app all reject\nhostssl by_certificate app all cert\n"
            "hostssl all app all md5\n"
        )
        cluster.start()
        for statement in (
            "CREATE ROLE provider_superuser NOLOGIN CREATEROLE",
            f"CREATE ROLE app LOGIN CREATEDB CREATEROLE PASSWORD '{PASSWORD}'",
            "GRANT provider_superuser TO app",
            "CREATE DATABASE shop OWNER app TEMPLATE template0",
            "CREATE DATABASE by_certificate OWNER app",
            "CREATE DATABASE closed",
            "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        ):
            cluster.execute(statement)
        cluster.execute("ALTER SCHEMA public OWNER TO app", "shop")
        for database in ("shop", "postgres"):
            cluster.execute(
                "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), pg_control_recovery(),"
                " pg_control_init() FROM PUBLIC",
                database,
            )
        cluster.execute(
            "SET ROLE app; CREATE TABLE item (id serial PRIMARY KEY, name text);"
            "INSERT INTO item (name) SELECT md5(i::text) FROM generate_series(1, 300) i;"
            "GRANT SELECT ON item TO provider_superuser; SELECT lo_from_bytea(0, 'a large object')",
            "shop",
        )
        if cluster.connect().server_version >= 100000:
            cluster.execute(
                "CREATE SUBSCRIPTION other CONNECTION 'host=elsewhere password=canary-of-other' PUBLICATION p"
                " WITH (connect = false)",
                "shop",
            )
        passfile = folder / "passfile"
        passfile.write_text(f"*:*:*:*:{PASSWORD}\n")
        passfile.chmod(0o600)
        cluster.certificates = folder
        cluster.values = {
            "host": "localhost", "port": cluster.port, "user": "app", "passfile": str(passfile),
            "sslmode": "verify-full", "sslrootcert": str(folder / "ca.pem"),
        }  # fmt: skip
        yield cluster


def job(server, database, kind="pg_dump", **connection):
    return {"name": "demo", "kind": kind, "database": database, "connection": {**server.values, **connection}}


def test_a_managed_server_is_backed_up_and_restored_elsewhere(managed, cluster, repository, tmp_path):
    manifest = kinds.back_up(job(managed, "shop"), repository)
    server = manifest.source["server"]
    assert server["system_identifier"] == "" and "address" not in server and manifest.unproven == []
    assert manifest.fingerprint["tables"]['"public"."item"']["rows"] == 300
    lacks = [sentence for sentence in manifest.warnings if "SUBSCRIPTION other" in sentence]
    assert bool(lacks) == (manifest.server.version_num >= 100000), manifest.warnings
    assert "canary" not in str(manifest.as_dict())

    globals_ = kinds.back_up(job(managed, "postgres", kind="globals"), repository)
    assert not globals_.source["passwords"] and {"shop", "closed"} <= set(globals_.source["databases"])
    assert any("without their passwords" in sentence for sentence in globals_.warnings)

    path = str(repository / "demo" / manifest.id)
    spec = {"path": path, "database": "of_managed", "connection": cluster.values, "mode": "beside"}
    spec["directory"] = str(tmp_path / "runs")
    plan = restores.plan(spec)
    assert any("provider_superuser" in blocker["what"] + blocker["why"] for blocker in plan["obstacles"]), plan
    assert all(blocker["fix"] for blocker in plan["obstacles"])
    try:
        spec["missing_roles"] = "create"
        restores.swap_in(spec, restores.fill(spec)["id"])
        expected = fingerprint.take(lambda: cluster.connect("of_managed"), reference=manifest.fingerprint)
        assert fingerprint.compare(manifest.fingerprint, expected) == []
        assert cluster.execute("SELECT has_table_privilege('provider_superuser', 'item', 'SELECT')", "of_managed") == [
            (True,)
        ]
    finally:
        cluster.execute("DROP DATABASE IF EXISTS of_managed")
        cluster.execute("DROP ROLE IF EXISTS app")
        cluster.execute("DROP ROLE IF EXISTS provider_superuser")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"host": "127.0.0.1"}, "does not match host name"),
        ({"sslrootcert": "other.pem"}, "certificate verify failed"),
    ],
)
def test_a_server_that_does_not_prove_its_name_gets_no_password(managed, repository, changes, words):
    if "sslrootcert" in changes:
        changes = {"sslrootcert": str(managed.certificates / changes["sslrootcert"])}
    with pytest.raises(SauvegardeError) as caught:
        kinds.back_up(job(managed, "shop", **changes), repository)
    assert words in caught.value.why and "sslrootcert" in caught.value.fix
    assert not isinstance(caught.value, LoginRefused)


def test_a_client_certificate_opens_a_database(managed, repository):
    key = managed.certificates / "client.key"
    key.chmod(0o600)
    certificate = {"sslcert": str(managed.certificates / "client.pem"), "sslkey": str(key), "passfile": ""}
    manifest = kinds.back_up(job(managed, "by_certificate", **certificate), repository)
    assert manifest.source["database"] == "by_certificate"
    with pytest.raises(LoginRefused):
        kinds.back_up(job(managed, "by_certificate", passfile=""), repository)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"sslmode": "verify_full"}, "Use one of"),
        ({"sslmode": "require", "sslrootcert": "system"}, "verify-full"),
        ({"sslmode": "require", "sslcert": "/c.pem"}, "both"),
        ({"sslmode": "verify-full", "sslrootcert": "ca.pem"}, "sslrootcert"),
    ],
)
@pytest.mark.one_host("no server is asked")
def test_contradicting_settings_are_refused(values, words):
    with pytest.raises(SauvegardeError) as caught:
        kinds.options_of({"name": "demo", "kind": "pg_dump", "database": "shop", "connection": values})
    assert words in caught.value.fix


@pytest.mark.one_host("no server is asked")
def test_an_unreadable_certificate_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(connection_security, "_home_root", lambda: tmp_path / "none")
    with pytest.raises(SauvegardeError, match="sslrootcert"):
        connection_security.parameters({"sslmode": "verify-ca"})
    with pytest.raises(SauvegardeError) as caught:
        connection_security.parameters({"sslmode": "verify-full", "sslrootcert": str(tmp_path / "none.pem")})
    assert str(tmp_path / "none.pem") in caught.value.why
    (tmp_path / "store.crt").write_text("")
    monkeypatch.setattr(connection_security, "_SYSTEM_STORE", str(tmp_path / "store.crt"))
    assert connection_security.parameters({"sslmode": "verify-full"})["sslrootcert"] == str(tmp_path / "store.crt")


# A standby


class Conflicts:
    """Makes the primary remove rows that the snapshots on its standby still see, which the standby allows nobody."""

    def __init__(self, primary, standby, database):
        self.primary, self.standby, self.database = primary, standby, database
        standby.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        standby.execute("SELECT pg_reload_conf()")
        conftest.wait_until(lambda: standby.execute("SHOW max_standby_streaming_delay") == [("0",)])

    def count(self):
        counted = "SELECT sum(confl_snapshot) FROM pg_stat_database_conflicts"
        return int(self.standby.execute(counted)[0][0])

    def cause(self, *_):
        """Returns when the standby has ended a session for it."""
        before = self.count()
        self.primary.execute("DELETE FROM t WHERE i = (SELECT max(i) FROM t)", self.database)
        self.primary.execute("VACUUM t", self.database)
        conftest.wait_until(lambda: self.count() > before)


@pytest.mark.one_host(
    "the standby's conflicts are the same in every version; restoring what it dumped is tested elsewhere"
)
def test_a_standby_cancels_attempts(cluster, database, repository, tmp_path, monkeypatch):
    if cluster.connect().server_version < 100000:
        pytest.skip("a standby before 10 exports no snapshot")
    cluster.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i", database)
    run, sum_table = dump_attempts._run_pg_dump, fingerprint.sum_table
    monkeypatch.setattr(dump_attempts, "_CONFLICT_PAUSES", (0.1, 0.1))
    before_dump, before_sum, again = [], [], []

    def run_pg_dump(*arguments):
        (before_dump.pop(0) if before_dump else int)()
        return run(*arguments)

    def sum_with_conflict(connection, table, *more):
        if getattr(table, "name", "") == "t" and before_sum:
            before_sum.pop()()
        return sum_table(connection, table, *more)

    def notify(step, **values):
        if step == "again":
            again.append(values.get("reason"))

    monkeypatch.setattr(dump_attempts, "_run_pg_dump", run_pg_dump)
    monkeypatch.setattr(fingerprint, "sum_table", sum_with_conflict)
    with standby_of(cluster) as standby:
        conftest.wait_until(
            lambda: standby.execute("SELECT 1 FROM pg_database WHERE datname = current_database()", database)
        )
        conflicts = Conflicts(cluster, standby, database)

        # Cancelled before pg_dump reads and again while rows are summed; then it succeeds.
        before_dump[:], before_sum[:] = [conflicts.cause], []
        before_dump.append(lambda: before_sum.append(conflicts.cause))
        manifest = kinds.back_up(job(standby, database), repository, notify)
        assert again == ["conflict with recovery"] * 2
        assert manifest.unproven == [] and manifest.fingerprint["tables"]['"public"."t"']["rows"] == 98
        assert any("cancelled 2 attempt(s)" in sentence for sentence in manifest.warnings), manifest.warnings
        replay, server = manifest.source["replay"], manifest.source["server"]
        assert server["standby"] and replay["lsn"] and replay["timeline"] == 1 and replay["time"][:4] >= "2020"
        identifier = cluster.execute("SELECT system_identifier::text FROM pg_control_system()")
        assert [(server["system_identifier"],)] == identifier
        assert str(cluster.port) in replay["primary"]

        # Cancelled each time: an error that says what to do, and nothing published.
        before_dump[:] = [conflicts.cause] * 3
        with pytest.raises(SauvegardeError) as caught:
            kinds.back_up(job(standby, database), repository)
        assert "3 times" in caught.value.what and "max_standby_streaming_delay" in caught.value.fix
        assert len(list((repository / "demo").glob("2*"))) == 1

        # Promoted in the middle: its sessions go on with what they saw.
        before_dump[:] = [lambda: standby.as_owner(standby.binaries / "pg_ctl", "-D", standby.data, "-w", "promote")]
        promoted = kinds.back_up(job(standby, database), repository)
        assert promoted.source["replay"] and any("promoted" in sentence for sentence in promoted.warnings)

    [entry, _] = catalog.of_job(repository, "demo", "db1")
    assert f", standby, data as of {replay['time'][:19]}Z" in entry.source
    path = str(repository / "demo" / manifest.id)
    spec = {"path": path, "database": "of_standby", "connection": cluster.values, "mode": "beside"}
    plan = restores.plan({**spec, "directory": str(tmp_path / "runs")})
    lines = render.of_plan(plan)
    assert any(line.startswith("Source:") and f"data as of {replay['time'][:19]}Z" in line for line in lines), lines
    assert any("taken on a standby of" in line and replay["time"] in line for line in lines), lines
