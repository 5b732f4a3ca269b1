"""The lab's own decisions: mirrors, images' names, limits, the inventory of what stands."""

import json
import subprocess
from pathlib import Path

import pytest

from sauvegarde_cli import lab, podman

TARGETS = """\
Debian|bookworm|http://mirror.example.org/debian/
Debian|bookworm-updates|http://mirror.example.org/updates/
Debian|bookworm-security|http://mirror.example.org/debian-security/
Debian Backports|bookworm-backports|http://mirror.example.org/backports/
packages.example.org|stable|http://packages.example.org/
"""


@pytest.mark.parametrize(
    "lines, result",
    [
        (TARGETS, ("http://mirror.example.org/debian/", "http://mirror.example.org/debian-security/")),
        ("Debian|trixie|http://a.example.org/\n", ("http://a.example.org/", None)),
        ("Ubuntu|noble|http://a.example.org/ubuntu/\nUbuntu|noble-security|http://b.example.org/\n", None),
        ("Debian|bookworm-security|http://mirror.example.org/debian-security/\n", None),
        ("", None),
    ],
)
def test_mirrors_are_the_main_and_security_archives_of_debian(lines, result):
    assert lab.parse_mirrors(lines) == result


def apt_that_knows(monkeypatch, targets):
    calls = []

    def run(*words, **options):
        calls.append(words)
        return targets if words[1] == "indextargets" else ""

    monkeypatch.setattr(lab, "run", run)
    return calls


def test_the_setting_goes_before_the_machines_mirror(monkeypatch):
    calls = apt_that_knows(monkeypatch, TARGETS)
    assert lab.mirrors({lab.MIRROR_SETTING: "http://a.example.org/d"}) == ("http://a.example.org/d", None)
    assert lab.mirrors({lab.MIRROR_SETTING: "http://a.example.org/d http://a.example.org/s"})[1].endswith("/s")
    assert not calls


def test_no_debian_mirror_names_the_setting(monkeypatch):
    apt_that_knows(monkeypatch, "Ubuntu|noble|http://a.example.org/ubuntu/\n")
    with pytest.raises(lab.LabFailed, match=lab.MIRROR_SETTING):
        lab.mirrors({})


def test_empty_package_lists_are_fetched_once(monkeypatch):
    calls = apt_that_knows(monkeypatch, "")
    with pytest.raises(lab.LabFailed):
        lab.mirrors({})
    assert [words[-1] for words in calls].count("update") == 1


def test_a_mirror_list_gives_its_first_mirror(tmp_path):
    listed = tmp_path / "debian.list"
    listed.write_text("# comment\n\nhttps://first.example.org/debian\tpriority:1\nhttps://second.example.org/debian\n")
    assert lab.plain_uri(f"mirror+file:{listed}") == "https://first.example.org/debian"
    assert lab.plain_uri("http://plain.example.org/") == "http://plain.example.org/"


def test_an_image_takes_apts_settings_that_matter_and_no_others():
    dump = (
        'APT::Architecture "amd64";\nAcquire::Check-Valid-Until "false";\nAcquire::http "";\n'
        'Acquire::http::Proxy "http://proxy.example.org:3128";\nAcquire::https::Proxy "";\n'
    )
    assert lab.parse_settings(dump) == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example.org:3128";',
    ]


def test_sources_of_each_release():
    assert lab.sources("trixie", "http://m/", "http://s/") == [
        f"deb [signed-by={lab.KEYRING}] http://m/ trixie main",
        f"deb [signed-by={lab.KEYRING}] http://m/ trixie-updates main",
        f"deb [signed-by={lab.KEYRING}] http://s/ trixie-security main",
    ]
    assert all("check-valid-until=no" in line for line in lab.sources("bullseye", "http://m/", None))
    assert len(lab.sources("bullseye", "http://m/", None)) == 2


def test_an_images_name_changes_with_its_recipe_and_not_with_the_checkouts_place(monkeypatch):
    def name(settings=(), main="http://m/", script=b"script", root="/a/clone", release="trixie"):
        monkeypatch.setattr(lab, "ROOT", Path(root))
        return lab.recipe_hash(lab.recipe(release, settings, main, None), script)

    assert name() == name(root="/another/place")
    names = [
        name(),
        name(settings=['Acquire::Check-Date "false";']),
        name(main="http://n/"),
        name(script=b"script 2"),
        name(release="bookworm"),
    ]
    assert len(set(names)) == len(names)
    assert all(len(digest) == 12 for digest in names)


