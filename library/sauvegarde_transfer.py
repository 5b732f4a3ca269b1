#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work."""

DOCUMENTATION = r"""
module: sauvegarde_transfer
short_description: Carry an archive between a host and the controller
description:
  - Goes through Ansible's own connection, piece by piece, so that hosts need no trust in one another and a privileged
    user's files stay that user's.
  - Complete files are skipped, a partial file is continued. The restore checks every checksum before use.
author: Sauvegarde
options:
  src:
    description: A file or a folder, on the host with V(pull), on the controller with V(push).
    type: path
    required: true
  dest:
    description: Where it goes, by its own whole name.
    type: path
    required: true
  direction:
    description: V(pull) from the host, V(push) to it.
    type: str
    choices: [pull, push]
    default: pull
attributes:
  check_mode:
    support: partial
    details: Says that it would carry something, without a look.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Bring the archive to the controller
  sauvegarde_transfer:
    src: "{{ chosen.archive.path }}"
    dest: "{{ playbook_dir }}/../.restore/{{ chosen.archive.id }}"
  become: true
"""

RETURN = r"""
bytes:
  description: Bytes that had to be carried.
  returned: always
  type: int
"""
