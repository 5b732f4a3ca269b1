"""Django's `dumpdata` and `loaddata` against ours on a lab host, with the sample site and a fixture of at least 90 MB;
`_fixtures.py` measures there.

An argument says how many offers the site has (12,500 by default).
"""

import shutil
import subprocess
import sys

import _host

from sauvegarde_cli.system import ROOT

SITE = ROOT / "molecule" / "_shared" / "site"
WHEELS = ROOT / ".cache" / "benchmark-wheels"
# Django finds PostGIS's own libraries; the host's Python makes the site's virtual environment.
PACKAGES = "python3-venv"
PYTHON = "3.11"


def fetch():
    """The site's packages for the host's Python: hosts have no package index."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    words = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    words += ["--python-version", PYTHON, "--implementation", "cp", "--dest", WHEELS]
    subprocess.run([*words, "--requirement", SITE / "requirements.txt"], check=True)


if __name__ == "__main__":
    fetch()
    _host.run("_fixtures.py", *sys.argv[1:2], packages=PACKAGES, brought=[SITE, WHEELS])
