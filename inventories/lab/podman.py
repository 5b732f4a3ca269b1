#!/usr/bin/env python3
"""Inventory of the lab's running hosts, grouped by scenario and by Debian release."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from sauvegarde_cli import lab

try:
    print(json.dumps(lab.inventory(lab.hosts())))
except lab.LabFailed as failure:
    sys.exit(str(failure))
