"""Repositories of restic's that open at once.

restic stretches a repository's password for half a second, and for three where it makes one: nearly all that it costs
in tests, whose repositories are tiny. No option makes that cheaper, so the key is sealed again here, under the same
password, as restic's manual describes it under “Keys, Encryption and MAC”.
"""

import atexit
import base64
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_TAG = 16  # bytes, and those of a nonce


def make(path, password):
    """A new empty repository in the folder `path`."""
    shutil.copytree(str(_template(password)), str(path))


@functools.cache
def _template(password):
    """A repository that is copied, since restic's `init` takes long: the same for the whole session."""
    folder = tempfile.mkdtemp(prefix="sauvegarde-restic-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "repository"
    environment = dict(os.environ, RESTIC_PASSWORD=password, RESTIC_REPOSITORY=str(path))
    subprocess.run(["restic", "init", "--no-cache"], env=environment, check=True, stdout=subprocess.DEVNULL)
    (old,) = (path / "keys").iterdir()
    text = _resealed(json.loads(old.read_text()), password.encode())
    (path / "keys" / hashlib.sha256(text).hexdigest()).write_bytes(text)
    old.unlink()
    return path


def _resealed(key, password):
    """The text of restic's key file with its cheap form."""
    master = _opened(base64.b64decode(key["data"]), _stretched(key, password))
    key.update(N=2, r=1, p=1)
    key["data"] = base64.b64encode(_sealed(master, _stretched(key, password))).decode()
    return json.dumps(key).encode()


def _stretched(key, password):
    """The keys for (encryption, the MAC's nonce, the MAC's polynomial)."""
    salt = base64.b64decode(key["salt"])
    result = hashlib.scrypt(password, salt=salt, n=key["N"], r=key["r"], p=key["p"], maxmem=2**30, dklen=64)
    return result[:32], result[32:48], result[48:]


def _opened(data, keys):
    nonce, text, tag = data[:_TAG], data[_TAG:-_TAG], data[-_TAG:]
    assert _mac(text, nonce, keys) == tag, "restic seals its keys in another way"
    return _aes("aes-256-ctr", keys[0], text, "-iv", nonce.hex())


def _sealed(text, keys):
    nonce = os.urandom(_TAG)
    text = _aes("aes-256-ctr", keys[0], text, "-iv", nonce.hex())
    return nonce + text + _mac(text, nonce, keys)


def _mac(text, nonce, keys):
    """Poly1305-AES."""
    clamped = int.from_bytes(keys[2], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(text), 16):
        total = (total + int.from_bytes(text[start : start + 16] + b"\1", "little")) * clamped % (2**130 - 5)
    pad = int.from_bytes(_aes("aes-128-ecb", keys[1], nonce, "-nopad"), "little")
    return ((total + pad) % 2**128).to_bytes(16, "little")


def _aes(name, key, text, *options):
    command = ["openssl", "enc", "-" + name, "-K", key.hex(), *options]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout
