import contextlib
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests_support.hosts import Server, lab_host, play, start
from tests_support.shared import shared

VERSIONS = {"db96": "9.6", "db13": "13", "db15": "15", "db17": "17"}
DIRECTORY = "/var/lib/postgresql/sauvegarde"

# All that is in a database, as every version says it: rows and their content, sequences, large objects; then what
# stands around them. Run by psql, table by table.
CONTENT = r"""
SET timezone TO 'UTC';
SET bytea_output TO hex;
SET extra_float_digits TO 0;
CREATE TEMPORARY VIEW ours AS
  SELECT c.oid, relname, relkind, relowner, relacl, relispopulated, nspname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS
    (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');
SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), '''' ORDER BY md5(t::text))) FROM %I.%I t',
  nspname || '.' || relname, nspname, relname)
FROM ours WHERE relkind = 'r' OR relkind = 'm' AND relispopulated
\gexec
SELECT format('SELECT %L, last_value, is_called FROM %I.%I', nspname || '.' || relname, nspname, relname)
FROM ours WHERE relkind = 'S'
\gexec
SELECT nspname, relname, relkind, pg_get_userbyid(relowner) FROM ours WHERE relkind <> 't';
SELECT nspname, relname, pg_get_userbyid(a.grantee), a.privilege_type FROM ours, aclexplode(relacl) a
WHERE a.grantee <> relowner;
SELECT nspname, pg_get_userbyid(nspowner), has_schema_privilege('lectrice', nspname, 'USAGE') FROM pg_namespace
WHERE nspowner <> 10 AND nspname <> 'public';
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN ours c ON c.oid = i.indrelid;
SELECT conname, contype, convalidated FROM pg_constraint k JOIN ours c ON c.oid = k.conrelid;
SELECT tgname, tgenabled FROM pg_trigger t JOIN ours c ON c.oid = t.tgrelid WHERE NOT tgisinternal;
SELECT obj_description(oid, 'pg_class') FROM ours WHERE obj_description(oid, 'pg_class') IS NOT NULL;
SELECT cfgname, pg_get_userbyid(cfgowner), (SELECT count(*) > 18 FROM pg_ts_config_map m WHERE m.mapcfg = c.oid)
FROM pg_ts_config c WHERE cfgnamespace <> 'pg_catalog'::regnamespace;
SELECT p.proname, pg_get_userbyid(proowner), proconfig, md5(prosrc) FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname = 'plpgsql' AND n.nspname !~ '^pg_' AND NOT EXISTS
  (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e');
SELECT oid, pg_get_userbyid(lomowner), md5(encode(lo_get(oid), 'hex')) FROM pg_largeobject_metadata;
SELECT to_regclass('spatial_ref_sys') IS NOT NULL AS postgis \gset
\if :postgis
SELECT srid, auth_name, proj4text FROM spatial_ref_sys WHERE srid >= 900000 OR srid = 32631;
SELECT name, srid FROM topology.topology;
SELECT postgis_full_version() LIKE '%need upgrade%';
\endif
"""
# What belongs to the database itself.
PROPERTIES = """
SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
  shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database();
SELECT a.grantee = 0, coalesce(r.rolname, ''), a.privilege_type FROM pg_database d, aclexplode(datacl) a
LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE datname = current_database();
SELECT coalesce(rolname, ''), setconfig FROM pg_database d JOIN pg_db_role_setting s ON setdatabase = d.oid
LEFT JOIN pg_roles r ON r.oid = setrole WHERE datname = current_database();
"""


def content(server, database="elpaso"):
    """Lines that say all of a database, in an order that no server's locale decides."""
    return sorted(server.sql(CONTENT, database).splitlines()) + sorted(server.sql(PROPERTIES, database).splitlines())


def asked(host, database, more):
    """The variables of a restore onto one host, confirmed."""
    return {"restore_target": host, "restore_database": database, "restore_confirm": f"{database}@{host}", **more}


def restore(host, database, *options, **more):
    """Run a restore to its end."""
    return play(*options, variables=asked(host, database, more), playbook="playbooks/restore.yml")


