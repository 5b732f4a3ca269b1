"""Decide whether users other than its owner can write into a folder through its group.

Debian gives each user a private group and, since trixie, login sessions a umask of 0002: folders then have mode 0775,
but only their owner can write there.
"""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path


def others_may_write(path: str | Path, status: os.stat_result) -> bool:
    """Return whether others than the owner (and root) may write into the folder, by its `status` (os.lstat) and its
    ACL."""
    if not status.st_mode & 0o022:
        return False
    return bool(status.st_mode & 0o002) or _has_acl(path) or not _is_private(status.st_uid, status.st_gid)


def _is_private(uid: int, gid: int) -> bool:
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    if group.gr_name != user.pw_name or set(group.gr_mem) - {user.pw_name}:
        return False
    return all(account.pw_gid != gid or account.pw_uid == uid for account in pwd.getpwall())


def _has_acl(path: str | Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
    except OSError:
        return False
