"""Hold what the files contain of one many-to-many field, until a load writes it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import signals

from .key_set import Keys
from .row_spool import Spool

if TYPE_CHECKING:
    from .django_types import Field, Model
    from .load_context import LoadContext


class LastRows:
    """Knows which of several rows with the same key is the last one, which is the one that counts."""

    def __init__(self) -> None:
        self.repeated: dict[Any, int] = {}  # the position of the last row, of keys that occur several times

    def add(self, pk: Any, position: int, is_repeated: bool) -> None:
        if is_repeated:
            self.repeated[pk] = position

    def is_last(self, pk: Any, position: int) -> bool:
        return not self.repeated or self.repeated.get(pk, position) == position


class ManyToManyRows:
    """One field's lists: for each object, the keys of its members."""

    def __init__(self, context: LoadContext, label: str, field: Field) -> None:
        self.field = field
        self.through: type[Model] = field.remote_field.through
        self.source = self.through._meta.get_field(field.m2m_field_name())
        self.target = self.through._meta.get_field(field.m2m_reverse_field_name())
        self.column = context.column(self.target, label)
        self.source_column = context.column(self.source, label)
        self.column.name = field.name
        self.natural = False  # whether a member may be a natural key
        self.related = field.remote_field.model
        self.heard = bool(context.options.listeners and signals.m2m_changed.has_listeners(self.through))
        self.spool = Spool(context.options.spool)
        self.values, self.sources = Keys(), Keys()
        self.dropped: set[Any] = set()  # keys of objects that the policy drops, and their lists with them
        self.last = LastRows()

    @property
    def table(self) -> str:
        return self.through._meta.db_table

    def python(self, member: Any) -> Any:
        """Return a member's key as an object has it."""
        return self.column.target.to_python(member)

    def add(self, pk: Any, members: Sequence[Any]) -> None:
        if not self.heard:  # like `set()`, which reports a repeated member to listeners
            members = list(dict.fromkeys(members))
        self.values.update([member for member in members if type(member) is not tuple])
        self.last.add(pk, self.spool.count, pk in self.sources)
        self.sources.add(pk)
        self.spool.add((pk, members))

    def lists(self, without: Container[Any] = (), repeated: bool = False) -> Iterator[list[tuple[Any, Sequence[Any]]]]:
        """Yield chunks of (key, members) without the members in `without`.

        Of several lists with one key only the last one, unless `repeated`.
        """
        position = 0
        for chunk in self.spool.chunks():
            kept = []
            for pk, members in chunk:
                if repeated or self.last.is_last(pk, position):
                    if without:
                        members = [member for member in members if member not in without]
                    kept.append((pk, members))
                position += 1
            yield kept

    def written_lists(self, without: Container[Any] = ()) -> Iterator[list[tuple[Any, Sequence[Any]]]]:
        """Yield the same without the lists of objects that the policy drops."""
        for chunk in self.lists(without):
            yield [pair for pair in chunk if pair[0] not in self.dropped] if self.dropped else chunk
