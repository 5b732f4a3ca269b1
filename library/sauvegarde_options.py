#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work."""

DOCUMENTATION = r"""
module: sauvegarde_options
short_description: Check the options of a playbook before it does anything
description:
  - C(playbooks/options/NAME.yml) declares the options of a playbook, in the form of a role's argument specs.
  - Refuses an extra variable that begins as these do and is an option of no playbook, a required option that is
    missing, and a value of the wrong type. Warns about an option of another playbook.
author: Sauvegarde
options:
  playbook:
    description: Name of the playbook, without its suffix.
    type: str
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Check the options
  sauvegarde_options:
    playbook: restore
"""

RETURN = r"""
run:
  description: A word that no other run has, for the names of what this run creates.
  returned: always
  type: str
"""
