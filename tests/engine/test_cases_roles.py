"""What the roles ask of the engine on hosts that others set up: stored passwords, and folders that refuse chown."""

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from sauvegarde import catalog
from sauvegarde import config as settings
from sauvegarde.archive import ids
from sauvegarde.backup import uncovered_databases
from sauvegarde.offsite import restic
from sauvegarde.offsite.repository import Repository
from sauvegarde.postgres import passwords
from sauvegarde.system import job_folders, process

USER, OTHER = "postgres", "nobody"


# Passwords ------------------------------------------------------------------------------------------------------------

PASSWORDS = [
    "canary",
    'it\'s \\ "quoted" $1',
    "canary-🦆",  # newer than SASLprep's Unicode: the server takes the bytes as they are
    "é",
    "e\u0301",  # composed by SASLprep
    "a\u00a0b",  # a space to SASLprep
    "a\u00adb",  # nothing to SASLprep
    "ﬁn",
    "\u0627b",  # of two directions: not allowed, so as it is
    "\u0627\u0628",
    "a\u0007b",
    "\u00ad",  # nothing is left of it
    "x" * 300,
]


@pytest.mark.parametrize("form", ["md5", "scram-sha-256"])
def test_passwords_are_known_as_the_server_stores_them(cluster, form):
    with cluster.connect() as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        try:
            cursor.execute(f"SET password_encryption = '{form}'")
            for password in PASSWORDS:
                cursor.execute("CREATE ROLE stored LOGIN PASSWORD %s", (password,))
                cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'stored'")
                (result,) = cursor.fetchone()
                assert result.startswith({"md5": "md5", "scram-sha-256": "SCRAM-SHA-256$"}[form])
                assert passwords.matches(result, password, "stored"), repr(password)
                assert not passwords.matches(result, password + "!", "stored"), repr(password)
                assert passwords.matches(result, result, "stored")
                cursor.execute("DROP ROLE stored")
        finally:
            cursor.execute("DROP ROLE IF EXISTS stored")
    connection.close()


def test_a_role_without_a_password_has_none_of_them():
    assert not passwords.matches(None, "canary", "stored")
    assert passwords.matches(None, "", "stored")


# Folders --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place():
    """A folder of root's that everybody may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        pytest.skip(f"there is no user {USER}")
    where = Path(tempfile.mkdtemp(prefix="sauvegarde-test-", dir="/var/tmp"))
    where.chmod(0o755)
    yield where
    shutil.rmtree(str(where))


@pytest.fixture
def no_chown(monkeypatch):
    """A file system as NFS with root_squash: chown is refused."""

    def refuse(_descriptor, _uid, _gid):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)


def owned(path, user, mode=0o755):
    """The folder, made and given to the user by a shell, which no monkeypatch reaches."""
    path.mkdir()
    path.chmod(mode)
    process.run(["chown", user, str(path)])
    return path


def shown(path):
    """(owner, mode) of a folder."""
    status = path.lstat()
    return pwd.getpwuid(status.st_uid).pw_name, stat.S_IMODE(status.st_mode)


def jobs(*users):
    return [{"name": f"job{number}", "user": user} for number, user in enumerate(users)]


def texts(directory, expected):
    return " ".join(str(problem) for problem in job_folders.problems(directory, expected))


def test_folders_are_made_and_given_away_once(place):
    base = place / "deep" / "archives"
    expected = jobs(USER, OTHER)
    assert job_folders.problems(base, expected) == []
    assert job_folders.ensure(base, expected, check=True) == [str(base / "job0"), str(base / "job1")]
    assert list(place.iterdir()) == []
    assert job_folders.ensure(base, expected) == [str(base / "job0"), str(base / "job1")]
    assert [shown(each) for each in (base, base / "job0", base / "job1")] == [
        ("root", 0o755),
        (USER, 0o700),
        (OTHER, 0o700),
    ]
    assert job_folders.ensure(base, expected) == []


def test_a_folder_that_is_another_s_or_open_is_made_the_job_s(place):
    base = owned(place / "archives", "root")
    owned(base / "job0", OTHER)
    owned(base / "job1", USER, 0o755)
    assert len(job_folders.ensure(base, jobs(USER, USER))) == 2
    assert [shown(base / name) for name in ("job0", "job1")] == [(USER, 0o700)] * 2


@pytest.mark.parametrize("at", ["job0", job_folders._PROBE])
def test_a_link_that_is_put_in_the_place_of_a_folder_is_not_followed(place, monkeypatch, at):
    """The job's user owns the folder of the archives, and is faster than root."""
    base, target = owned(place / "archives", USER), owned(place / "target", "root")
    give, swapped = job_folders._give, []

    def swap(path, *arguments):
        name = Path(path).name
        if name.startswith(at):
            (base / name).rmdir()
            (base / name).symlink_to(target)
            swapped.append(name)
        try:
            give(path, *arguments)
        finally:
            if name.startswith(job_folders._PROBE) and (base / name).is_symlink():
                (base / name).unlink()
                (base / name).mkdir()

    monkeypatch.setattr(job_folders, "_give", swap)
    with pytest.raises(job_folders.SauvegardeError) as raised:
        job_folders.ensure(base, jobs(USER))
    assert swapped and "cannot be" in str(raised.value)
    assert shown(target) == ("root", 0o755)


@pytest.mark.usefixtures("no_chown")
def test_where_chown_is_refused_a_user_that_can_write_makes_its_folder(place):
    base = owned(place / "archives", USER)
    assert job_folders.problems(base, jobs(USER, USER)) == []
    assert len(job_folders.ensure(base, jobs(USER, USER))) == 2
    assert [shown(base / name) for name in ("job0", "job1")] == [(USER, 0o700)] * 2
    assert job_folders.ensure(base, jobs(USER, USER)) == []


