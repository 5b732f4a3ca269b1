#!/usr/bin/env python3
"""The sample site's manage.py: its settings come from the environment file beside it, or the one SITE_ENV names."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cap.settings")
    execute_from_command_line(sys.argv)