def go_back(done, **more):
    """Type what a restore has printed for the way back, with what the inventory would say besides."""
    (line,) = [each.strip() for each in done.output.splitlines() if each.strip().startswith("Back: ")]
    _, command, playbook, *options = shlex.split(line)
    assert command == "ansible-playbook", line
    return play(*options, variables=more, playbook=playbook)


def start_restore(host, database, *options, **more):
    return start(*options, variables=asked(host, database, more), playbook="playbooks/restore.yml")


def databases(server):
    return server.sql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1").splitlines()


def forget(server, *expected):
    """Drop databases, and what restores left of them."""
    for name in databases(server):
        if name.split("__")[0] in expected:
            server.sql('DROP DATABASE "{}"'.format(name.replace('"', '""')))


def on_all(action, items):
    """action(item) of each, all at once; their results."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(action, items))


@pytest.fixture(scope="session")
def servers():
    """{host: Server}."""
    collected = {name: Server(lab_host(name), version) for name, version in VERSIONS.items()}
    for name, server in collected.items():
        server.name = name
    return collected


@pytest.fixture(scope="session")
def archives(servers):
    """Back every host up; {host: folder of its archive of the database elpaso}."""
    done = play(playbook="playbooks/backup.yml")
    assert done.code == 0, done.output
    newest = "sudo sh -c 'ls -d /var/backups/sauvegarde/elpaso/2*'"
    return {name: servers[name].host.check_output(newest).split()[-1] for name in ("db96", "db13", "db15")}


@pytest.fixture(scope="session")
def legacy():
    """The folder of the shared legacy dump."""
    return shared("legacy")


# Faults ---------------------------------------------------------------------------------------------------------------

GO = "/var/lib/postgresql/go"
# A database whose restore comes to rest in the middle of its data, until the file GO is there (or for ten minutes).
ASLEEP = f"""
-- A CHECK of the server's own functions: one that calls the site's waits until all rows are there.
CREATE TABLE asleep (n int CHECK (CASE
  WHEN current_database() ~ '__restore_' AND (pg_stat_file('{GO}', true)).size IS NULL
  THEN pg_sleep(0.1)::text IS NOT NULL ELSE true END));
INSERT INTO asleep SELECT generate_series(1, 6000);
-- The live database has it too: a dump that holds less asks for its own word.
CREATE TABLE live AS SELECT 0 AS answer;
-- The first is loaded before those two by one process, after them by several, which begin with the largest.
CREATE TABLE early AS SELECT n, repeat(md5(n::text), 10) AS t FROM generate_series(1, 5000) n;
CREATE TABLE late AS SELECT n, md5(n::text) AS t FROM generate_series(1, 200000) n;
"""


class Node:
    """A lab host from outside, as the machine room sees it."""

    def __init__(self, name):
        self.name = "sauvegarde-restore-" + name
        self.pid = self._run("podman", "inspect", "--format", "{{.State.Pid}}", self.name).strip()

    @staticmethod
    def _run(*words):
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout

    def inside(self, *words):
        """A command inside the host, with the rights that a container has not."""
        return self._run("nsenter", "--target", self.pid, "--mount", "--net", "--pid", "--", *words)

    @contextlib.contextmanager
    def cut_off(self):
        """No packet comes or goes."""
        self.inside("ip", "link", "set", "eth0", "down")
        try:
            yield
        finally:
            self.inside("ip", "link", "set", "eth0", "up")

    def hang_up(self, path):
        """Every SSH session ends, as soon as there is something in that file."""
        wait = f"until test -s {path}; do sleep 0.02; done"
        script = f"{wait}; pkill --signal KILL --full '^sshd(-session)?: admin'"
        self._run("podman", "exec", self.name, "timeout", "300", "sh", "-c", script)

    @contextlib.contextmanager
    def small_disk(self, path, size):
        """A file system of its own that PostgreSQL's user owns."""
        self.inside("mkdir", "-p", path)
        self.inside("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", path)
        try:
            self.inside("chown", "postgres:postgres", path)
            yield
        finally:
            self.inside("umount", "--lazy", path)

    def destroy(self):
        self._run("podman", "rm", "--force", "--time", "0", self.name)
