"""What a site's start-up does to the process, as far as it needs no site."""

import subprocess
import sys
from pathlib import Path

MODULES = Path(__file__).resolve().parents[2] / "module_utils"
CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.django.worker import site_start
held = os.open("/dev/null", os.O_RDONLY)
site_start._keep_descriptors()
opened = os.open("/dev/null", os.O_RDONLY)
child = os.fork()
if child == 0:
    def is_open(descriptor):
        try:
            os.fstat(descriptor)
            return 1
        except OSError:
            return 0
    os._exit(is_open(held) * 2 + is_open(opened))
print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
"""


def test_a_child_of_the_site_loses_the_tasks_files_and_keeps_its_own():
    done = subprocess.run([sys.executable, "-c", CHILD, str(MODULES)], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"1\n"
