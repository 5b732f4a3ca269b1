"""Declare the types of Django's objects, as far as the worker uses them.

Types are checked where no Django is installed, so each protocol here declares the attributes that the worker reads.
Only type annotations use this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]  # a row's values, in the order of the columns
Entry = dict[str, Any]  # one object of a fixture: "model", "pk", "fields"
Rows = Iterable[Sequence[Any]]


class Output(Protocol):
    """Where a task writes to; see `worker_main.Output`."""

    def data(self, payload: bytes) -> None: ...

    def progress(self, **values: Any) -> None: ...


class Source(Protocol):
    """The binary stream behind a task's request."""

    def read(self, size: int = -1) -> bytes: ...

    def readline(self) -> bytes: ...


class Meta(Protocol):
    """A model's `_meta`."""

    app_config: Any
    app_label: str
    auto_created: Any
    auto_field: Field | None
    concrete_fields: Sequence[Field]
    concrete_model: type[Model]
    constraints: Sequence[Any]
    db_table: str
    label_lower: str
    local_concrete_fields: Sequence[Field]
    local_fields: Sequence[Field]
    local_many_to_many: Sequence[Field]
    managed: bool
    model: type[Model]
    order_with_respect_to: Any
    ordering: Sequence[Any]
    parents: Mapping[Any, Any]
    pk: Field
    private_fields: Sequence[Any]
    proxy: bool
    related_objects: Sequence[Any]
    unique_together: Sequence[Sequence[str]]

    def get_field(self, field_name: str) -> Field: ...

    def get_fields(self, include_parents: bool = True, include_hidden: bool = False) -> Sequence[Any]: ...


class Model(Protocol):
    """A model's class (`type[Model]`) or one of its objects."""

    _base_manager: Any
    _default_manager: Any
    _meta: Meta
    _state: Any
    pk: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def _save_table(self, raw: bool, cls: type[Model], using: str) -> bool: ...

    def natural_key(self) -> Any: ...  # of some models only


class Relation(Protocol):
    """A field's `remote_field`."""

    field_name: str
    model: type[Model]
    symmetrical: bool
    through: type[Model]


class Field(Protocol):
    """A model's field."""

    attname: str
    choices: Any
    column: str
    context: Any
    decimal_places: int
    max_digits: int
    max_length: int | None
    many_to_many: bool
    model: type[Model]
    name: str
    null: bool
    output_field: Any
    primary_key: bool
    related_model: type[Model]
    remote_field: Relation  # None unless the field is a reference
    serialize: bool
    srid: int
    target_field: Field
    unique: bool

    def db_type(self, connection: Connection) -> str | None: ...

    def from_db_value(self, value: Any, expression: Any, connection: Connection) -> Any: ...

    def get_col(self, alias: str) -> Any: ...

    def get_db_prep_save(self, value: Any, connection: Connection) -> Any: ...

    def get_default(self) -> Any: ...

    def get_internal_type(self) -> str: ...

    def has_default(self) -> bool: ...

    def m2m_field_name(self) -> str: ...

    def m2m_reverse_field_name(self) -> str: ...

    def to_python(self, value: Any) -> Any: ...

    def value_from_object(self, obj: Any) -> Any: ...

    def value_to_string(self, obj: Any) -> str: ...


class Cursor(Protocol):
    """A cursor of Django's; `cursor` is the driver's own."""

    cursor: Any

    def execute(self, sql: str, params: Any = None) -> Any: ...

    def executemany(self, sql: str, params: Any) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Row]: ...

    def __iter__(self) -> Iterator[Row]: ...

    def __enter__(self) -> Cursor: ...

    def __exit__(self, *error: object) -> None: ...


class Connection(Protocol):
    """A connection of Django's (`connections[alias]`); `connection` is the driver's own."""

    alias: str
    connection: Any
    features: Any
    introspection: Any
    ops: Any
    pg_version: int
    queries_log: Any
    settings_dict: dict[str, Any]
    vendor: str
    wrap_database_errors: AbstractContextManager[Any]

    def check_constraints(self, table_names: Sequence[str] | None = None) -> None: ...

    def cursor(self) -> Cursor: ...

    def disable_constraint_checking(self) -> bool: ...

    def enable_constraint_checking(self) -> None: ...

    def ensure_connection(self) -> None: ...

    def execute_wrapper(self, wrapper: Callable[..., Any]) -> AbstractContextManager[None]: ...


class Queryset(Protocol):
    """A query of Django's."""

    query: Any

    def count(self) -> int: ...

    def extra(self, select: Any = None, where: Any = None) -> Queryset: ...

    def filter(self, *args: Any, **kwargs: Any) -> Queryset: ...

    def first(self) -> Any: ...

    def iterator(self, chunk_size: int | None = None) -> Iterator[Any]: ...

    def order_by(self, *names: str) -> Queryset: ...

    def distinct(self) -> Queryset: ...

    def update(self, **values: Any) -> int: ...

    def values_list(self, *names: str, flat: bool = False) -> Queryset: ...

    def _raw_delete(self, using: str) -> Any: ...

    def __getitem__(self, key: slice) -> Queryset: ...

    def __iter__(self) -> Iterator[Any]: ...
