"""Write many names in one sentence."""

from __future__ import annotations

from collections.abc import Sequence


def name_list(names: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """Return the names with the separator between them; after the first `most`, only how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more
