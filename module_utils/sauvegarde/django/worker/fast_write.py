"""Write checked rows in bulk: COPY into PostgreSQL, many rows a statement into SQLite."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .row_spool import chunked

if TYPE_CHECKING:
    from .django_types import Connection, Row, Rows
    from .field_values import Column
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows


class FastWriter:
    """Writes many rows a statement (SQLite)."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.quote = connection.ops.quote_name

    def execute(self, sql: str, params: Any = None) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)

    def is_empty(self, table: str) -> bool:
        return self._first(f"SELECT 1 FROM {self.quote(table)} LIMIT 1") is None

    def _first(self, sql: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()

    # --- rows ---------------------------------------------------------------------------------------------------------

    def add_rows(self, rows: ModelRows, some: Sequence[Row], are_new: bool) -> None:
        """Write some rows of a model; `are_new`: the table has none of their keys."""
        self.write_rows(rows, [some])

    def write_rows(self, rows: ModelRows, chunks: Iterable[Rows]) -> None:
        """Write all rows of a model."""
        values = ", ".join(["%s"] * len(rows.columns))
        self._insert_many(f"{self._insert(rows)} VALUES ({values}){self._on_conflict(rows)}", chunks)

    def _insert(self, rows: ModelRows) -> str:
        names = ", ".join(self.quote(column.field.column) for column in rows.columns)
        return f"INSERT INTO {self.quote(rows.table)} ({names})"

    def _on_conflict(self, rows: ModelRows) -> str:
        """Return the clause that overwrites a row with the same key, as `save` does."""
        key, *others = [self.quote(column.field.column) for column in rows.columns]
        if not others:
            return f" ON CONFLICT ({key}) DO NOTHING"
        return " ON CONFLICT ({}) DO UPDATE SET {}".format(
            key, ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        )

    def _insert_many(self, sql: str, chunks: Iterable[Rows]) -> None:
        with self.connection.cursor() as cursor:
            for chunk in chunks:
                if chunk:
                    cursor.executemany(sql, chunk)

    def _store(self, table: str, names: Sequence[str], chunks: Iterable[Rows]) -> None:
        """Write new rows into the named columns."""
        quoted = ", ".join(self.quote(name) for name in names)
        values = ", ".join(["%s"] * len(names))
        self._insert_many(f"INSERT INTO {self.quote(table)} ({quoted}) VALUES ({values})", chunks)

    # --- references that are known later ------------------------------------------------------------------------------

    def set_reference(self, rows: ModelRows, pk: Any, column: Column, value: Any) -> None:
        """Set one reference of a row."""
        sql = "UPDATE {} SET {} = %s WHERE {} = %s".format(
            *map(self.quote, (rows.table, column.field.column, rows.columns[0].field.column))
        )
        self.execute(sql, [value, pk])

    def add_member(self, many: ManyToManyRows, pk: Any, value: Any) -> None:
        """Add one member to an object's list, unless it is in it."""
        names = (many.source.column, many.target.column)
        sql = "SELECT 1 FROM {} WHERE {} = %s AND {} = %s".format(*map(self.quote, (many.table, *names)))
        with self.connection.cursor() as cursor:
            cursor.execute(sql, [pk, value])
            if cursor.fetchone() is None:
                self._store(many.table, names, [[(pk, value)]])

    # --- many-to-many fields ------------------------------------------------------------------------------------------

    def add_lists(self, many: ManyToManyRows, lists: Mapping[Any, Collection[Any]], existing: Iterable[Any]) -> None:
        """Write some lists, {key: members}. `existing`: the keys for which the table may have pairs."""
        names = [field.column for field in (many.through._meta.pk, many.source, many.target)]
        present, obsolete = set(), []
        for chunk in chunked(existing):
            sql = "SELECT {} FROM {} WHERE {} IN ({})".format(
                ", ".join(map(self.quote, names)), self.quote(many.table), self.quote(names[1]), _placeholders(chunk)
            )
            with self.connection.cursor() as cursor:
                cursor.execute(sql, chunk)
                for key, source, target in cursor.fetchall():
                    pair = (many.source_column.plain(source), many.column.plain(target))
                    if pair[1] in lists[pair[0]]:
                        present.add(pair)
                    else:
                        obsolete.append(key)
        for chunk in chunked(obsolete):
            sql = f"DELETE FROM {self.quote(many.table)} WHERE {self.quote(names[0])} IN ({_placeholders(chunk)})"
            self.execute(sql, chunk)
        pairs = [(pk, member) for pk, members in lists.items() for member in members if (pk, member) not in present]
        self._store(many.table, names[1:], [pairs])

    def write_lists(self, many: ManyToManyRows, pairs: Iterable[Rows]) -> None:
        """Write all lists of a field, as `set()` does: existing pairs stay, new ones are added, others are deleted.

        `pairs`: chunks of all pairs (key, member).
        """
        source, target = many.source.column, many.target.column
        if self.is_empty(many.table):
            self._store(many.table, [source, target], pairs)
            return
        names = {"table": self.quote(many.table), "source": self.quote(source), "target": self.quote(target)}
        # Copies of the table's columns, so that types and collations are the same.
        self.execute(
            "CREATE TEMPORARY TABLE sauvegarde_pairs AS SELECT {source}, {target} FROM {table} WHERE 1 = 0".format(
                **names
            )
        )
        self.execute(
            "CREATE TEMPORARY TABLE sauvegarde_sources AS SELECT {source} FROM {table} WHERE 1 = 0".format(**names)
        )
        self._store("sauvegarde_pairs", [source, target], pairs)
        self._store("sauvegarde_sources", [source], ([(pk,) for pk, _ in chunk] for chunk in many.written_lists()))
        self.execute("CREATE INDEX sauvegarde_pairs_index ON sauvegarde_pairs ({source}, {target})".format(**names))
        same = "{table}.{source} = p.{source} AND {table}.{target} = p.{target}".format(**names)
        self.execute(
            "DELETE FROM {table} WHERE {source} IN (SELECT {source} FROM sauvegarde_sources)"
            " AND NOT EXISTS (SELECT 1 FROM sauvegarde_pairs p WHERE {same})".format(same=same, **names)
        )
        self.execute(
            "INSERT INTO {table} ({source}, {target}) SELECT p.{source}, p.{target} FROM sauvegarde_pairs p"
            " WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})".format(same=same, **names)
        )
        self.execute("DROP TABLE sauvegarde_pairs")
        self.execute("DROP TABLE sauvegarde_sources")


class PostgresWriter(FastWriter):
    """Writes rows with COPY."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        # Compressing long texts is most of the server's work, and lz4 (14 and later) takes a tenth of pglz's time. A
        # column's own setting takes precedence; what is read back is the same.
        has_lz4 = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
        if self._first(has_lz4) is not None:
            self.execute("SET LOCAL default_toast_compression = 'lz4'")

    def add_rows(self, rows: ModelRows, some: Sequence[Row], are_new: bool) -> None:
        chunks = chunked(some)  # a column's texts are copied several times on their way
        if are_new:
            self._store(rows.table, _names(rows), chunks)
        else:
            self._overwrite(rows, chunks)

    def write_rows(self, rows: ModelRows, chunks: Iterable[Rows]) -> None:
        if self.is_empty(rows.table):
            self._store(rows.table, _names(rows), chunks)
        else:
            self._overwrite(rows, chunks)

    def _overwrite(self, rows: ModelRows, chunks: Iterable[Rows]) -> None:
        """Write rows by way of a temporary table, so that rows with the same keys are overwritten."""
        columns = ", ".join(self.quote(name) for name in _names(rows))
        self.execute(
            f"CREATE TEMPORARY TABLE sauvegarde_rows AS SELECT {columns} FROM {self.quote(rows.table)} WITH NO DATA"
        )
        self._store("sauvegarde_rows", _names(rows), chunks)
        self.execute(f"{self._insert(rows)} SELECT {columns} FROM sauvegarde_rows{self._on_conflict(rows)}")
        self.execute("DROP TABLE sauvegarde_rows")

    def _store(self, table: str, names: Sequence[str], chunks: Iterable[Rows]) -> None:
        sql = "COPY {} ({}) FROM STDIN".format(self.quote(table), ", ".join(self.quote(name) for name in names))
        pieces = (
            b"".join([b"\t".join(row) + b"\n" for row in zip(*map(_copy_texts, zip(*chunk)))])
            for chunk in chunks
            if chunk
        )
        with self.connection.cursor() as cursor, self.connection.wrap_database_errors:
            if hasattr(cursor.cursor, "copy_expert"):  # psycopg2
                cursor.cursor.copy_expert(sql, _Pieces(pieces), 1 << 18)
            else:
                with cursor.cursor.copy(sql) as copy:
                    for piece in pieces:
                        copy.write(piece)


def _names(rows: ModelRows) -> list[str]:
    return [column.field.column for column in rows.columns]


def _placeholders(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))


def _copy_texts(values: Sequence[Any]) -> list[bytes]:
    """Return a column's values in COPY's text form."""
    kinds = set(map(type, values))
    if str not in kinds:
        return [_copy_text(value) for value in values]
    # All texts at once, separated by NUL, which no text in PostgreSQL contains.
    data = "\0".join([value if type(value) is str else "" for value in values]).encode("utf-8")
    for char, escape in ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t")):
        data = data.replace(char, escape)
    texts = data.split(b"\0")
    if len(texts) != len(values):
        raise ValueError("a text holds a NUL character")
    if len(kinds) == 1:
        return texts
    return [text if type(value) is str else _copy_text(value) for value, text in zip(values, texts)]


def _copy_text(value: Any) -> bytes:
    """Return a value that is no text in COPY's text form."""
    kind = type(value)
    if value is None:
        return b"\\N"
    if kind is int:
        return b"%d" % value
    if kind is bool:
        return b"t" if value else b"f"
    if kind is bytes:
        digits: str = value.hex()
        return b"\\\\x" + digits.encode("ascii")
    return repr(value).encode("ascii")


class _Pieces:
    """A file that is read from an iterator of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def writer_of(connection: Connection) -> FastWriter:
    """Return the writer for the database."""
    return (PostgresWriter if connection.vendor == "postgresql" else FastWriter)(connection)
