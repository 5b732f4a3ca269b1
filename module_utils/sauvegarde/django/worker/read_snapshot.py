"""Read the site's database as it is at one moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db import connections, transaction

from .database_guard import LOCK_SECONDS, timeouts

if TYPE_CHECKING:
    from .django_types import Connection


@contextlib.contextmanager
def snapshot(using: str) -> Iterator[Connection]:
    """Open one transaction that sees the database at one moment and cannot write; yields its connection."""
    connection: Connection = connections[using]
    # A pooler in transaction mode forbids cursors that outlive a transaction. Cursors here end with theirs.
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = False
    connection.ensure_connection()
    connection.queries_log.clear()
    with transaction.atomic(using=using):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute(timeouts(connection, LOCK_SECONDS))
        yield connection
