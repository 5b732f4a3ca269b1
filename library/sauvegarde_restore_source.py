#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work."""

DOCUMENTATION = r"""
module: sauvegarde_restore_source
short_description: Copy what is restored to the target, and return where it is there
description:
  - Copies an archive of another host, or a file of the controller with all parts of a split file, to the target, as
    M(sauvegarde_transfer) does. What is on the target already stays where it is.
  - Exactly one of O(chosen), O(fetched), O(file) and O(path) is set.
author: Sauvegarde
options:
  directory:
    description: Private folder of the restores on the target.
    type: path
    required: true
  chosen:
    description: What M(sauvegarde_archive) returned on the archive's host; its copies are in C(.restore) of the tree.
    type: dict
  fetched:
    description: What M(sauvegarde_archive) returned on the target, where it fetched the archive from a repository.
    type: dict
  file:
    description: A file or folder on the controller; of a split file its first part.
    type: path
  path:
    description: A file or folder on the target.
    type: path
  globals:
    description: A file of pg_dumpall --globals-only, beside O(file) or O(path).
    type: path
attributes:
  check_mode:
    support: partial
    details: Copies nothing.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Copy the archive to the target
  sauvegarde_restore_source:
    directory: /var/lib/postgresql/sauvegarde
    file: /srv/old.dump
  become: true
  become_user: postgres
"""

RETURN = r"""
archive:
  description: Path of the archive on the target.
  returned: always
  type: str
globals:
  description: Path of the globals on the target, empty if there are none.
  returned: always
  type: str
bytes:
  description: Bytes that had to be copied.
  returned: always
  type: int
"""
