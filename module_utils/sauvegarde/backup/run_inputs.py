"""Hold what root reads for a run of a job, before the process becomes the job's user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import SauvegardeError
from ..offsite.repository import Repository
from ..postgres.database_selection import DatabaseSelection


@dataclass(frozen=True)
class RunInputs:
    """repositories: by name, ready for use; or the error that keeps one from being used.
    databases_with_job: what jobs of this host select on the job's server.
    """

    repositories: Mapping[str, Repository | SauvegardeError]
    databases_with_job: Sequence[DatabaseSelection]
