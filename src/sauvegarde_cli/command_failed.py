"""Define the error that a command of ``./sauvegarde`` ends with, and where the checkout is."""

import os
from pathlib import Path

ROOT = Path(os.environ.get("SAUVEGARDE_ROOT") or Path(__file__).resolve().parents[2])


class CommandFailed(Exception):
    """An error told to the user as three lines, and the exit code that goes with it.

    what: what failed. why: the reason, with the tool's own words. fix: what to do.
    """

    def __init__(self, what: str, why: str = "", fix: str = "", code: int = 1) -> None:
        super().__init__(what)
        self.what, self.why, self.fix, self.code = what, why, fix, code
