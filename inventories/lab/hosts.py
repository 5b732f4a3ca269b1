#!/usr/bin/env python3
"""Inventory of the lab's running hosts, grouped by scenario and by Debian release."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from sauvegarde_cli import podman

try:
    print(json.dumps(podman.inventory(podman.hosts())))
except podman.LabFailed as failure:
    sys.exit(str(failure))
