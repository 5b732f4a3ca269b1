"""Check the TLS settings of a connection, and complete what libpq would guess.

A server proves who it is only with `verify-full`: its certificate must be for the host's name and signed by an
authority of `sslrootcert`, a file, or `system` for the authorities of the host's own store.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SauvegardeError

KEYS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
SYSTEM = "system"
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey")
# Debian's bundle of its store. libpq knows the word `system` from 16 on only.
_SYSTEM_STORE = "/etc/ssl/certs/ca-certificates.crt"
_HOME_ROOT = ".postgresql/root.crt"  # in the user's home, where libpq looks
_UNTRUSTED = ("certificate verify failed", "does not match host name", "could not get server's host name")
FIX = (
    "Connect to the host by the name in its certificate, and give the certificate of the authority that signed it as"
    " sslrootcert. If neither explains it, another machine may answer in the server's place."
)


def check(values: Mapping[str, Any]) -> None:
    """Raise SauvegardeError if the settings of a connection contradict each other. Opens no file."""
    mode, root = values.get("sslmode") or "", values.get("sslrootcert") or ""
    if mode and mode not in _MODES:
        raise _error(f"sslmode is {mode!r}.", f"Use one of {', '.join(_MODES)}.")
    if root == SYSTEM and mode != "verify-full":
        raise _error(
            "sslrootcert is system, and sslmode is not verify-full: any host with a certificate would do.",
            "Set sslmode to verify-full.",
        )
    if bool(values.get("sslcert")) != bool(values.get("sslkey")):
        raise _error("A client certificate needs both sslcert and sslkey.", "Set both, or neither.")
    for key in _FILES:
        path = values.get(key) or ""
        if path and not Path(path).is_absolute() and not (key == "sslrootcert" and path == SYSTEM):
            raise _error(f"{key} is {path!r}, which is no absolute path.", f"Set {key} to the path of a PEM file.")


def parameters(values: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's parameters for the settings, without empty ones. Raises SauvegardeError for an unreadable file.

    Without sslrootcert, verify-ca and verify-full use ~/.postgresql/root.crt, as libpq does; if there is none,
    verify-full uses the host's store.
    """
    settings = {name: value for name, value in values.items() if value}
    mode = settings.get("sslmode", "")
    if mode.startswith("verify-") and not settings.get("sslrootcert") and not _home_root().exists():
        if mode != "verify-full":
            raise _error(f"sslmode is {mode}, which needs sslrootcert.", "Set sslrootcert to the path of a PEM file.")
        settings["sslrootcert"] = SYSTEM
    if settings.get("sslrootcert") == SYSTEM:
        settings["sslrootcert"] = _SYSTEM_STORE
    for key in _FILES:
        if key in settings and not os.access(settings[key], os.R_OK):
            raise _error(
                f"{key} cannot be read by {_user().pw_name}: {settings[key]}",
                "Install ca-certificates." if settings[key] == _SYSTEM_STORE else "Put the file there, for this user.",
            )
    return settings


def is_untrusted(message: str) -> bool:
    """Return whether libpq's message says that the server's certificate is not trusted, or is for another host."""
    return any(words in message for words in _UNTRUSTED)


def _user() -> pwd.struct_passwd:
    return pwd.getpwuid(os.geteuid())


def _home_root() -> Path:
    return Path(_user().pw_dir) / _HOME_ROOT


def _error(why: str, fix: str) -> SauvegardeError:
    return SauvegardeError("The TLS settings of the connection are wrong.", why, fix)
