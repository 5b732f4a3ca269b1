"""Inside the site: rows that were looked at, written in bulk: COPY into PostgreSQL, many a statement into SQLite."""


class Writer:
    """Writes rows with many of them a statement (SQLite)."""

    def __init__(self, load):
        self.load, self.connection = load, load.connection
        self.quote = load.connection.ops.quote_name

    def execute(self, sql, params=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)

    def value(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()

    def is_empty(self, table):
        return self.value(f"SELECT 1 FROM {self.quote(table)} LIMIT 1") is None

    def rows(self, plan, bad):
        """Write the plan's rows."""
        self.load.naturals.ask(plan)
        self._rows(plan, (self.load.naturals.settled(plan, chunk) for chunk in plan.rows(bad)))

    def _rows(self, plan, chunks):
        sql = self._insert(plan.table, plan.columns) + " VALUES ({})".format(", ".join(["%s"] * len(plan.columns)))
        self._many(sql + self._conflict(plan), chunks)

    def add(self, plan, rows, new):
        """Write some rows; `new`: the table has none of their keys."""
        self._rows(plan, [rows])

    def add_pairs(self, many, lists, old):
        """Write the lists {key: members}; of the keys in `old` the table may have pairs."""
        table = many.through._meta.db_table
        names = [field.column for field in (many.through._meta.pk, many.source, many.target)]
        there, gone = set(), []
        for chunk in _some(old):
            sql = "SELECT {} FROM {} WHERE {} IN ({})".format(
                ", ".join(map(self.quote, names)), self.quote(table), self.quote(names[1]), _places(chunk)
            )
            with self.connection.cursor() as cursor:
                cursor.execute(sql, chunk)
                for key, source, target in cursor.fetchall():
                    pair = (many.origin._plain(source), many.column._plain(target))
                    if pair[1] in lists[pair[0]]:
                        there.add(pair)
                    else:
                        gone.append(key)
        for chunk in _some(gone):
            sql = f"DELETE FROM {self.quote(table)} WHERE {self.quote(names[0])} IN ({_places(chunk)})"
            self.execute(sql, chunk)
        pairs = [(pk, each) for pk, members in lists.items() for each in members if (pk, each) not in there]
        self._store(table, names[1:], [pairs])

    def refer(self, plan, pk, where, value):
        """Set one reference of a row, or add one member to its list (`where`: a column, or a list)."""
        if hasattr(where, "through"):
            self.add_members(where, pk, value)
            return
        sql = "UPDATE {} SET {} = %s WHERE {} = %s".format(
            *map(self.quote, (plan.table, where.field.column, plan.columns[0].field.column))
        )
        self.execute(sql, [value, pk])

    def add_members(self, many, pk, value):
        table, names = many.through._meta.db_table, (many.source.column, many.target.column)
        sql = "SELECT 1 FROM {} WHERE {} = %s AND {} = %s".format(*map(self.quote, (table, *names)))
        with self.connection.cursor() as cursor:
            cursor.execute(sql, [pk, value])
            if cursor.fetchone() is None:
                self._store(table, names, [[(pk, value)]])

    def _insert(self, table, columns):
        return "INSERT INTO {} ({})".format(
            self.quote(table), ", ".join(self.quote(column.field.column) for column in columns)
        )

    def _conflict(self, plan):
        """As `save`: a row with the same key is overwritten."""
        key, *others = [self.quote(column.field.column) for column in plan.columns]
        if not others:
            return f" ON CONFLICT ({key}) DO NOTHING"
        return " ON CONFLICT ({}) DO UPDATE SET {}".format(
            key, ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        )

    def _many(self, sql, chunks):
        with self.connection.cursor() as cursor:
            for chunk in chunks:
                if chunk:
                    cursor.executemany(sql, chunk)

    def pairs(self, many, without):
        """As `set()`: pairs that are there stay, new ones come, those that the files do not have go."""
        self.load.naturals.ask(many.plan)
        table = many.through._meta.db_table
        source, target = many.source.column, many.target.column
        chunks = self._pair_chunks(many, without)
        if self.value(f"SELECT 1 FROM {self.quote(table)} LIMIT 1") is None:
            self._store(table, [source, target], chunks)
            return
        names = {
            "table": self.quote(table),
            "source": self.quote(source),
            "target": self.quote(target),
        }
        # Copies of the table's columns, so that types and collations are the same.
        self.execute(
            "CREATE TEMPORARY TABLE sauvegarde_pairs AS SELECT {source}, {target} FROM {table} WHERE 1 = 0".format(
                **names
            )
        )
        self.execute(
            "CREATE TEMPORARY TABLE sauvegarde_sources AS SELECT {source} FROM {table} WHERE 1 = 0".format(**names)
        )
        self._store("sauvegarde_pairs", [source, target], chunks)
        self._store("sauvegarde_sources", [source], ([(pk,) for pk, _ in chunk] for chunk in self._lists(many)))
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

    def _lists(self, many):
        gone = getattr(many, "gone", ())
        for chunk in many.lists():
            yield [pair for pair in chunk if pair[0] not in gone] if gone else chunk

    def _pair_chunks(self, many, without):
        gone = getattr(many, "gone", ())
        settled, plan = self.load.naturals.settled_members, many.plan
        for chunk in many.lists(without):
            yield [
                (pk, member)
                for pk, members in chunk
                if pk not in gone
                for member in (settled(plan, many, pk, members) if many.natural else members)
            ]

    def _store(self, table, names, chunks):
        sql = "INSERT INTO {} ({}) VALUES ({})".format(
            self.quote(table), ", ".join(self.quote(name) for name in names), ", ".join(["%s"] * len(names))
        )
        self._many(sql, chunks)


def _some(values, size=100):
    values = list(values)
    return [values[start : start + size] for start in range(0, len(values), size)]


def _places(values):
    return ", ".join(["%s"] * len(values))


def _copied(values):
    """A column's values in COPY's text form, as bytes."""
    kinds = set(map(type, values))
    if str not in kinds:
        return [_other(value) for value in values]
    # All of them at once: a NUL, which no text of PostgreSQL's holds, stands between.
    data = "\0".join([value if type(value) is str else "" for value in values]).encode("utf-8")
    for char, escape in ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t")):
        data = data.replace(char, escape)
    texts = data.split(b"\0")
    if len(texts) != len(values):
        raise ValueError("a text holds a NUL character")
    if len(kinds) == 1:
        return texts
    return [text if type(value) is str else _other(value) for value, text in zip(values, texts)]


def _other(value):
    kind = type(value)
    if value is None:
        return b"\\N"
    if kind is int:
        return b"%d" % value
    if kind is bool:
        return b"t" if value else b"f"
    if kind is bytes:
        return b"\\\\x" + value.hex().encode("ascii")
    return repr(value).encode("ascii")


class PostgresWriter(Writer):
    """Writes rows with COPY."""

    def __init__(self, load):
        super().__init__(load)
        # Packing long texts is most of the server's work, and lz4 does it in a tenth of pglz's time (14 and later). A
        # column's own setting goes before; what is read back is the same.
        known = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
        if self.value(known) is not None:
            self.execute("SET LOCAL default_toast_compression = 'lz4'")

    def add(self, plan, rows, new):
        chunks = _some(rows)  # a column's texts are copied several times on their way
        if new:
            self._store(plan.table, [column.field.column for column in plan.columns], chunks)
        else:
            self._overwrite(plan, chunks)

    def _rows(self, plan, chunks):
        if self.is_empty(plan.table):
            self._store(plan.table, [column.field.column for column in plan.columns], chunks)
        else:
            self._overwrite(plan, chunks)

    def _overwrite(self, plan, chunks):
        """As `save`: rows of the same keys are overwritten."""
        names = [column.field.column for column in plan.columns]
        columns = ", ".join(self.quote(name) for name in names)
        self.execute(
            f"CREATE TEMPORARY TABLE sauvegarde_rows AS SELECT {columns} FROM {self.quote(plan.table)} WITH NO DATA"
        )
        self._store("sauvegarde_rows", names, chunks)
        self.execute(
            self._insert(plan.table, plan.columns) + f" SELECT {columns} FROM sauvegarde_rows" + self._conflict(plan)
        )
        self.execute("DROP TABLE sauvegarde_rows")

    def _store(self, table, names, chunks):
        sql = "COPY {} ({}) FROM STDIN".format(self.quote(table), ", ".join(self.quote(name) for name in names))
        pieces = (
            b"".join([b"\t".join(row) + b"\n" for row in zip(*map(_copied, zip(*chunk)))]) for chunk in chunks if chunk
        )
        with self.connection.cursor() as cursor, self.connection.wrap_database_errors:
            if hasattr(cursor.cursor, "copy_expert"):  # psycopg2
                cursor.cursor.copy_expert(sql, _Pieces(pieces), 1 << 18)
            else:
                with cursor.cursor.copy(sql) as copy:
                    for piece in pieces:
                        copy.write(piece)


class _Pieces:
    """A file that is read from an iterator of bytes."""

    def __init__(self, pieces):
        self._pieces = pieces
        self._left = b""

    def read(self, size=-1):
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = self._left[:size], self._left[size:]
        return data


def writer(load):
    """The writer for the load's database."""
    return (PostgresWriter if load.connection.vendor == "postgresql" else Writer)(load)