def test_unknown_release_is_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(lab, "require_root", lambda: None)
    monkeypatch.setattr(lab, "run", lambda *words, **options: pytest.fail(f"ran {words}"))
    with pytest.raises(lab.LabFailed, match=r"woody.*\n.*bullseye, bookworm, trixie"):
        lab.ensure_images(["woody"])


@pytest.mark.parametrize(
    "capable, files, processes, expected",
    [
        (True, 20000, 90000, []),
        (False, 20000, 90000, ["nofile=20000:20000", "nproc=32768:32768"]),
        (False, lab.resource.RLIM_INFINITY, 4096, ["nofile=1048576:1048576", "nproc=4096:4096"]),
        (False, 4194304, lab.resource.RLIM_INFINITY, ["nofile=1048576:1048576", "nproc=32768:32768"]),
    ],
)
def test_limits_are_given_only_where_root_may_not_raise_them(capable, files, processes, expected):
    assert lab.limits(capable, files, processes, pid_max=32768) == expected


@pytest.fixture
def fake_podman(monkeypatch, tmp_path):
    """A podman that answers every call by printing `image`, ends with the number in `status`, and keeps `calls`."""
    program = tmp_path / "bin" / "podman"
    program.parent.mkdir()
    (tmp_path / "status").write_text("0")
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
        f'test "$1" != import || {{ cat > /dev/null; echo image; exit "$(cat {tmp_path}/status)"; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(lab, "SCRATCH", tmp_path / "scratch")
    return tmp_path


def test_an_image_gets_its_name_when_both_ends_of_the_pipe_succeed(fake_podman):
    (fake_podman / "scratch").mkdir()
    (fake_podman / "scratch" / "left by a killed build").touch()
    lab.build(["sh", "-c", 'test -z "$(ls "$TMPDIR")"'], "localhost/x:1")
    assert (fake_podman / "calls").read_text().splitlines()[-1] == "tag image localhost/x:1"
    assert not (fake_podman / "scratch").exists()


@pytest.mark.parametrize("maker, loader", [(3, 0), (0, 4)])
def test_a_failed_build_leaves_no_name(fake_podman, maker, loader):
    (fake_podman / "status").write_text(str(loader))
    with pytest.raises(lab.LabFailed, match=f"localhost/x:1 could not be built(.|\n)*{lab.MIRROR_SETTING}"):
        lab.build(["sh", "-c", f"exit {maker}"], "localhost/x:1")
    assert "tag " not in (fake_podman / "calls").read_text()


def test_a_release_whose_systemd_cannot_boot_runs_sshd_alone():
    assert lab.boot("forky", legacy=True)["command"][0] == "/bin/bash"
    assert lab.boot("forky", legacy=False)["command"] == ["/sbin/init"]
    assert lab.boot("trixie", legacy=True)["command"][0] == "/sbin/init"
    assert set(lab.NEED_CGROUPS_2) < set(lab.RELEASES)


def test_the_unstable_release_has_experimental_and_no_updates():
    suites = [line.split()[-2] for line in lab.sources("sid", "http://a.example.org/", "http://b.example.org/")]
    assert suites == ["sid", "experimental"]


def test_what_the_machine_lacks_is_reported_by_debians_names(monkeypatch):
    monkeypatch.setattr(lab, "NEEDS", (("a", ("tool-a",)), ("b", ("/nonexistent/b", "/dev/null")), ("c", ("/no/c",))))
    monkeypatch.setattr(lab.shutil, "which", lambda name: None)
    monkeypatch.setattr(lab, "legacy_cgroups", lambda: False)
    assert lab.missing_packages() == ["a", "c"]
    monkeypatch.setattr(lab, "legacy_cgroups", lambda: True)
    assert lab.missing_packages() == ["a", "c", "runc"]


@pytest.mark.parametrize("backend, works", [("netavark", True), ("cni", False)])
def test_only_a_podman_whose_hosts_find_each_other_will_do(monkeypatch, backend, works):
    monkeypatch.setattr(lab, "require_root", lambda: None)
    monkeypatch.setattr(lab, "missing_packages", list)
    monkeypatch.setattr(lab, "run", lambda *words: f"{backend}\n")
    if works:
        lab.ensure_needs()
    else:
        with pytest.raises(lab.LabFailed, match=r"'cni'(.|\n)*network_backend"):
            lab.ensure_needs()


