"""Prepare the test lab: podman hosts with systemd, sshd, cron and apt, reached over SSH as real hosts are.

Molecule creates and removes the hosts (molecule/_shared). This module provides what it needs for that: the packages
and limits of this machine, the images, a key.

As a script, for the playbooks: ``python -m sauvegarde_cli.lab prepare SCENARIO RELEASE...`` (its last line is JSON) and
``... remove SCENARIO``, which first notes what runs on the hosts for docs/supported.md.
"""

import fcntl
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sauvegarde_cli import supported
from sauvegarde_cli.podman import LabFailed, hosts, remove, require_root, run, tail
from sauvegarde_cli.system import ROOT, CommandFailed, install_packages, tool_environment
from sauvegarde_cli.terminal import say

VERSIONS = yaml.safe_load((ROOT / "roles/postgresql/vars/main/versions.yml").read_text())
UNSTABLE = "sid"  # with experimental, which has PostgreSQL's next version; no release of the roles
# The releases of the lab, oldest first.
RELEASES = (
    *(name for name, release in VERSIONS["__postgresql_release_table"].items() if release.get("lab")),
    UNSTABLE,
)
DEFAULT_RELEASE = "bookworm"
# Their systemd (258 and later) does not boot where the machine has cgroups version 1: their hosts run sshd alone there.
NEED_CGROUPS_2 = ("forky", UNSTABLE)
MIRROR_SETTING = "SAUVEGARDE_DEBIAN_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
IMAGE = "localhost/sauvegarde-lab"
IMAGE_LABEL = "sauvegarde.image=lab"
SCRATCH = Path("/var/tmp/sauvegarde-lab")  # A root directory takes more room than /tmp may have.

# Packages that an installed server has beyond the essential ones, without those that a role installs (acl, psycopg2).
PACKAGES = (
    "ca-certificates", "cron", "dbus", "iproute2", "kmod", "less", "libpam-systemd", "logrotate", "netbase",
    "openssh-server", "passwd", "procps", "python3", "python3-apt", "sudo", "systemd", "systemd-sysv", "tzdata",
)  # fmt: skip

# The first process of a host without systemd: it starts sshd, and waits for whatever has lost its parent.
SSH_ALONE = """trap 'exit 0' TERM
key=/etc/ssh/ssh_host_ed25519_key
test -s $key || ssh-keygen -q -t ed25519 -N '' -f $key
mkdir -p /run/sshd
/usr/sbin/sshd
while :; do sleep infinity & wait $!; done"""

# Settings of this machine's apt that an image needs too, where they are set: a mirror that is frozen or behind a proxy.
APT_SETTINGS = (
    "Acquire::Check-Date", "Acquire::Check-Valid-Until", "Acquire::http::Proxy", "Acquire::https::Proxy",
)  # fmt: skip

