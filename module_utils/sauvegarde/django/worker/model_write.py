"""Write all rows, lists and stock objects of one model together: the fewest statements, and one COPY a table."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .django_types import Row
    from .fast_write import FastWriter
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows
    from .natural_key_references import NaturalReferences
    from .reference_check import Dangling
    from .stock_save import StockSaver


class ModelWriter:
    """Writes whole models of one load. `dangling`: references that lead nowhere, and which are left out."""

    def __init__(self, naturals: NaturalReferences, writer: FastWriter, saver: StockSaver, dangling: Dangling) -> None:
        self.naturals, self.writer, self.saver, self.dangling = naturals, writer, saver, dangling

    def write(self, rows: ModelRows) -> None:
        """Write the model's rows, then its lists, then the objects that take the stock way."""
        if rows.spool.count:
            self.naturals.look_up_late(rows)
            chunks = rows.rows(self.dangling.columns.get(rows))
            self.writer.write_rows(rows, (self.naturals.resolved(rows, chunk) for chunk in chunks))
        for many in rows.many.values():
            if many.spool.count:
                self.naturals.look_up_late(rows)
                self.writer.write_lists(many, self._pairs(rows, many, self.dangling.members.get(many, ())))
        if rows.stock_spool.count:
            self.saver.save(rows, rows.stock_entries())

    def _pairs(self, rows: ModelRows, many: ManyToManyRows, without: Container[Any]) -> Iterator[list[Row]]:
        """Yield chunks of the field's pairs (key, member), without the members that lead nowhere."""
        resolved = self.naturals.resolved_members
        for chunk in many.written_lists(without):
            yield [
                (pk, member)
                for pk, members in chunk
                for member in (resolved(rows, many, pk, members) if many.natural else members)
            ]
