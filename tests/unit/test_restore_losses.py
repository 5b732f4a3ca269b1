"""What a restore reads in the words of tools and servers: whose fault it is, and what to do. No server."""

import pytest
from sauvegarde.errors import Damaged, SauvegardeError
from sauvegarde.postgres import server_errors
from sauvegarde.restore import pg_restore_run
from sauvegarde.restore.dump import file_type, loss_names
from sauvegarde.restore.dump.entries import Entry
from sauvegarde.restore.pg_restore_run import error_lines, errors_by_entry, load_entries

VERBOSE = """pg_restore: connecting to database for restore
pg_restore: creating VIEW "public.v"
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 7; 1259 16384 VIEW v postgres
pg_restore: error: could not execute query: ERROR:  column "x" does not exist
LINE 2:  SELECT x
                ^
HINT:  Perhaps.
Command was: CREATE VIEW public.v AS
 SELECT 'FATAL:  no'
pg_restore: creating TABLE "public.t"
pg_restore: from TOC entry 9; 0 16385 TABLE DATA t postgres
pg_restore: error: COPY failed for table "t": ERROR:  says FATAL:  in the middle
CONTEXT:  COPY t, line 1
pg_restore: warning: errors ignored on restore: 2
"""
OLD = """pg_restore: creating VIEW "public.v"
pg_restore: [archiver (db)] Error while PROCESSING TOC:
pg_restore: [archiver (db)] Error from TOC entry 7; 1259 16384 VIEW v postgres
pg_restore: [archiver (db)] could not execute query: ERROR:  column "x" does not exist
    Command was: CREATE VIEW public.v AS
 SELECT x;
WARNING: errors ignored on restore: 1
"""


def test_each_entry_has_its_own_words():
    assert errors_by_entry(VERBOSE) == {
        "7": 'column "x" does not exist\nHINT:  Perhaps.',
        "9": "says FATAL:  in the middle\nCONTEXT:  COPY t, line 1",
    }
    assert errors_by_entry(OLD) == {"7": 'column "x" does not exist'}


@pytest.mark.parametrize(
    "options",
    [
        VERBOSE.replace("pg_restore: warning: errors ignored on restore: 2\n", ""),
        VERBOSE.replace('ERROR:  column "x" does not exist', "FATAL:  terminating connection"),
        VERBOSE.replace('ERROR:  column "x" does not exist', "ERROR:  out of shared memory"),
        VERBOSE.replace('ERROR:  column "x" does not exist', "no connection to the server"),
        VERBOSE.replace("pg_restore: from TOC entry 7; 1259 16384 VIEW v postgres\n", ""),
        "",
    ],
)
def test_what_is_no_objects_fault_is_no_loss(options):
    assert errors_by_entry(options) == {}


@pytest.mark.parametrize(
    "entry, name",
    [
        (Entry("FK CONSTRAINT", "public", "child child_fkey", "o"), "CONSTRAINT public.child child_fkey"),
        (Entry("TABLE DATA", "S x", "t", "o"), "TABLE DATA S x.t"),
        (Entry("EXTENSION", "", "pg_cron", ""), "EXTENSION pg_cron"),
        (Entry("COMMENT", "public", "COLUMN t.c", "o"), "COMMENT COLUMN public.t.c"),
        (Entry("COMMENT", "", "EXTENSION x", ""), "COMMENT EXTENSION x"),
        (Entry("ACL", "public", "TABLE t", "o"), "ACL TABLE public.t"),
    ],
)
def test_names(entry, name):
    assert loss_names.loss_name(entry) == name == loss_names.normalized_name(name)


@pytest.mark.parametrize(
    "why",
    [
        "pg_restore was ended by signal 9.\n",
        "pg_restore: error: could not open input file: Permission denied",
        "[Errno 5] Input/output error",
        "pg_restore: error: out of memory",
        "write error: No space left on device",
    ],
)
def test_a_good_file_is_not_called_damaged(why):
    error = file_type.damaged("/srv/a.dump", why)
    assert error.exit_code != Damaged.exit_code and error.fix and "another archive" not in str(error)


def test_a_file_that_ends_early_is():
    error = file_type.damaged("/srv/a.dump", "pg_restore: error: could not read from input file: end of file")
    assert error.exit_code == Damaged.exit_code


@pytest.mark.parametrize(
    "options, word",
    [
        ("out of shared memory\nHINT:  You might need to increase max_locks_per_transaction.", "max_locks"),
        ("could not extend file: No space left on device", "disk"),
        ("terminating connection due to administrator command", "restarted"),
        ("server closed the connection unexpectedly", "log"),
    ],
)
def test_the_servers_own_faults_have_a_fix(options, word):
    assert word in server_errors.server_fix(options)


def fake(tmp_path, *options):
    """A pg_restore that says this in its first run, and in its second."""
    (tmp_path / "said").write_text("".join(options))
    program = tmp_path / "pg_restore"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 1\n")
    program.chmod(0o700)
    return [str(program)]


def test_an_error_before_much_progress_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(pg_restore_run, "_STDERR_BYTES", 4096)
    progress = "".join(f'pg_restore: creating COMMENT "public.COLUMN t.c{number}"\n' for number in range(4000))
    command = fake(tmp_path, VERBOSE.replace("pg_restore: warning: errors", progress + "pg_restore: warning: errors"))
    result = load_entries(command, [], [b"7; VIEW v\n", b"9; TABLE DATA t\n"], "/x", str(tmp_path), None, "Stopped.")
    assert result == errors_by_entry(VERBOSE)


def test_a_long_statement_hides_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(pg_restore_run, "_STDERR_BYTES", 4096)
    long = "Command was: INSERT INTO t VALUES\n" + "  ('é', 'pg_restore'),\n" * 4000
    command = fake(tmp_path, VERBOSE.replace("Command was: CREATE VIEW public.v AS\n", long))
    result = load_entries(command, [], [b"7; VIEW v\n", b"9; TABLE DATA t\n"], "/x", str(tmp_path), None, "Stopped.")
    assert result == errors_by_entry(VERBOSE)


@pytest.mark.parametrize("words", [VERBOSE, OLD])
def test_sifting_changes_no_finding(words):
    assert errors_by_entry("".join(error_lines(words.splitlines(True)))) == errors_by_entry(words)


@pytest.mark.parametrize("words, count", [(VERBOSE, 2), (OLD, 1)])
def test_errors_that_were_not_read_stop_the_restore(tmp_path, words, count):
    more = words.replace(f"restore: {count}", f"restore: {count + 1}")
    with pytest.raises(SauvegardeError, match="Stopped") as error:
        load_entries(fake(tmp_path, more), [], [b"7; VIEW v\n"], "/x", str(tmp_path), None, "Stopped.")
    assert f"counted {count + 1} errors, of which {count} could be read" in error.value.why
