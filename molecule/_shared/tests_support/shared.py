"""Where the shared test data are: SAUVEGARDE_SHARED, or the folder `shared` beside the checkout."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SAUVEGARDE_SHARED") or Path(__file__).resolve().parents[4] / "shared")


def shared(name):
    """A folder of them; the test is skipped where it is not."""
    result = SHARED / name
    if not result.is_dir():
        pytest.skip(f"the shared {name} are not here (SAUVEGARDE_SHARED)")
    return result