def test_releases_of_a_scenario_and_of_one_that_is_not_there(monkeypatch, tmp_path):
    scenario = tmp_path / "molecule" / "two"
    scenario.mkdir(parents=True)
    (scenario / "molecule.yml").write_text("platforms: [{name: a}, {name: b, release: trixie}, {name: c}]\n")
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    assert lab.releases("two") == ["bookworm", "trixie"]
    with pytest.raises(lab.LabFailed, match="no scenario 'three'"):
        lab.releases("three")


def standing(scenario, name, state="running", groups=()):
    """podman's description of a host, as far as it is read."""
    return {
        "Config": {
            "Labels": {
                "sauvegarde.scenario": scenario,
                "sauvegarde.platform": name,
                "sauvegarde.release": "bookworm",
                "sauvegarde.groups": " ".join(groups),
                "sauvegarde.directory": f"/checkout/.lab/{scenario}",
                "sauvegarde.ssh": f"-F /checkout/.lab/{scenario}/ssh_config",
            }
        },
        "NetworkSettings": {"Networks": {f"sauvegarde-{scenario}": {"IPAddress": "192.0.2.7"}}},
        "State": {"Status": state},
    }


def test_inventory_reaches_what_runs_grouped_by_scenario_release_and_own_groups():
    collected = [
        podman.host(standing("two-sites", "db1", groups=["production", "databases"])),
        podman.host(standing("two-sites", "db2", state="exited")),
    ]
    assert podman.inventory(collected) == {
        "two_sites": {"hosts": ["db1"]},
        "bookworm": {"hosts": ["db1"]},
        "production": {"hosts": ["db1"]},
        "databases": {"hosts": ["db1"]},
        "_meta": {
            "hostvars": {
                "db1": {
                    "ansible_host": "192.0.2.7",
                    "ansible_user": "admin",
                    "ansible_ssh_private_key_file": "/checkout/.lab/two-sites/id_ed25519",
                    "ansible_ssh_common_args": "-F /checkout/.lab/two-sites/ssh_config",
                }
            }
        },
    }


def test_inventory_tells_hosts_of_one_name_and_groups_of_a_hosts_name_apart():
    inventory = podman.inventory([podman.host(standing(name, "db1")) for name in ("a", "b")])
    assert sorted(inventory["_meta"]["hostvars"]) == ["a-db1", "b-db1"]
    inventory = podman.inventory([podman.host(standing("debian", "bookworm"))])
    assert sorted(inventory) == ["_meta", "debian"]


def test_a_host_removed_meanwhile_does_not_hide_the_others(monkeypatch):
    monkeypatch.setattr(podman.os, "geteuid", lambda: 0)
    monkeypatch.setattr(podman.shutil, "which", lambda name: f"/usr/bin/{name}")

    def podman_command(words, **options):
        if words[1] == "ps":
            return subprocess.CompletedProcess(words, 0, "1\n2\n", "")
        return subprocess.CompletedProcess(words, 125, json.dumps([standing("a", "db1")]), "no such container 2")

    monkeypatch.setattr(podman.subprocess, "run", podman_command)
    assert [one.host for one in podman.hosts()] == ["db1"]


@pytest.mark.parametrize("name", ["../..", "/etc", "a b", ""])
def test_only_a_plain_name_is_removed(monkeypatch, name):
    monkeypatch.setattr(podman, "require_root", lambda: None)
    monkeypatch.setattr(podman.shutil, "rmtree", lambda *args, **options: pytest.fail(f"removed {args}"))
    with pytest.raises(podman.LabFailed, match="is no scenario's name"):
        podman.remove(name)


def test_who_is_not_root_gets_that_reason(monkeypatch):
    monkeypatch.setattr(podman.os, "geteuid", lambda: 1000)
    with pytest.raises(podman.LabFailed, match=r"as root(.|\n)*sudo"):
        podman.hosts()


def test_a_tools_own_error_is_kept():
    with pytest.raises(podman.LabFailed, match=r"ended with 3(.|\n)*its own words"):
        podman.run("sh", "-c", "echo its own words >&2; exit 3")
    with pytest.raises(podman.LabFailed, match="does not start: No such file"):
        podman.run("/nonexistent/tool")
