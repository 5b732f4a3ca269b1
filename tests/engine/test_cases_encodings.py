"""Databases of other encodings than UTF8: dumped in their own, the same bytes back, names included."""

import pytest
import restores
from sauvegarde.archive import manifest
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import character_sets, fingerprint, sql_names
from sauvegarde.report import job_state

# Bytes that are no UTF-8, in rows, names, comments and defaults; WIN1252 has no character for 81.
BYTES = {
    "SQL_ASCII": ("\udce9t\udce9", "caf\udce9 \udcff\udc81 é"),
    "WIN1252": ("\xe9t\xe9", "€uro œ"),
    "EUC_JP": ("日本", "語"),
}


def make(cluster, name, encoding):
    cluster.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'", "postgres"
    )


@pytest.fixture()
def named(cluster):
    """Names of two databases, dropped at the end with what restores left of them."""
    yield ("odd", "back")
    for (name,) in cluster.execute("SELECT datname::text FROM pg_database WHERE datname ~ '^(odd|back)'"):
        cluster.execute(f"DROP DATABASE {sql_names.quote(name)}")


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, **more}


def restore(cluster, path, database, tmp_path, **more):
    spec = dict({"path": str(path), "database": database, "connection": cluster.values}, **more)
    spec = dict(spec, directory=str(tmp_path / "runs"))
    filled = restores.fill(spec)
    restores.swap_in(spec, filled["id"])
    return filled


@pytest.mark.parametrize("encoding", sorted(BYTES))
def test_the_same_bytes_come_back(cluster, named, repository, tmp_path, encoding):
    source, target = named
    make(cluster, source, encoding)
    name, text = BYTES[encoding]
    table, column = sql_names.quote("t " + name), sql_names.quote("c'" + name)
    cluster.execute(
        f"CREATE TABLE {table} (id serial PRIMARY KEY, {column} text DEFAULT {sql_names.literal(text)});"
        f"INSERT INTO {table} ({column}) VALUES ({sql_names.literal(name)}), ('plain');"
        f"INSERT INTO {table} DEFAULT VALUES; COMMENT ON TABLE {table} IS {sql_names.literal(text)};"
        f"COMMENT ON DATABASE {source} IS {sql_names.literal(text)};"
        f"CREATE MATERIALIZED VIEW m AS SELECT * FROM {table}",
        source,
    )
    bytes_of = f"SELECT string_agg(encode(textsend({column}), 'hex'), ' ' ORDER BY id) FROM {table}"
    expected = cluster.execute(bytes_of, source)
    archived_manifest = kinds.back_up(job(cluster, source), repository)
    path = repository / "demo" / archived_manifest["id"]
    assert kinds.verify(path)["checksum"] == archived_manifest["checksum"]
    assert archived_manifest["warnings"] == []
    assert f'"public".{table}' in archived_manifest["fingerprint"]["tables"]
    assert list(archived_manifest["fingerprint"]["sequences"].values()) == [[3, True]]
    assert restore(cluster, path, target, tmp_path)["proof"]["by"] == "fingerprint"
    assert cluster.execute(bytes_of, target) == expected
    assert cluster.execute(
        "SELECT obj_description(c.oid) FROM pg_class c WHERE relname ~ '^t ' AND relkind = 'r'", target
    ) == [(text,)]
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    assert cluster.execute(comment, target) == [(text,)]
    cluster.execute(f"UPDATE {table} SET {column} = 'other' WHERE id = 2", target)
    result = fingerprint.take(lambda: cluster.connect(target), reference=archived_manifest["fingerprint"])
    assert [each["object"] for each in fingerprint.compare(archived_manifest["fingerprint"], result)] == [
        f'table "public".{table}'
    ]


@pytest.mark.parametrize("form", ["-Fc", "-Fp"])
def test_dumps_of_others(cluster, named, tmp_path, form):
    source, target = named
    make(cluster, source, "SQL_ASCII")
    name = BYTES["SQL_ASCII"][0]
    cluster.execute(f"CREATE TABLE t AS SELECT {sql_names.literal(name)}::text AS t", source)
    cluster.run("pg_dump", form, "-C", "--encoding=SQL_ASCII", "-f", tmp_path / "dump", database=source)
    restore(cluster, tmp_path / "dump", target, tmp_path)
    assert cluster.execute("SELECT t FROM t", target) == [(name,)]


@pytest.mark.parametrize("form", ["-Fc", "-Fp"])
def test_dumps_of_others_with_names_that_are_no_utf8(cluster, named, tmp_path, form):
    """What cannot go into a UTF8 database is named, with the setting under which all of it is restored."""
    source, target = named
    make(cluster, source, "SQL_ASCII")
    name = BYTES["SQL_ASCII"][0]
    cluster.execute(
        "CREATE TABLE {0} ({0} text PRIMARY KEY); INSERT INTO {0} VALUES ({1}); CREATE SEQUENCE {2};"
        " CREATE VIEW {3} AS SELECT * FROM {0}; COMMENT ON VIEW {3} IS {1}; SELECT setval({4}, 7)".format(
            sql_names.quote(name),
            sql_names.literal(name),
            sql_names.quote("s" + name),
            sql_names.quote("v" + name),
            sql_names.literal(sql_names.quote("s" + name)),
        ),
        source,
    )
    cluster.run("pg_dump", form, "--encoding=SQL_ASCII", "-f", tmp_path / "dump", database=source)
    value = {}
    if form == "-Fp":  # it does not know its database's encoding
        with pytest.raises(SauvegardeError, match="cannot be restored here") as caught:
            restore(cluster, tmp_path / "dump", target, tmp_path)
        assert "restore_encoding: SQL_ASCII" in caught.value.why
        value = {"encoding": "SQL_ASCII", "locale": "C"}
    restore(cluster, tmp_path / "dump", target, tmp_path, **value)
    assert cluster.execute("SELECT * FROM " + sql_names.quote("v" + name), target) == [(name,)]
    assert cluster.execute("SELECT last_value FROM " + sql_names.quote("s" + name), target) == [(7,)]


def test_roles_with_such_names(cluster, named, repository):
    """Roles made in a database of another encoding have names that are no UTF-8, for the whole cluster."""
    source = named[0]
    make(cluster, source, "SQL_ASCII")
    role = "g\udce9o"
    cluster.execute(f"CREATE ROLE {sql_names.quote(role)}", source)
    try:
        cluster.execute(f"CREATE TABLE t (); ALTER TABLE t OWNER TO {sql_names.quote(role)}", source)
        archived_manifest = kinds.back_up(job(cluster, source), repository)
        assert role in archived_manifest["source"]["roles"]
        of_globals = {"name": "demo", "kind": "globals", "connection": cluster.values, "database": source}
        archived_manifest = kinds.back_up(of_globals, repository)
        assert (
            kinds.verify(repository / "demo" / archived_manifest["id"])["fingerprint"]["tables"]["roles"]["rows"] >= 2
        )
    finally:
        cluster.execute("DROP TABLE t", source)
        cluster.execute(f"DROP ROLE {sql_names.quote(role)}", source)


def test_text_of_every_byte():
    every = bytes(range(1, 256))
    for encoding in ("SQL_ASCII", "UTF8", "WIN1252", "LATIN9"):
        assert character_sets.encode(character_sets.decode(every, encoding), encoding) == every
    text = job_state.as_json({"name": character_sets.decode(b"caf\xe9", "SQL_ASCII")})
    assert text.encode("utf-8").isascii() if hasattr(bytes, "isascii") else True
    assert manifest.json.loads(text) == {"name": "caf\udce9"}
