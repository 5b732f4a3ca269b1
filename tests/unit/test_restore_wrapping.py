"""Files as people have them: packed, in another encoding, with lines before the dump, split; and what is no dump."""

import base64
import bz2
import errno
import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import threading
import zipfile

import pytest
from sauvegarde.errors import Damaged, SauvegardeError
from sauvegarde.restore.dump import content_scan, dump_file, file_type, unpacking

PLAIN = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
--
-- Name: t; Type: TABLE; Schema: public; Owner: o
--

CREATE TABLE public.t (é int);

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: o
--

COPY public.t (é) FROM stdin;
élève
\\.

--
-- PostgreSQL database dump complete
--

""".encode()
WINDOWS = PLAIN.replace(b"\n", b"\r\n")
LATIN = PLAIN.replace(b"UTF8", b"LATIN1").decode().encode("latin-1")


def tar(*files, mode="w"):
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode=mode) as packed:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return result.getvalue()


def zipped(*files):
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files:
            packed.writestr(name, data)
    return result.getvalue()


def by_tool(name, data):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([name, "-cq"], input=data, stdout=subprocess.PIPE, check=True).stdout


WRAPPED = {
    "gzip": lambda: gzip.compress(PLAIN),
    "gzip twice": lambda: gzip.compress(gzip.compress(PLAIN)),
    "bzip2": lambda: bz2.compress(PLAIN),
    "xz": lambda: lzma.compress(PLAIN),
    "zstd": lambda: by_tool("zstd", PLAIN),
    "lz4": lambda: by_tool("lz4", PLAIN),
    "zstd around gzip": lambda: by_tool("zstd", gzip.compress(PLAIN)),
    "tar.gz": lambda: tar(("backup/elpaso.sql", PLAIN), mode="w:gz"),
    "tar with a note": lambda: tar(("README", b"hello"), ("x/elpaso.sql.gz", gzip.compress(PLAIN))),
    "zip": lambda: zipped(("elpaso.sql", PLAIN)),
    "zip by a Mac": lambda: zipped(("elpaso.sql.gz", gzip.compress(PLAIN)), ("__MACOSX/._elpaso.sql.gz", b"x")),
    "byte order mark": lambda: b"\xef\xbb\xbf" + PLAIN,
    "utf-16": lambda: PLAIN.decode().encode("utf-16"),
    "utf-16, big end first": lambda: b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"),
    "utf-16 without a mark": lambda: PLAIN.decode().encode("utf-16-le"),
    "PowerShell, code page 850": lambda: WINDOWS.decode("cp850").encode("utf-16"),
    "PowerShell, code page 437": lambda: WINDOWS.decode("cp437").encode("utf-16"),
    "PowerShell, UTF-8, zip": lambda: zipped(("a.sql", WINDOWS.decode().encode("utf-16"))),
    "Windows line ends": lambda: WINDOWS,
    "Windows line ends, mark": lambda: b"\xef\xbb\xbf" + WINDOWS,
    "a warning before": lambda: b"Warning: Permanently added 'x' to the list\r\nsudo: it's me\n" + PLAIN,
    "a prompt before": lambda: b"Password: " + PLAIN,
    "a banner, packed": lambda: gzip.compress(b"*** Welcome ***\n\n" + PLAIN),
    "pg_dump's warning": lambda: b"pg_dump: warning: there are circular foreign-key constraints:\n" + PLAIN,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_around_a_dump_is_taken_off(tmp_path, name):
    path = tmp_path / "file"
    path.write_bytes(WRAPPED[name]())
    result = dump_file.detect(path)
    assert result.form == "plain" and result.size == path.stat().st_size
    with dump_file.open_dump(result) as stream:
        assert b"".join(iter(stream.read, b"")) == PLAIN
    with dump_file.open_dump(result) as stream:
        assert content_scan.scan(stream).rows == {("public", "t"): 1}


def test_utf_16_becomes_the_encoding_that_the_dump_says(tmp_path):
    (tmp_path / "file").write_bytes(LATIN.decode("latin-1").encode("utf-16"))
    result = dump_file.detect(tmp_path / "file")
    with dump_file.open_dump(result) as stream:
        assert b"".join(iter(stream.read, b"")) == LATIN
    assert "UTF-16" in result.notes[0]


def test_what_a_shell_says_after_a_dump_is_passed_over(tmp_path):
    (tmp_path / "file").write_bytes(PLAIN + b"logout\nConnection to x closed.\n")
    with dump_file.open_dump(dump_file.detect(tmp_path / "file")) as stream:
        assert content_scan.scan(stream).rows == {("public", "t"): 1}


NO_DUMPS = {
    "empty": (lambda: b"", "empty"),
    "empty gzip": (lambda: gzip.compress(b""), "packed in it is empty"),
    "web page": (lambda: b"<!DOCTYPE html>\n<html>", "web page"),
    "S3's error": (lambda: b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "download"),
    "JSON": (lambda: b'{"message": "Not Found"}', "JSON"),
    "fixture": (lambda: b'[\n{"model": "jobs.offer"}]', "fixture"),
    "MySQL": (lambda: b"-- MySQL dump 10.13  Distrib 8.0\n--\n", "MySQL"),
    "MariaDB": (lambda: b"/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump 10.19\n", "MariaDB"),
    "SQLite": (lambda: b"SQLite format 3\0" + b"\0" * 100, "SQLite"),
    "SQLite's dump": (lambda: b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n", "SQLite"),
    "an error": (lambda: b'pg_dump: error: connection to server at "x" failed: FATAL\n', "failed: FATAL"),
    "psql's error": (lambda: b"Password: \npsql: FATAL:  no such user\n", "no such user"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
    "rar": (lambda: b"Rar!\x1a\x07\x01\0", "RAR"),
    "gpg": (lambda: b"-----BEGIN PGP MESSAGE-----\n\n", "encrypted"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"),
    "noise": (lambda: b"\0\1\2\3" * 300, "neither SQL nor"),
    "two dumps": (lambda: tar(("a.sql", PLAIN), ("b.sql", PLAIN), mode="w:gz"), "a.sql, b.sql"),
    "base backup": (lambda: tar(("PG_VERSION", b"15"), ("base/1/1", b"x"), mode="w:gz"), "pg_basebackup"),
    "WAL": (lambda: b"\x10\xd1\x07\0\x01\0\0\0" + b"\0" * 8000, "WAL"),
    "our archive": (lambda: tar(("20260101T000000Z/manifest.json", b"{}"), mode="w:gz"), "Sauvegarde's"),
    "empty zip": (lambda: zipped(), "empty zip"),
    "PowerShell's archive": (lambda: ("PGDMP" + "x" * 100).encode("utf-16"), "PowerShell"),
    "by hand": (lambda: b"CREATE TABLE t (i int);\n", "not a whole dump"),
}


@pytest.mark.parametrize("name", NO_DUMPS)
def test_what_is_no_dump_is_described(tmp_path, name):
    data, words = NO_DUMPS[name]
    (tmp_path / "file").write_bytes(data())
    with pytest.raises(SauvegardeError) as error, dump_file.open_dump(dump_file.detect(tmp_path / "file")) as stream:
        content_scan.scan(stream)
    assert words in str(error.value) and error.value.fix
    assert "empty" in name or "damaged" not in str(error.value)


@pytest.mark.parametrize(
    "names, words",
    [
        (["PG_VERSION", "base"], "pg_basebackup"),
        (["base.tar.gz", "pg_wal.tar.gz"], "pg_basebackup"),
        (["000000010000000000000001"], "WAL"),
        (["toc.dat.gz", "1.dat.gz"], "gunzip"),
        ([], "empty"),
        (["x.txt"], "neither"),
    ],
)
def test_folders_are_described(tmp_path, names, words):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SauvegardeError) as error:
        dump_file.detect(tmp_path)
    assert words in str(error.value) and error.value.fix


@pytest.mark.parametrize(
    "ends",
    [[".001", ".002", ".003"], [".part1", ".part2"], [".aa", ".ab", ".ac"], [".00", ".01"], ["-part-aa", "-part-ab"]],
)
def test_parts_are_read_as_one_file(tmp_path, ends):
    data = gzip.compress(PLAIN)
    size = len(data) // len(ends) + 1
    for number, end in enumerate(ends):
        (tmp_path / ("dump.gz" + end)).write_bytes(data[number * size : (number + 1) * size])
    for path in (tmp_path / ("dump.gz" + ends[0]), tmp_path / "dump.gz"):
        result = dump_file.detect(path)
        with dump_file.open_dump(result) as stream:
            assert b"".join(iter(stream.read, b"")) == PLAIN
        assert "parts" in result.notes[0] and result.size == len(data)
    with pytest.raises(SauvegardeError) as error:
        dump_file.detect(tmp_path / ("dump.gz" + ends[-1]))
    assert "later part" in str(error.value)


def test_a_missing_part_is_named(tmp_path):
    for number in (1, 2, 4):
        (tmp_path / f"dump.00{number}").write_bytes(PLAIN[50 * (number > 1) :][:50])
    with pytest.raises(SauvegardeError) as error:
        dump_file.detect(tmp_path / "dump.001")
    assert "dump.003" in str(error.value)


@pytest.mark.parametrize("packed", [True, False])
def test_bytes_that_were_carried_as_text_are_no_damage_of_the_dump(tmp_path, packed):
    data = b"\x1f\x8b" if packed else b"PGDMP\x01\x0e"
    data += os.urandom(40000).replace(b"\r", b"")
    (tmp_path / "file").write_bytes(data.replace(b"\n", b"\r\n"))
    report = file_type.damaged(tmp_path / "file", "unexpected end")
    assert "copied or written as text" in report.why and "binary mode" in report.fix
    (tmp_path / "file").write_bytes(data + b"\r")
    assert "damaged" in file_type.damaged(tmp_path / "file", "unexpected end").fix


def test_an_archive_in_tar_reaches_nothing_outside(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as writer:
        for name in ("d/toc.dat", "../evil", "/d/evil2", "d/../../evil3", "d/1.dat"):
            member = tarfile.TarInfo(name)
            member.size = 5
            writer.addfile(member, io.BytesIO(b"PGDMP"))
        link = tarfile.TarInfo("d/2.dat")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        writer.addfile(link)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(packed.getvalue())
    (tmp_path / "work").mkdir()
    ready = unpacking.prepare(dump_file.detect(tmp_path / "in" / "file"), tmp_path / "work")
    assert ready.form == "directory"
    assert sorted(each.name for each in tmp_path.rglob("*") if not each.is_dir()) == ["1.dat", "file", "toc.dat"]


def test_a_bomb_fills_no_disk(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(gzip.compress(b"PGDMP" + b"\0" * (80 << 20), 9))
    monkeypatch.setattr(unpacking.disk_space, "free_bytes", lambda _: 1 << 20)
    with pytest.raises(SauvegardeError) as error:
        unpacking.prepare(dump_file.detect(tmp_path / "file"), tmp_path)
    assert "too little space" in str(error.value) and (tmp_path / "dump").stat().st_size < 40 << 20


def read_to_its_end(path):
    """The error of reading a file, detected and opened, in at most 300 seconds; None without one."""
    collected = ["It hangs."]

    def read():
        try:
            with dump_file.open_dump(dump_file.detect(path)) as stream:
                for _ in iter(stream.read, b""):
                    pass
            collected[0] = None
        except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
            collected[0] = error

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(300)
    return collected[0]


IN_LAYERS = {
    "zst in tar.gz": lambda data: tar(("dump.zst", by_tool("zstd", data)), mode="w:gz"),
    "zst in tar": lambda data: tar(("dump.zst", by_tool("zstd", data))),
    "zst in tar.xz": lambda data: tar(("dump.zst", by_tool("zstd", data)), mode="w:xz"),
    "zst in gz": lambda data: gzip.compress(by_tool("zstd", data)),
    "lz4 in bz2": lambda data: bz2.compress(by_tool("lz4", data)),
    "gz in zst in xz": lambda data: lzma.compress(by_tool("zstd", gzip.compress(data)), preset=0),
    "zst in zip": lambda data: zipped(("dump.zst", by_tool("zstd", data))),
}


@pytest.mark.parametrize("name", IN_LAYERS)
def test_what_is_cut_inside_its_layers_is_damaged(tmp_path, name):
    noise = base64.encodebytes(random.Random(1).getrandbits(8 * 700000).to_bytes(700000, "big"))
    data = IN_LAYERS[name](PLAIN.replace("élève\n".encode(), noise))
    path = tmp_path / "file"
    path.write_bytes(data)
    assert read_to_its_end(path) is None
    for share in (0.05, 0.3, 0.6, 0.95):
        path.write_bytes(data[: int(len(data) * share)])
        error = read_to_its_end(path)
        assert isinstance(error, SauvegardeError) and error.exit_code == Damaged.exit_code, (share, error)
    for share in () if "bz2" in name else (0.3, 0.6):  # bz2 gives some of a bad block out, which is no dump
        at = int(len(data) * share)
        path.write_bytes(data[:at] + bytes(64) + data[at + 64 :])
        error = read_to_its_end(path)
        assert isinstance(error, SauvegardeError) and error.exit_code == Damaged.exit_code, (share, error)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, None])
def test_only_a_full_disk_asks_for_space(tmp_path, monkeypatch, number):
    path = tmp_path / "file"
    data = bytearray(gzip.compress(tar(("dump/toc.dat", b"PGDMP"), ("dump/1.dat", b"rows"))))
    path.write_bytes(data)
    result = dump_file.detect(path)
    if number:

        def full(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(unpacking, "extract_folder", full)
    else:
        data[-8] ^= 1  # of the checksum
        path.write_bytes(data)
    with pytest.raises(SauvegardeError) as caught:
        unpacking.prepare(result, tmp_path)
    assert ("space" in caught.value.fix) == bool(number)
    assert (caught.value.exit_code == Damaged.exit_code) != bool(number)