# Package and what shows that it is there: a command, or one of these files.
NEEDS = (
    ("podman", ("podman",)),
    ("netavark", ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")),
    ("aardvark-dns", ("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns")),
    # netavark's rules are made with the one up to 1.12, with the other since.
    ("iptables", ("iptables",)),
    ("nftables", ("nft",)),
    ("mmdebstrap", ("mmdebstrap",)),
    ("debian-archive-keyring", (KEYRING,)),
    ("openssh-client", ("ssh-keygen",)),
)


# This machine ---------------------------------------------------------------------------------------------------------


def legacy_cgroups() -> bool:
    """Return whether this machine still has cgroups version 1 or both: crun and systemd need to be told."""
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def missing_packages() -> list[str]:
    """Return the Debian packages whose tools this machine lacks."""
    needs = (*NEEDS, ("runc", ("runc",))) if legacy_cgroups() else NEEDS
    return [
        package
        for package, signs in needs
        if not any(Path(sign).exists() if sign.startswith("/") else shutil.which(sign) for sign in signs)
    ]


def ensure_needs() -> None:
    """Install what the lab needs on this machine, and check that containers can run on it.

    Raises CommandFailed (a package cannot be installed) or LabFailed.
    """
    require_root()
    missing = missing_packages()
    if missing:
        install_packages(missing, "the lab")
    try:
        backend = run("podman", "info", "--format", "{{.Host.NetworkBackend}}").strip()
    except LabFailed as error:
        raise LabFailed(f"podman does not work on this machine, so there can be no lab.\n  {error}") from error
    if backend != "netavark":
        raise LabFailed(
            f"podman's network backend here is {backend!r}; the hosts find each other by name with netavark only.\n"
            '  Fix: write network_backend = "netavark" under [network] in /etc/containers/containers.conf, then\n'
            "  remove the containers and networks that this machine has (podman system reset)."
        )


def limits(capable: bool, hard_files: int, hard_processes: int, pid_max: int) -> list[str]:
    """Return podman's --ulimit values: none where root may raise limits, else the most that can be given.

    podman gives a container more than its own limits, and lowers its own number of processes to the kernel's pid_max
    first; without CAP_SYS_RESOURCE no container starts then.
    """
    if capable:
        return []
    files = 1048576 if hard_files == resource.RLIM_INFINITY else min(hard_files, 1048576)
    processes = pid_max if hard_processes == resource.RLIM_INFINITY else min(hard_processes, pid_max)
    return [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]


def machine_limits() -> list[str]:
    """Return the `limits` of this machine."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return limits(
        capable=bool(int(status["CapEff"], 16) >> 24 & 1),  # CAP_SYS_RESOURCE
        hard_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        hard_processes=resource.getrlimit(resource.RLIMIT_NPROC)[1],
        pid_max=int(Path("/proc/sys/kernel/pid_max").read_text()),
    )


# Images ---------------------------------------------------------------------------------------------------------------


def parse_mirrors(targets: str) -> tuple[str, str | None] | None:
    """Return (main URI, security URI or None) of Debian in the lines "ORIGIN|CODENAME|URI", or None."""
    main: str | None = None
    security: str | None = None
    for line in targets.splitlines():
        origin, codename, uri = line.split("|", 2)
        if origin != "Debian":
            continue
        if codename.endswith("-security"):
            security = security or uri
        elif codename and "-" not in codename:
            main = main or uri
    return (main, security) if main else None


def plain_uri(uri: str) -> str:
    """Return the URI itself, or the first mirror of a file of mirrors (Debian's cloud images have such files)."""
    if uri.startswith("mirror+file:"):
        lines = Path(uri.removeprefix("mirror+file:")).read_text().splitlines()
        return next(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))
    return uri


def mirrors(environ: Mapping[str, str] = os.environ) -> tuple[str, str | None]:
    """Return the Debian archive to build from: (main URI, security URI or None)."""
    setting = environ.get(MIRROR_SETTING, "").split()
    if setting:
        return setting[0], setting[1] if len(setting) > 1 else None
    ask = ("apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages")
    targets = run(*ask)
    if not targets.strip():
        run("apt-get", "-q", "update", check=False)
        targets = run(*ask)
    archive = parse_mirrors(targets)
    if not archive:
        raise LabFailed(
            "This machine's apt has no Debian archive to build lab hosts from.\n"
            f"  Fix: set {MIRROR_SETTING} to one (and, behind a space, to its security archive), as in\n"
            f'    {MIRROR_SETTING}="http://mirror.example.org/debian http://mirror.example.org/debian-security"'
        )
    main, security = archive
    return plain_uri(main), plain_uri(security) if security else None


def parse_settings(dump: str) -> list[str]:
    """Return the lines `Name "value";` of apt's settings that an image needs."""
    return [line for line in dump.splitlines() if line.split(" ")[0] in APT_SETTINGS and not line.endswith(' "";')]


def sources(release: str, main: str, security: str | None) -> list[str]:
    """Return apt's source lines for a release. The oldest one's archive is no longer signed, so its date is ignored."""
    options = f"signed-by={KEYRING}" + (" check-valid-until=no" if release == RELEASES[0] else "")
    if release == UNSTABLE:
        return [f"deb [{options}] {main} {suite} main" for suite in (UNSTABLE, "experimental")]
    suites = [(main, release), (main, f"{release}-updates")]
    if security:
        suites.append((security, f"{release}-security"))
    return [f"deb [{options}] {uri} {suite} main" for uri, suite in suites]


def boot(release: str, legacy: bool) -> dict[str, list[str]]:
    """Return what starts a host of this release, and what prints `running` on it when it has started.

    legacy: whether the machine has cgroups version 1.
    """
    if legacy and release in NEED_CGROUPS_2:
        return {"command": ["/bin/bash", "-c", SSH_ALONE], "ask": ["sh", "-c", "test -s /run/sshd.pid && echo running"]}
    # systemd from 256 on boots on cgroups version 1 only where its "kernel command line" says so.
    command = ["/sbin/init", *(["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"] if legacy else [])]
    return {"command": command, "ask": ["timeout", "120", "systemctl", "is-system-running", "--wait"]}


def recipe(release: str, settings: Sequence[str], main: str, security: str | None) -> list[str]:
    """Return the command that writes a release's root directory to standard output, as a list of words."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=tar",
        "--skip=cleanup/apt",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=force-unsafe-io",  # Hosts live minutes: nothing on them must survive a power cut.
        *(f"--aptopt={line}" for line in settings),
        f"--customize-hook={ROOT / 'molecule/_shared/image.sh'}",
        release,
        "-",
        *sources(release, main, security),
    ]


def recipe_hash(words: Iterable[str], script: bytes) -> str:
    """Return twelve digits that change with the recipe: its words, without the checkout's path, and its script."""
    digest = hashlib.sha256(script)
    for word in words:
        digest.update(b"\0" + word.replace(str(ROOT), "").encode())
    return digest.hexdigest()[:12]


def tagged(release: str) -> list[str]:
    """Return the tags of a release's images."""
    tags = run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    return [tag for tag in tags if tag.startswith(f"{IMAGE}:{release}-")]


def build(words: Sequence[str], tag: str) -> None:
    """Build an image from a recipe. It gets its name only when both ends of the pipe have succeeded.

    Removes the remains of a killed build first: only one build runs at a time.
    """
    shutil.rmtree(SCRATCH, ignore_errors=True)
    run("podman", "image", "prune", "--force", "--filter", f"label={IMAGE_LABEL}")
    SCRATCH.mkdir(mode=0o755)
    environ = {**os.environ, "TMPDIR": str(SCRATCH)}
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
    ) as maker:
        loader = subprocess.Popen(
            ["podman", "import", "--quiet", "--change", f"LABEL {IMAGE_LABEL}", "-"],
            stdin=maker.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        assert maker.stdout is not None and maker.stderr is not None
        maker.stdout.close()
        error = maker.stderr.read().decode(errors="replace")
    image, import_error = loader.communicate()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    if maker.returncode or loader.returncode:
        raise LabFailed(
            f"The image {tag} could not be built.\n    {tail(error if maker.returncode else import_error)}\n"
            f"  Fix: see that the archive in its sources can be reached, or set {MIRROR_SETTING} to one that can."
        )
    run("podman", "tag", image.strip(), tag)


def ensure_image(release: str, words: Sequence[str]) -> str:
    """Return the tag of a release's image, built first unless one of the current recipe exists."""
    script = (ROOT / "molecule/_shared/image.sh").read_bytes()
    tag = f"{IMAGE}:{release}-{recipe_hash(words, script)}"
    with Path("/run/sauvegarde-lab.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        images = tagged(release)
        if tag not in images:
            say(f"Building the image of {release}; less than a minute, until its recipe changes")
            build(words, tag)
            for old in images:
                run("podman", "rmi", old, check=False)
    return tag


def ensure_images(releases: Sequence[str] = RELEASES) -> dict[str, str]:
    """Build missing images; return {release: tag}."""
    require_root()
    for release in releases:
        if release not in RELEASES:
            raise LabFailed(f"There is no lab release {release!r}.\n  Fix: use one of {', '.join(RELEASES)}.")
    settings = parse_settings(run("apt-config", "dump"))
    archive = mirrors()
    return {release: ensure_image(release, recipe(release, settings, *archive)) for release in releases}


def prepare(scenario: str, releases: Sequence[str]) -> dict[str, Any]:
    """Prepare images and a key for the hosts of a scenario; return what create.yml needs."""
    require_root()
    ensure_needs()
    remove(scenario)
    images = ensure_images(releases)
    directory = ROOT / ".lab" / scenario
    for folder in (directory.parent, directory, Path.home() / ".ansible", Path.home() / ".ansible/cp"):
        folder.mkdir(mode=0o700, exist_ok=True)
    key = directory / "id_ed25519"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"sauvegarde-{scenario}", "-f", str(key))
    return {
        "directory": str(directory),
        "key": key.with_suffix(".pub").read_text(),
        "images": images,
        "ulimit": machine_limits(),
        "cmd_args": ["--runtime", "runc"] if legacy_cgroups() else [],
        "boot": {release: boot(release, legacy_cgroups()) for release in releases},
    }


# The command line's verbs ---------------------------------------------------------------------------------------------


def releases(scenario: str) -> list[str]:
    """Return the releases that a scenario's hosts run, each once."""
    path = ROOT / "molecule" / scenario / "molecule.yml"
    if not path.is_file():
        raise LabFailed(f"There is no scenario {scenario!r}.\n  Fix: use the name of a folder of molecule/.")
    platforms = yaml.safe_load(path.read_text())["platforms"]
    return list(dict.fromkeys(platform.get("release", DEFAULT_RELEASE) for platform in platforms))


def ready(scenario: str) -> None:
    """Build the images of a scenario before Molecule starts, which prints nothing until a step ends."""
    scenario_releases = releases(scenario)
    ensure_needs()
    ensure_images(scenario_releases)


def molecule_command(binaries: Path, command: str, scenario: str) -> list[str | Path]:
    """Return Molecule's command line. Molecule finds the shared configuration by itself only in a git checkout."""
    shared = ROOT / ".config/molecule/config.yml"
    return [binaries / "molecule", "--base-config", shared, command, "--scenario-name", scenario]


def molecule(command: str, scenario: str, quiet: bool = False) -> None:
    """Run a command of Molecule on a scenario, in the current environment. Raises LabFailed.

    `quiet` shows its output only when it fails.
    """
    binaries = Path(sys.prefix) / "bin"
    done = subprocess.run(
        molecule_command(binaries, command, scenario),
        cwd=ROOT,
        env=tool_environment(binaries),
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        why = f"its output:\n{done.stdout}" if quiet else "its output says why."
        raise LabFailed(f"molecule {command} of {scenario} ended with {done.returncode}; {why}")


def up(scenario: str, quiet: bool = False) -> None:
    """Start a scenario's hosts, unless they run already."""
    ready(scenario)
    standing = [one.state for one in hosts() if one.scenario == scenario]
    # Creation ends with this file.
    if standing and set(standing) == {"running"} and (ROOT / ".lab" / scenario / "ssh_config").exists():
        say(f"{scenario} is up already")
        return
    molecule("destroy", scenario, quiet)
    molecule("create", scenario, quiet)


def down(scenario: str | None = None) -> None:
    """Remove a scenario's hosts, or all of the lab, including scenarios that this checkout does not have."""
    require_root()
    scenarios = {one.scenario for one in hosts()} | {path.name for path in ROOT.glob(".lab/*")}
    for name in [scenario] if scenario else sorted(scenarios):
        if (ROOT / "molecule" / name / "molecule.yml").is_file():
            molecule("destroy", name)
        else:
            remove(name)


def main(arguments: Sequence[str]) -> None:
    """Run the script's own command line. Raises LabFailed."""
    match arguments:
        case ["prepare", scenario, *scenario_releases]:
            print(json.dumps(prepare(scenario, scenario_releases)))
        case ["remove", scenario]:
            supported.leave_survey(scenario)
            remove(scenario)
        case _:
            raise LabFailed(f"usage: prepare SCENARIO RELEASE... | remove SCENARIO; not {arguments}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LabFailed as failure:
        sys.exit(f"lab: {failure}")
    except CommandFailed as failure:
        sys.exit(f"lab: {failure.what}\n  Why: {failure.why}\n  Fix: {failure.fix}")
