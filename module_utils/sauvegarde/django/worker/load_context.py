"""Hold what all parts of one load share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .field_values import Column
from .value_problems import Problems

if TYPE_CHECKING:
    from ..worker_request import LoadOptions
    from .django_types import Connection, Field, Model, Output

Mark = tuple[str]  # the JSON text of a natural key, as rows hold it in place of a value
Target = tuple["type[Model]", str]  # the model that is pointed to, and the name of its field


class LoadContext:
    """One load: its options, its database and its problems.

    `has_objects`: whether an object must be built for any of the rows. Rows are then written in the order of the files.
    `marks`: the natural keys that the files refer to.
    """

    def __init__(self, options: LoadOptions, connection: Connection, output: Output) -> None:
        self.options, self.connection, self.output = options, connection, output
        self.using = connection.alias
        self.problems = Problems(options.policy)
        self.has_objects = False
        self.marks: dict[Target, set[Mark]] = {}

    def column(self, field: Field, label: str = "") -> Column:
        """Return the conversions of a field. `label`: of the model that its problems name, by default its own."""
        return Column(field, label or field.model._meta.label_lower, self.connection, self.problems)

    def mark(self, model: type[Model], name: str, key: Any) -> Mark:
        """Record a natural key of the model in place of a value of its field `name`; returns its mark."""
        mark = (json.dumps(key),)
        self.marks.setdefault((model, name), set()).add(mark)
        return mark