@pytest.mark.usefixtures("no_chown")
def test_where_chown_is_refused_a_single_user_makes_all_of_them(place):
    mount = owned(place / "mount", USER)
    base = mount / "archives"
    assert "it is not the only user" in texts(base, jobs(USER, OTHER))
    assert job_folders.problems(base, jobs(USER)) == []
    job_folders.ensure(base, jobs(USER))
    assert [shown(base), shown(base / "job0")] == [(USER, 0o755), (USER, 0o700)]


@pytest.mark.usefixtures("no_chown")
@pytest.mark.parametrize("user", [USER, "no-such-account"])
def test_where_nobody_can_make_it_that_is_reported_before(place, user):
    base = owned(place / "archives", "root")
    before = base.stat().st_mtime_ns
    options = texts(base, jobs(user))
    assert (
        f"The folder {base}/job0 cannot belong to {user}." in options
        and "root_squash" in options
        and f"uid={user}" in options
    )
    assert "Operation not permitted" in options
    assert list(base.iterdir()) == [] and base.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("owner", "mode", "why"),
    [
        ("root", 0o777, "could replace archives"),
        (OTHER, 0o755, "could replace archives"),
        ("root", 0o700, "cannot enter"),
    ],
)
def test_an_existing_folder_is_refused_rather_than_changed(place, owner, mode, why):
    base = owned(place / "archives", owner, mode)
    options = texts(base, jobs(USER))
    assert why in options and str(base) in options and "Fix: " in options
    assert shown(base) == (owner, mode)


def test_a_link_is_refused_with_the_path_behind_it(place):
    owned(place / "real", "root")
    (place / "archives").symlink_to(place / "real")
    assert f"the path that it leads to, {os.path.realpath(str(place / 'real'))}" in texts(
        place / "archives", jobs(USER)
    )


def test_an_account_that_is_still_to_come_is_no_problem(place):
    assert job_folders.problems(place / "archives", jobs("no-such-account")) == []


def test_archives_that_root_may_not_read_are_listed_as_their_owner(place, monkeypatch):
    owned(place / "job0", USER, 0o700)
    identifiers = ids.list_ids

    def squashed(directory):
        if os.geteuid() == 0:
            raise PermissionError(13, "Permission denied", str(directory))
        return identifiers(directory)

    monkeypatch.setattr(ids, "list_ids", squashed)
    owned(place / "job0" / "20260101T000000Z", USER, 0o700)
    (entry,) = catalog.local(place, "here")
    assert (entry.id, entry.verified) == ("20260101T000000Z", False)
    assert catalog.reader(place, "job0") == USER
    monkeypatch.undo()
    assert catalog.reader(place, "job0") == "root"


# Databases without a job ----------------------------------------------------------------------------------------------

LOCAL = [
    {},
    {"host": ""},
    {"host": "localhost"},
    {"host": "127.0.0.1", "port": 5432},
    {"host": "::1"},
    {"host": "/run"},
]


def test_a_server_of_this_host_is_one_however_jobs_reach_it(monkeypatch, tmp_path):
    described = {
        f"job{number}": settings.Job(
            f"job{number}",
            "pg_dump",
            USER,
            "db1",
            tmp_path,
            tmp_path / f"job{number}",
            options={"database": f"db{number}", "connection": connection},
        )
        for number, connection in enumerate([*LOCAL, {"port": 5433}, {"host": "db.example.org"}])
    }
    monkeypatch.setattr(settings, "job_names", lambda *_: sorted(described))
    monkeypatch.setattr(settings, "load_job", lambda name, *_: described[name])

    def covered(job):
        return sorted(name for each in uncovered_databases.databases_with_job(job) for name in each.literal_names())

    for number in range(len(LOCAL)):
        assert covered(described[f"job{number}"]) == [f"db{each}" for each in range(len(LOCAL))]
    assert covered(described["job6"]) == ["db6"] and covered(described["job7"]) == ["db7"]
    # What the jobs' last runs found is listed once.
    monkeypatch.setattr(uncovered_databases.job_state, "read", lambda _: {"without_job": ["forgotten", "db3"]})
    assert [each["server"] for each in uncovered_databases.listed() if each["database"] == "forgotten"] == [
        "/var/run/postgresql:5432",
        "/var/run/postgresql:5433",
        "db.example.org:5432",
    ]


# Offsite --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stderr", "says", "not_says"),
    [
        ("unable to create lock in backend: repository is already locked by PID 7", "restic unlock", "damaged"),
        ("Fatal: repository contains errors", "is damaged", "could not be checked"),
        ("ssh: @ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", "ssh_known_hosts", "damaged"),
        ("ssh: Host key verification failed.", "ssh_known_hosts", "damaged"),
        ("Fatal: dial tcp: lookup vault: no such host", "could not be checked", "damaged"),
    ],
)
def test_a_check_that_fails_says_what_it_found(monkeypatch, tmp_path, stderr, says, not_says):
    monkeypatch.setattr(process, "find", lambda _name: "restic")
    result = process.Result(["restic"], 1, b"", stderr, 0.0)
    monkeypatch.setattr(restic, "_run_once", lambda *_arguments: result)
    monkeypatch.setattr(process, "run", lambda *_arguments, **_how: result)
    monkeypatch.setattr(restic, "_PATIENCE", 0)
    vault = Repository("vault", "/srv/vault", "canary", secrets_folder=str(tmp_path))
    with pytest.raises(restic.SauvegardeError) as raised:
        restic.run(vault, ["check"], "The repository could not be checked; nothing is removed from it.", wait=0)
    text = str(raised.value)
    assert says in text and not_says not in text.replace(stderr, "")
