"""Two machines of one inventory name and one repository: neither forgets or hides what belongs to the other."""

import dataclasses
import json
import shutil
from dataclasses import replace
from unittest import mock

import pytest
import quick_restic
from sauvegarde import catalog, config
from sauvegarde.archive import machine_identity
from sauvegarde.backup import kinds
from sauvegarde.backup.kinds import sqlite
from sauvegarde.errors import SauvegardeError
from sauvegarde.offsite import offsite_copy, restic, snapshot_systems
from sauvegarde.offsite.repository import Repository
from sauvegarde.restore import archive_choice
from test_job_run import Host

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
ONE, TWO = "machine-1111111111111111", "machine-2222222222222222"
NIGHT = 1767312000  # seconds; a day's labels begin there


class Machine(Host):
    """A machine named `db1` with one job; `identifier` stands for its machine id, `server` for its cluster's."""

    def __init__(self, folder, vault, identifier, server=""):
        super().__init__(folder)
        self.vault, self.identifier, self.server = vault, identifier, server

    def back_up(self, night, **changes):
        """An archive with the label of that night, and the run's copy of it. Returns (label, synchronise's answer)."""
        job = self.configure(**dict({"retention": {"last": 2}}, **changes))
        dump = sqlite.dump
        named = (lambda *value: self._of_server(dump(*value))) if self.server else dump
        with (
            mock.patch.object(machine_identity, "machine", lambda: self.identifier),
            mock.patch.object(sqlite, "dump", named),
        ):
            manifest = kinds.back_up(job, str(self.root), now=NIGHT + 86400 * night)["id"]
            return manifest, offsite_copy.synchronize(self.vault, config.Job.from_values(job), kinds.silent)

    def _of_server(self, part):
        server = {"version": "17.0", "version_num": 170000, "system_identifier": self.server, "standby": False}
        return replace(part, source=dict(part.source, server=server))


@pytest.fixture()
def vault(tmp_path):
    (tmp_path / "private").mkdir()
    quick_restic.make(tmp_path / "vault", "x")
    values = {"name": "vault", "repository": str(tmp_path / "vault"), "password": "x"}
    folders = {"secrets_folder": str(tmp_path / "private"), "cache": str(tmp_path / "cache")}
    return dataclasses.replace(Repository.from_values(values), **folders)


def pair(tmp_path, vault, servers):
    return [
        Machine(tmp_path / name, vault, number, server)
        for name, number, server in zip(("one", "two"), (ONE, TWO), servers)
    ]


def untagged(vault):
    """Take the tags from all snapshots that those of versions before did not have."""
    restic.run(
        vault, ["tag", *(word for each in _tags(vault) for word in ("--remove", each)), "--tag", "sauvegarde"], "x"
    )


def _tags(vault):
    lines = json.loads(restic.run(vault, ["snapshots", "--json", "--no-lock"], "x").text)
    return sorted({tag for line in lines for tag in line["tags"] if tag.startswith(("system=", "former="))})


def snapshots_in(vault):
    return [(snapshot.id, snapshot.system) for snapshot in restic.newest_snapshots(vault)]


def test_another_cluster_under_the_name_is_refused_by_name(tmp_path, vault):
    """Also where the copies are of versions that did not tag them: their manifests name the cluster."""
    mine, other = "7300000000000000001", "7300000000000000002"
    first, second = pair(tmp_path, vault, (mine, other))
    label, _ = first.back_up(1)
    untagged(vault)
    (first.state / machine_identity.FILE).unlink()
    for night in (0, 5):  # before and after what is there
        with pytest.raises(SauvegardeError) as caught:
            second.back_up(night, retention={"last": 1})
        error = caught.value
        assert f"This system is {other}." in error.why and f"are of {mine} (1 archives, {label}" in error.why
        assert f'replaces: ["{mine}"]' in error.fix and "another name" in error.fix
    assert snapshots_in(vault) == [(label, "")], "nothing is copied, nothing forgotten"
    label, done = first.back_up(6, retention={"last": 1})
    assert snapshots_in(vault) == [(label, mine)] and done.warnings == [], "the first one goes on as before"
    label, _ = second.back_up(7, replaces=[mine], retention={"last": 1})
    assert snapshots_in(vault) == [(label, other)], "in the other's place its retention holds for both"


