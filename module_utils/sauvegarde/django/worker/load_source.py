"""Read the fixtures behind a request: their objects as a JSON fixture holds them, whatever their format."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import marshal
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core import serializers

from ...errors import SauvegardeError
from ..fixture_stream import not_utf8, wide_encoding

if TYPE_CHECKING:
    from .django_types import Entry, Field, Model, Source

_HEAD = struct.Struct(">I")


@dataclass(frozen=True)
class FixtureFile:
    """One fixture of the source.

    `parsed`: whether the outer half has parsed it. Its `pieces` are then lists of objects as `marshal` writes them;
    else they are the file's bytes.
    """

    name: str
    format: str
    parsed: bool
    pieces: Iterator[bytes]

    def entries(self, using: str) -> Iterator[Entry]:
        """Yield the file's objects. `using`: the database for natural keys, if Django has to read the file."""
        if not self.parsed:
            data = b"".join(self.pieces)
            # XML declares its own encoding.
            text = io.BytesIO(data) if self.format == "xml" else _decoded(self.name, data)
            yield from _by_django(self.name, self.format, text, using)
        for piece in self.pieces:
            yield from marshal.loads(piece)


def fixture_files(source: Source) -> Iterator[FixtureFile]:
    """Yield the source's files. Each must be read before the next one is taken; what is not read is skipped.

    For each file the source holds a line of JSON {"name", "format", "parsed"}, then pieces, each behind its length (4
    bytes, big endian), then a length of 0. The last line is `null`.
    """
    while True:
        line = source.readline()
        if not line:
            raise _cut_off()
        head = json.loads(line.decode("utf-8"))
        if head is None:
            return
        pieces = _pieces(source)
        yield FixtureFile(head["name"], head["format"], head["parsed"], pieces)
        for _ in pieces:
            pass


def _pieces(source: Source) -> Iterator[bytes]:
    while True:
        head = source.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _cut_off()
        (size,) = _HEAD.unpack(head)
        if not size:
            return
        piece = source.read(size)
        if len(piece) < size:
            raise _cut_off()
        yield piece


def _cut_off() -> SauvegardeError:
    return SauvegardeError("The fixtures were cut off on their way: nothing was written.")


def _decoded(name: str, data: bytes) -> str:
    """Return the text of a fixture that is no JSON: UTF-8, or what its byte order mark says."""
    try:
        return data.decode(wide_encoding(data) or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(name, error) from error


def _by_django(name: str, form: str, text: Any, using: str) -> Iterator[Entry]:
    """Yield the objects of another format (XML, YAML), read by Django's deserializer."""
    try:
        for item in serializers.deserialize(form, text, using=using, handle_forward_references=True):
            yield _entry(item)
    except ImportError as error:
        raise SauvegardeError(
            f"{name}: the site's Python cannot read {form}.",
            str(error),
            "Install PyYAML in the site's virtual environment, or convert the fixture to JSON.",
        ) from error
    except (serializers.base.DeserializationError, serializers.base.SerializerDoesNotExist, ValueError) as error:
        raise SauvegardeError(
            f"{name} is not a whole fixture.", str(error.__cause__ or error), "Write it again from its source."
        ) from error


def _entry(item: Any) -> Entry:
    """Return a deserialized object as a JSON fixture holds it."""
    meta = item.object._meta
    deferred = item.deferred_fields or {}
    fields = {
        field.name: _json_value(field, item.object)
        for field in meta.local_concrete_fields
        if not field.primary_key and field not in deferred
    }
    fields.update({name: [str(value) for value in values] for name, values in (item.m2m_data or {}).items()})
    fields.update({field.name: value for field, value in deferred.items()})
    entry = {"model": meta.label_lower, "fields": fields}
    if item.object.pk is not None:
        entry["pk"] = _json_value(meta.pk, item.object)
    return entry


def _json_value(field: Field, instance: Model) -> Any:
    value = field.value_from_object(instance)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else field.value_to_string(instance)
