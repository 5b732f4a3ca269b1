"""Convert one field's values from a fixture's form to the database's, and check them.

A `Column` does what Django's deserializer and the field's `get_db_prep_save` do, without building an object. The
commonest kinds of fields have shortcuts for the values that fixtures usually hold; every other value goes through the
field's own conversions. What the database would refuse or not keep becomes a problem (see `value_problems`).
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from .dates_beyond_python import nearest_date
from .exact_values import (
    HEXADECIMAL,
    JSON_NULL,
    is_raster,
    is_special,
    json_special,
    json_text,
    raster_values,
)
from .fast_or_stock import FastNotPossible
from .lossy_values import (
    any_in,
    has_nul,
    has_surrogate,
    is_broken,
    is_nan,
    is_too_long,
    mapped,
    of_decimal,
    short,
    without_nul,
    without_surrogates,
)
from .postgres_literals import PLAIN_TYPES, plain_value
from .value_problems import Dropped, InvalidValue

if TYPE_CHECKING:
    from .django_types import Connection, Field
    from .value_problems import Problems

ADDRESSES = ("GenericIPAddressField", "IPAddressField")
# What the conversions of Django's fields raise for a value that the field cannot hold.
CONVERSION_ERRORS = (ValidationError, ValueError, TypeError, ArithmeticError, AttributeError)
_moment_from_iso = datetime.datetime.fromisoformat
_day_from_iso = datetime.date.fromisoformat
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}(?:\d{3})?)?Z\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_SAVING = ("get_prep_value", "get_db_prep_value", "get_db_prep_save")


class Column:
    """One field's conversions and checks. `convert(value, key of the object)` returns the stored form of a value.

    `target`: the field at the end of a chain of references, whose values these are; `kind`: its internal type.
    """

    def __init__(self, field: Field, model: str, connection: Connection, problems: Problems) -> None:
        self.field, self.model, self.name = field, model, field.name
        self.connection, self.problems = connection, problems
        target = field
        while target.remote_field is not None and getattr(target, "target_field", None) is not None:
            target = target.target_field
        self.target = target
        self.kind = target.get_internal_type()
        self.postgres = self.connection.vendor == "postgresql"
        self.max_length = target.max_length if isinstance(target, (models.CharField, models.FileField)) else None
        self.range = self._range()
        # Whether the field writes its JSON as Django does; else its class decides.
        self._plain_json = self.kind == "JSONField" and _methods_of_django(target, *_SAVING)
        self.convert = self._conversion()

    def _range(self) -> tuple[Any, Any]:
        if not isinstance(self.target, models.IntegerField):
            return (None, None)  # SQLite has a range for fields of every kind
        try:
            bounds: tuple[Any, Any] = self.connection.ops.integer_field_range(self.kind)
        except KeyError:
            return (None, None)
        # Older versions of Django know no range for SQLite, but its driver takes only integers of 8 bytes.
        if self.connection.vendor == "sqlite" and bounds == (None, None):
            return (-(2**63), 2**63 - 1)
        return bounds

    def _conversion(self) -> Callable[[Any, Any], Any]:
        """Choose the shortest conversion that is right for the field."""
        stock = _methods_of_django(self.target, "to_python", *_SAVING)
        if stock and self.kind in ("CharField", "TextField", "SlugField"):
            return self._text
        if stock and self.range != (None, None):
            return self._whole
        if stock and self.kind in ("BooleanField", "FloatField"):
            return self._same
        if stock and self.kind == "UUIDField":
            return self._uuid
        if stock and self.kind == "DateField":
            return self._day
        utc = settings.USE_TZ and getattr(self.connection, "timezone_name", "") == "UTC"
        if stock and self.kind == "DateTimeField" and utc:
            return self._moment
        return self._general

    @property
    def same(self) -> bool:
        """Whether a stored value is also the object's value."""
        return self.convert in (self._text, self._whole, self._same)

    @property
    def is_text(self) -> bool:
        return self.convert == self._text

    @property
    def is_whole(self) -> bool:
        return self.convert == self._whole

    # --- shortcuts ----------------------------------------------------------------------------------------------------

    def _text(self, value: Any, pk: Any) -> Any:
        if type(value) is not str:
            return self._general(value, pk)
        return self.checked(value, pk)

    def _whole(self, value: Any, pk: Any) -> Any:
        low, high = self.range
        return value if type(value) is int and low <= value <= high else self._general(value, pk)

    def _same(self, value: Any, pk: Any) -> Any:
        """Take a boolean or a number as it is: fixture and database write it alike."""
        kind = bool if self.kind == "BooleanField" else float
        return value if type(value) is kind and value == value else self._general(value, pk)

    def _uuid(self, value: Any, pk: Any) -> Any:
        if type(value) is str and _UUID.match(value):
            return value if self.connection.features.has_native_uuid_field else value.replace("-", "")
        return self._general(value, pk)

    def _day(self, value: Any, pk: Any) -> Any:
        if type(value) is str and _DAY.match(value):
            try:
                return str(_day_from_iso(value))
            except ValueError:
                pass
        return self._general(value, pk)

    def _moment(self, value: Any, pk: Any) -> Any:
        if type(value) is str and _MOMENT.match(value):
            try:
                # As the adapters of the two databases write it; a day that does not exist takes the general way.
                text = str(_moment_from_iso(value[:-1]))
                return text + "+00:00" if self.postgres else text
            except ValueError:
                pass
        return self._general(value, pk)

    def several(self, values: Sequence[Any], pks: Sequence[Any]) -> Sequence[Any]:
        """Return the stored form of many objects' values: the values themselves if none needs a conversion."""
        convert = self.convert
        if convert != self._general and self._pass(values):
            return values
        return [convert(value, pk) for value, pk in zip(values, pks)]

    def _pass(self, values: Sequence[Any]) -> bool:
        """Return whether all values can be stored as they are."""
        kinds = set(map(type, values))
        if self.field.null and type(None) in kinds:
            kinds.remove(type(None))
            values = [value for value in values if value is not None]
        if not kinds:
            return True
        if self.convert == self._text and kinds == {str}:
            fits = self.max_length is None or max(map(len, values)) <= self.max_length
            return fits and not (self.postgres and any("\0" in value for value in values)) and _is_utf8(values)
        if self.convert == self._whole and kinds == {int}:
            return bool(self.range[0] <= min(values) and max(values) <= self.range[1])
        if self.convert != self._same or not kinds <= {bool if self.kind == "BooleanField" else float}:
            return False
        return self.kind == "BooleanField" or all(value == value for value in values)  # NaN is not equal to itself

    # --- the general way ----------------------------------------------------------------------------------------------

    def _general(self, value: Any, pk: Any) -> Any:
        """Convert with the field's own methods, as Django does."""
        text = json_text(value) if self._plain_json else None
        if text is not None:
            return text
        if is_special(self.kind, value):
            return self._special(value, pk)
        if is_raster(self.target) and isinstance(value, str):
            if HEXADECIMAL.match(value):
                return value
            raise self.invalid(pk, "is no raster: stock dumpdata writes none, a dump of Sauvegarde does")
        try:
            value = self.target.to_python(value)
        except CONVERSION_ERRORS as error:
            raise self.invalid(pk, error) from None
        return self.stored(value, pk)

    def stored(self, value: Any, pk: Any) -> Any:
        """Return the stored form of a Python value, and record its problems."""
        if self.kind == "FileField" and value is None:
            value = ""
        if value is not None:
            value = self._in_range(value, pk)
        if value is not None and not self.postgres:
            value = self._kept(value, pk)
        if isinstance(value, str):
            value = self.checked(value, pk)
        if value is None:
            return self._null(pk)
        if self._plain_json:
            return self._json(value, pk)
        if self.kind in ADDRESSES:
            return str(value) if value else self._null(pk)
        try:
            prepared = self.field.get_db_prep_save(value, self.connection)
        except CONVERSION_ERRORS as error:
            raise self.invalid(pk, error) from None
        if getattr(self.field, "geom_type", None):
            return self._geometry(prepared)
        if prepared is None:
            return self._null(pk)
        return self.plain(prepared)

    def prepared(self, value: Any) -> Any:
        """Return the stored form of an object's value, without any check."""
        if self.kind == "FileField" and value is None:
            value = ""
        if value is None:
            return None
        if self._plain_json:
            return json.dumps(value, cls=getattr(self.field, "encoder", None))
        if self.kind in ADDRESSES:
            return str(value) if value else None
        prepared = self.field.get_db_prep_save(value, self.connection)
        if prepared is not None and getattr(self.field, "geom_type", None):
            return self._geometry(prepared)
        return None if prepared is None else self.plain(prepared)

    def stored_key(self, value: Any) -> Any:
        """Return the stored form of a key, of an object or of a fixture; None if the field cannot hold it."""
        try:
            if self.kind in ADDRESSES:
                return str(self.target.to_python(value))
            return self.plain(self.field.get_db_prep_save(self.target.to_python(value), self.connection))
        except (FastNotPossible, InvalidValue, *CONVERSION_ERRORS):
            return None

    def plain(self, value: Any) -> Any:
        """Return a driver's value in the form in which it is spooled and compared."""
        return value if type(value) in PLAIN_TYPES else plain_value(value, self.name, self.postgres)

    def python(self, value: Any, repaired: bool) -> Any:
        """Return the object's value of a fixture's value, or (`repaired`) of the stored value of a repaired one."""
        if self._plain_json and (value == JSON_NULL or (repaired and value == "null")):
            return None
        text = json_text(value) if self._plain_json else None
        if text is not None:
            value = json.loads(text)
        if is_special(self.kind, value):
            value = None if self.kind == "DecimalField" else nearest_date(self.kind, value)
        if is_raster(self.target) and isinstance(value, str):
            return raster_values(value)
        if repaired and self.kind == "JSONField" and isinstance(value, str):
            value = json.loads(value)
        return self.target.to_python(value)

    # --- values that only PostgreSQL's text can hold ------------------------------------------------------------------

    def is_special(self, value: Any) -> bool:
        """Return whether only the database's own text can hold this value of a fixture."""
        return (self._plain_json and json_text(value) is not None) or is_special(self.kind, value)

    def stand_in(self, value: Any) -> Any:
        """Return what Django may save in place of a special value, until the value's text is written."""
        if is_special(self.kind, value):
            return "0" if self.kind == "DecimalField" else nearest_date(self.kind, value)
        return None if self.field.null else {}

    def has_more_digits(self, stored: Any, value: Any) -> bool:
        """Return whether stored JSON differs from the value only in digits that Python's floats cannot hold."""
        if not self._plain_json or type(stored) is not str or json_special(stored, False) is None:
            return False
        return bool(json.loads(stored) == value)

    def _special(self, value: str, pk: Any) -> Any:
        """Return a special value as PostgreSQL takes it; elsewhere what the policy makes of it."""
        infinite = self.kind == "DecimalField" and value != "NaN"
        if self.postgres and not (infinite and self.connection.pg_version < 140000):
            return value
        if self.kind == "DecimalField":
            kind = "infinity" if infinite else "nan"
            action = self.problems.action(kind, self.model, self.name)
            if action == "limit":  # numbers have no limit
                self.problems.add(kind, self.model, pk, self.name, f"{value} cannot be stored", "stop")
                raise InvalidValue()
            return self._lossy(kind, pk, f"{value} cannot be stored", None)
        end = nearest_date(self.kind, value)
        repaired = self._lossy("infinity", pk, f"{value} would be stored as {end}", end)
        return None if repaired is None else self.stored(self.target.to_python(repaired), pk)

    # --- checks -------------------------------------------------------------------------------------------------------

    def _note(self, kind: str, pk: Any, detail: str) -> str:
        return self.problems.add(kind, self.model, pk, self.name, detail)

    def checked(self, value: str, pk: Any) -> str | None:
        """Return the text as the policy lets it be stored: without NUL and half characters, not too long."""
        text: str | None = value
        if "\0" in value and self.postgres and self._note("nul", pk, "holds a NUL character") == "strip":
            text = value = value.replace("\0", "")
        if has_surrogate(value):
            detail = f"holds half a character, which no database stores: {short(value)}"
            text = self._lossy("surrogate", pk, detail, without_surrogates(value))
        if self.max_length is not None and text is not None and len(text) > self.max_length:
            detail = f"{len(text)} characters, at most {self.max_length} fit"
            # A database that enforces the length cannot keep it.
            if self._note("too_long", pk, detail) == "cut":
                text = text[: self.max_length]
        return text

    def _lossy(self, kind: str, pk: Any, detail: str, repaired: Any) -> Any:
        """Record a value that the database would not keep; return what the policy stores in its place."""
        action, accept = self.problems.action(kind, self.model, self.name), ""
        if repaired is None and not self.field.null and kind != "precision":
            accept = "drop"  # nothing can be stored in its place
            action = action if action == "drop" else "stop"
        elif action == "empty" and not self.field.null:
            action = "stop"
        self.problems.add(kind, self.model, pk, self.name, detail, action, accept)
        if action == "drop":
            raise Dropped()
        return None if action == "empty" else repaired

    def _kept(self, value: Any, pk: Any) -> Any:
        """Return what SQLite keeps of the value, with a problem if that is less."""
        if self.kind == "FloatField" and isinstance(value, float) and value != value:
            return self._lossy("nan", pk, "nan would be stored as NULL", None)
        if self.kind == "DecimalField" and isinstance(value, decimal.Decimal) and value.is_finite():
            kept = of_decimal(value, self.target)
            if kept is not None:
                self._lossy("precision", pk, f"{value} would be stored as {kept}", None)
        elif self.kind == "DurationField" and isinstance(value, datetime.timedelta) and is_too_long(value):
            return self._out_of_range(value, pk, f"{value} has more microseconds than an integer holds")
        return value

    def _null(self, pk: Any) -> str | None:
        required = not self.field.null and not self.field.primary_key
        if required and self._plain_json:
            return "null"  # JSON's null, since the column cannot hold SQL's NULL
        if required and self._note("null", pk, "is NULL, which the field does not allow") == "drop":
            raise Dropped()
        return None

    def _in_range(self, value: Any, pk: Any) -> Any:
        detail = None
        low, high = self.range
        if isinstance(value, int) and not isinstance(value, bool):
            if (low is not None and value < low) or (high is not None and value > high):
                detail = f"{value} is not between {low} and {high}"
        elif isinstance(value, decimal.Decimal) and self.kind == "DecimalField" and value.is_finite():
            digits = self.target.max_digits - self.target.decimal_places
            if abs(value) >= decimal.Decimal(10) ** digits:
                detail = f"{value} has more than {digits} digits before the point"
        return value if detail is None else self._out_of_range(value, pk, detail)

    def _out_of_range(self, value: Any, pk: Any, detail: str) -> Any:
        action = self._note("out_of_range", pk, detail)
        if action == "drop":
            raise Dropped()
        return None if action == "empty" else value

    def invalid(self, pk: Any, error: object) -> Exception:
        """Record a value that the field cannot hold; return the exception to raise."""
        if self._note("invalid", pk, "; ".join(getattr(error, "messages", None) or [str(error)])) == "drop":
            return Dropped()
        return InvalidValue()

    def _json(self, value: Any, pk: Any) -> str:
        text = json.dumps(value, cls=getattr(self.field, "encoder", None))
        if "NaN" in text or "Infinity" in text:
            plain = json.loads(text)
            if any_in(plain, is_nan):
                raise self.invalid(pk, f"{short(plain)} holds numbers that JSON does not have")
        if self.postgres and "\\u0000" in text:
            plain = json.loads(text)
            if any_in(plain, has_nul) and self._note("nul", pk, "holds a NUL character") == "strip":
                text = json.dumps(mapped(plain, without_nul))
        if self.postgres and "\\ud" in text:
            plain = json.loads(text)
            if any_in(plain, is_broken):
                detail = f"holds half a character, which PostgreSQL does not store: {short(plain)}"
                if self._note("surrogate", pk, detail) == "drop":
                    raise Dropped()
                whole = mapped(plain, lambda item: without_surrogates(item) if is_broken(item) else item)
                text = json.dumps(whole)
        return text

    def _geometry(self, prepared: Any) -> str | None:
        if prepared is None:
            return None
        data = getattr(prepared, "ewkb", None)
        if (
            data is None
            or getattr(prepared, "srid", None) != self.field.srid
            or getattr(prepared, "is_geometry", 1) is False
        ):
            raise FastNotPossible("a geometry that the database must convert")
        return bytes(data).hex()


def _methods_of_django(field: Field, *names: str) -> bool:
    return all(getattr(type(field), name).__module__.startswith("django.db.models.fields") for name in names)


def _is_utf8(values: Sequence[str]) -> bool:
    """Return whether the texts can be encoded: none holds half of a surrogate pair."""
    try:
        "".join(values).encode("utf-8")
    except UnicodeEncodeError:
        # Two texts that each hold one half make no pair when joined: Python joins code points.
        return False
    return True