def test_machines_without_a_server_are_distinguished_and_unknown_copies_stay(tmp_path, vault):
    first, second = pair(tmp_path, vault, ("", ""))
    label, _ = first.back_up(1)
    with pytest.raises(SauvegardeError, match="another system") as caught:
        second.back_up(0)
    assert ONE in caught.value.why and TWO in caught.value.why and snapshots_in(vault) == [(label, ONE)]
    # Without tags nothing says whose it is: it is neither refused nor forgotten, and does not keep new ones out.
    untagged(vault)
    later, done = second.back_up(2, retention={"last": 1})
    assert snapshots_in(vault)[0] == (label, "") and snapshots_in(vault)[-1] == (later, TWO)
    assert "restic forget" in done.warnings[0]
    # Its own machine knows it by the manifest in its folder.
    known = machine_identity.Identities(first.state)
    known.machine = ONE
    present = snapshot_systems.identify(vault, "db1", "demo", known, first.directory)
    assert sorted({snapshot.system for snapshot in present}) == [ONE, TWO]


def test_a_cluster_that_was_upgraded_goes_on(tmp_path, vault):
    """It has a new identifier, and the copies of the old one age as they did."""
    host = Machine(tmp_path / "one", vault, ONE, "7300000000000000001")
    host.back_up(1)
    host.server = "7300000000000000002"
    label, done = host.back_up(2, retention={"last": 1})
    assert snapshots_in(vault) == [(label, host.server)] and len(done.forgotten) == 1
    # Of a new machine nobody knows whether it took the other's place.
    (host.state / machine_identity.FILE).unlink()
    shutil.rmtree(str(host.directory))
    host.directory.mkdir(mode=0o700)
    host.server = "7300000000000000003"
    with pytest.raises(SauvegardeError, match="another system"):
        host.back_up(3)


def test_the_repositorys_own_host_counts_each_machines_archives(tmp_path, vault):
    """Two machines have copied before their systems were compared."""
    host = Host(tmp_path / "one")
    job = host.configure()
    for night, system in ((1, ONE), (2, TWO), (3, ONE)):
        label = kinds.back_up(job, str(host.root), now=NIGHT + 86400 * night)["id"]
        offsite_copy.copy_archive(vault, config.Job.from_values(job), host.directory / label, system, ())
    entries = [entry.as_dict() for entry in catalog.remote(vault)]
    assert [each["system"] for each in entries] == [ONE, TWO, ONE]
    with pytest.raises(SauvegardeError, match="Two machines of one name") as caught:
        archive_choice.choose(entries, str(host.database), kinds=("sqlite",))
    assert ONE in caught.value.why and TWO in caught.value.why
    chosen = archive_choice.choose(entries, str(host.database), entries[1]["id"], kinds=("sqlite",))
    assert chosen["system"] == TWO
    policies = [{"host": "db1", "job": "demo", "retention": {"last": 1}}]
    (done,) = offsite_copy.forget_for_others(vault, policies, kinds.silent)
    assert len(done["forgotten"]) == 1 and [system for _, system in snapshots_in(vault)] == [TWO, ONE]


def test_a_real_cluster_is_named_by_its_system(cluster, database, tmp_path, vault):
    host = Host(tmp_path / "one")
    job = host.configure(kind="pg_dump", database=database, connection=cluster.values)
    manifest = kinds.back_up(job, str(host.root))
    offsite_copy.synchronize(vault, config.Job.from_values(job), kinds.silent)
    ((_, system),) = snapshots_in(vault)
    assert system == manifest["source"]["server"]["system_identifier"] and system.isdigit()
    assert [entry.system for entry in catalog.local(host.root, "db1")] == [system]
