"""Find the roles that a statement of a dump names."""

from __future__ import annotations

import re

from .sql_text import IDENTIFIER, unquoted

# Each of these is compared with one whole statement: names may contain line ends.
_OWNER = re.compile(rf"ALTER .* OWNER TO ({IDENTIFIER});", re.DOTALL)
_GRANT = re.compile(
    rf"(?:ALTER DEFAULT PRIVILEGES .*?)?(?:GRANT|REVOKE) .* (?:TO|FROM) ({IDENTIFIER})"
    rf"(?: WITH [A-Z ]+)?(?: GRANTED BY ({IDENTIFIER}))?(?: CASCADE)?;",
    re.DOTALL,
)
_DEFAULTS = re.compile(rf"ALTER DEFAULT PRIVILEGES FOR ROLE ({IDENTIFIER}) .*", re.DOTALL)
_SESSION = re.compile(rf"SET SESSION AUTHORIZATION ({IDENTIFIER});")
_MAPPING = re.compile(rf"CREATE USER MAPPING FOR ({IDENTIFIER}) .*", re.DOTALL)
_POLICY = re.compile(
    rf"CREATE POLICY .*? TO ({IDENTIFIER}(?:, {IDENTIFIER})*)(?: USING .*| WITH CHECK .*|;)", re.DOTALL
)
# Words that stand in the place of a role's name, and name none.
_NO_ROLE = ("public", "current_user", "session_user", "current_role", "default")


def roles_in(statement: str) -> set[str]:
    """Return the names of the roles in a statement. A quoted name is a role's, whatever it means without quotes."""
    identifiers: list[str] = []
    for pattern in (_OWNER, _GRANT, _DEFAULTS, _SESSION, _MAPPING):
        match = pattern.fullmatch(statement)
        identifiers += filter(None, match.groups()) if match else ()
    policy = _POLICY.fullmatch(statement)
    identifiers += re.findall(IDENTIFIER, policy.group(1)) if policy else ()
    return {unquoted(identifier) for identifier in identifiers if identifier.lower() not in _NO_ROLE}
