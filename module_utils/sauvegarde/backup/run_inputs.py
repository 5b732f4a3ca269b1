"""Hold what root reads for a run of a job, before the process becomes the job's user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import SauvegardeError
from ..offsite.repository import Repository


@dataclass(frozen=True)
class RunInputs:
    """repositories: by name, ready for use; or the error that keeps one from being used.
    databases_with_job: databases of the job's server that jobs of this host name.
    """

    repositories: Mapping[str, Repository | SauvegardeError]
    databases_with_job: Sequence[str]
