"""Decide which environment a host belongs to: the one rule for what counts as production."""

from __future__ import annotations

from collections.abc import Collection

PRODUCTION, REPOSITORY, DEVELOPMENT = "production", "repository", "development"


def host_environment(stated: str, groups: Collection[str]) -> str:
    """Return a host's environment, '' if nothing says it.

    stated: its variable sauvegarde_environment, which may be any word. groups: the inventory groups that it is a member
    of; without a stated environment, those called production, repository and development count, in this order.
    """
    if stated:
        return stated
    return next((name for name in (PRODUCTION, REPOSITORY, DEVELOPMENT) if name in groups), "")


def may_have_personal_data(environment: str) -> bool:
    """Return whether a host of this environment may have production's data unmasked.

    Any other word (staging, test) is a host that must not; a host of no stated environment may.
    """
    return environment in (PRODUCTION, REPOSITORY, "")
