"""Create a dump's extensions in its side database, with their owners and comments.

What a source needs: source_needs.py. What the target lacks: target_checks.py.
"""

from __future__ import annotations

import contextlib

import psycopg2

from ..postgres import postgres_server, server_errors
from ..postgres.postgres_server import Server
from ..targets import side_database
from .dump import loss_ledger
from .dump.contents import Contents
from .dump.entries import Entry, one_line
from .dump.load_errors import ends_load, server_message
from .dump.loss_names import loss_name
from .dump.sql_text import unquoted

# PostGIS's description of itself before 3.1, which is no longer true: the newer version's own comment stays.
_OUTDATED = "'PostGIS geometry, geography, and raster spatial types and functions'"


def ordered(contents: Contents, with_raster: bool) -> list[tuple[str, str]]:
    """Return (name, schema) of the extensions to create, in an order in which each finds what it needs.

    with_raster: postgis_raster, too (`SourceNeeds.requires_postgis_raster`).
    """
    schemas = dict(contents.extensions)
    if with_raster and "postgis" in schemas:
        schemas["postgis_raster"] = schemas["postgis"]
    first = [name for name in ("postgis", "postgis_raster") if name in schemas]
    return [(name, schemas[name]) for name in first + [name for name in schemas if name not in first]]


def make(server: Server, name: str, contents: Contents, with_raster: bool, ledger: loss_ledger.Ledger) -> str:
    """Create the dump's extensions; the ledger takes those that the server refuses.

    Returns the search_path that an extension set for the database, '' for none.
    """

    def owner_of(schema: str) -> str:
        owner: str = contents.owners.get(one_line(schema), "")
        return owner

    def refused(extension: str, error: psycopg2.Error) -> None:
        if ends_load(error):
            raise side_database.extension_error(extension, error) from error
        ledger.record(Entry("EXTENSION", "", extension, ""), server_message(str(error)))

    return side_database.make_extensions(server, name, ordered(contents, with_raster), owner_of, refused)


def comment(server: Server, name: str, contents: Contents, ledger: loss_ledger.Ledger) -> None:
    """Give the extensions that are there the dump's comments, as the superuser, who owns them."""
    with contextlib.closing(postgres_server.connect(server, name)) as connection:
        present = {extension for (extension,) in postgres_server.query(connection, "SELECT extname FROM pg_extension")}
        for entry, statement in contents.comments:
            if unquoted(entry.name[len("EXTENSION ") :]) not in present or _OUTDATED in statement:
                continue
            try:
                postgres_server.execute(connection, statement)
            except psycopg2.Error as error:
                if ends_load(error):
                    raise server_errors.database_error(error, f"The restore stopped at {loss_name(entry)}.") from error
                ledger.record(entry, server_message(str(error)))
