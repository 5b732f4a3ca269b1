"""Define how archives are compressed: zstd's level, command lines and version."""

from __future__ import annotations

import platform
import re

from ..system import process

SUFFIX = ".zst"
LEVEL = 2  # as small as gzip in a ninth of the time; level 3 takes a third longer and saves a twentieth
# zstd's own default. It stays as it is: equal data must give an equal file, since fixtures are committed to git.
FIXTURE_LEVEL = 3


def compress_command(level: int = LEVEL) -> list[str]:
    """Return zstd's command line for compressing; one compressing thread beside one that reads and writes takes less
    time in total than a single thread."""
    return [process.find("zstd"), "-q", "-T1", f"-{level}"]


def decompress_command() -> list[str]:
    """Return zstd's command line for decompressing to its standard output."""
    return [process.find("zstd"), "-dcq", "--single-thread"]


def tool_versions() -> dict[str, str]:
    """Return the versions of zstd and Python, for the manifest's `tools`."""
    text = process.run([process.find("zstd"), "--version"], timeout=30).text
    match = re.search(r"v?(\d+\.\d+\.\d+)", text)
    return {"zstd": match.group(1) if match else text.strip(), "python": platform.python_version()}
