"""Inside the site: one value of a fixture on its way to the database, and what may be wrong with it."""

import contextlib
import datetime
import decimal
import ipaddress
import json
import marshal
import re
import struct
import tempfile
import uuid

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from .exact_values import (
    HEXADECIMAL,
    JSON_NULL,
    is_raster,
    is_special,
    json_special,
    json_text,
    limit,
    raster_values,
)
from .lossy_values import (
    any_in,
    has_surrogate,
    is_nan,
    is_too_long,
    mapped,
    of_decimal,
    short,
    without_surrogates,
)

CHUNK = 100  # rows held at a time
ADDRESSES = ("GenericIPAddressField", "IPAddressField")
# From Python 3.7 on.
_from_iso = getattr(datetime.datetime, "fromisoformat", None)
_day_from_iso = getattr(datetime.date, "fromisoformat", None)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}(?:\d{3})?)?Z\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_LISTED = 2000  # problems that are told one by one, of those that stop and of those that are mended; the others count


class Stock(Exception):
    """This object must take the stock way."""


class Dropped(Exception):
    """This object is left out, as the policy says."""


class Problems:
    """What is wrong with the data, and what was done about it."""

    def __init__(self, policy):
        self.policy = policy  # {kind of problem: action}, complete: see `load.POLICIES`
        self.listed = []
        self.stopping = 0
        self.mended = 0
        self._touched, self._fields = {}, {}

    @property
    def touched(self):
        """{model: keys} of the objects that are not stored as they came, or not at all."""
        return {model: list(keys.values()) for model, keys in self._touched.items()}

    @property
    def changed(self):
        """{model: [[key, names of the fields]]} of the touched objects that are stored but for these fields."""
        return {
            model: [[self._touched[model][key], sorted(names)] for key, names in keys.items() if None not in names]
            for model, keys in self._fields.items()
        }

    def touch(self, model, pk, field=None):
        """Note an object that is not stored as it came: but for the field, or not at all."""
        key = json.dumps(pk)
        self._touched.setdefault(model, {})[key] = pk
        self._fields.setdefault(model, {}).setdefault(key, set()).add(field)

    def renamed(self, model, pk, now):
        """The object's key is stored as another one; where that is a problem's doing, it is found by both."""
        if json.dumps(pk) in self._touched.get(model, ()):
            self.touch(model, pk)
            self.touch(model, now)

    def action(self, kind, model, field):
        """What the policy does about a problem of the field, or of the model's object."""
        action = self.policy[kind]
        if isinstance(action, dict):
            action = action.get(f"{model}.{field}".lower(), action["*"])
        return action

    def mark(self):
        """Where the list stands, for `back`."""
        return len(self.listed), self.stopping, self.mended

    def back(self, mark):
        """Forget what was noted since the mark."""
        count, self.stopping, self.mended = mark
        del self.listed[count:]

    def add(self, kind, model, pk, field, detail, action=None, accept=""):
        """Note a problem; returns what the policy does about it. `action`: what is done in spite of the policy.
        `accept`: the action that would accept it, where that is not the first of its kind."""
        action = action or self.action(kind, model, field)
        if action == "stop":
            self.stopping += 1
            listed = self.stopping <= _LISTED
        else:
            self.mended += 1
            listed = self.mended <= _LISTED
            if kind not in ("unknown", "hidden") and action != "keep":
                self.touch(model, pk, None if action == "drop" else field)
        if listed:
            found = {"kind": kind, "model": model, "pk": pk, "field": field, "detail": detail, "action": action}
            self.listed.append(dict(found, accept=accept) if accept else found)
        return action


_SIZE = struct.Struct(">Q")


class Spool:
    """Rows set aside, in order, in a file without a name."""

    def __init__(self, folder):
        self._file = tempfile.TemporaryFile(dir=folder or None)  # noqa: SIM115 - lives as long as the load
        self._rows = []
        self.count = self.size = 0  # rows, and bytes of those in the file

    def add(self, row):
        self.extend([row])

    def extend(self, rows):
        self._rows += rows
        self.count += len(rows)
        if len(self._rows) >= CHUNK:
            self._flush()

    def _flush(self):
        if self._rows:
            piece = marshal.dumps(self._rows)
            self._file.write(_SIZE.pack(len(piece)) + piece)
            self.size += len(piece)
            self._rows = []

    def chunks(self):
        """Lists of rows, in the order in which they came."""
        self._flush()
        self._file.flush()
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            (size,) = _SIZE.unpack(self._file.read(_SIZE.size))
            # marshal's own `load` asks the file for every value of its own.
            yield marshal.loads(self._file.read(size))
        self._file.seek(end)


_BLOCK = 512


class Keys:
    """A set of keys; whole numbers, which most are and which are dense, take a bit each."""

    def __init__(self, values=()):
        self._blocks, self._others = {}, set()
        self.update(values)

    def add(self, value):
        self.update((value,))

    def update(self, values):
        blocks = self._blocks
        for value in values:
            if type(value) is int:
                block, bit = divmod(value, _BLOCK)
                blocks[block] = blocks.get(block, 0) | 1 << bit
            elif value is not None:
                self._others.add(value)

    def discard(self, value):
        if type(value) is int and value in self:
            block, bit = divmod(value, _BLOCK)
            self._blocks[block] ^= 1 << bit
        self._others.discard(value)

    def __contains__(self, value):
        if type(value) is int:
            block, bit = divmod(value, _BLOCK)
            return bool(self._blocks.get(block, 0) >> bit & 1)
        return value in self._others

    def isdisjoint(self, values):
        return not any(value in self for value in values)

    def without(self, other):
        """A plain set of those that the other does not have."""
        found = {value for value in self._others if value not in other}
        for block, mask in self._blocks.items():
            left = mask & ~other._blocks.get(block, 0)
            while left:
                found.add(block * _BLOCK + left.bit_length() - 1)
                left ^= 1 << (left.bit_length() - 1)
        return found


class Column:
    """How one field's values of a fixture become the database's, and what may be wrong with them."""

    def __init__(self, plan, field):
        self.plan, self.field = plan, field
        self.model, self.name = plan.label, field.name
        self.connection = plan.load.connection
        self.problems = plan.load.problems
        target = field
        while target.remote_field is not None and getattr(target, "target_field", None) is not None:
            target = target.target_field
        self.target = target  # what the values are of: the field at the end of the references
        self.kind = target.get_internal_type()
        self.postgres = self.connection.vendor == "postgresql"
        self.max_length = target.max_length if isinstance(target, (models.CharField, models.FileField)) else None
        self.range = self._range()
        # Whether the field's JSON is written as Django's own; else its class says how.
        self._own_json = self.kind == "JSONField" and _methods_of_django(
            target, "get_prep_value", "get_db_prep_value", "get_db_prep_save"
        )
        self.convert = self._quick()

    def _range(self):
        if not isinstance(self.target, models.IntegerField):
            return (None, None)  # SQLite has a range for fields of every kind
        try:
            found = self.connection.ops.integer_field_range(self.kind)
        except KeyError:
            return (None, None)
        # Older Djangos know none for SQLite, whose own integers have 8 bytes: its driver takes nothing beyond.
        if self.connection.vendor == "sqlite" and found == (None, None):
            return (-(2**63), 2**63 - 1)
        return found

    def _quick(self):
        """The shortest way for the field's values: its conversions, or what they come to for the commonest kinds."""
        stock = _methods_of_django(self.target, "to_python", "get_prep_value", "get_db_prep_value", "get_db_prep_save")
        if stock and self.kind in ("CharField", "TextField", "SlugField"):
            return self._text
        if stock and self.range != (None, None):
            return self._whole
        if stock and self.kind in ("BooleanField", "FloatField"):
            return self._same
        if stock and self.kind == "UUIDField":
            return self._uuid
        if stock and self.kind == "DateField" and _day_from_iso is not None:
            return self._day
        utc = settings.USE_TZ and getattr(self.connection, "timezone_name", "") == "UTC"
        if stock and self.kind == "DateTimeField" and utc and _from_iso is not None:
            return self._moment
        return self._general

    @property
    def same(self):
        """Whether a stored value is the object's value, too."""
        return self.convert in (self._text, self._whole, self._same)

    @property
    def is_text(self):
        return self.convert == self._text

    @property
    def is_whole(self):
        return self.convert == self._whole

    def _note(self, kind, pk, detail):
        return self.problems.add(kind, self.model, pk, self.name, detail)

    def _text(self, value, pk):
        """The quick way for text, most of what there is."""
        if type(value) is not str:
            return self._general(value, pk)
        return self.checked(value, pk)

    def _whole(self, value, pk):
        """The quick way for whole numbers."""
        low, high = self.range
        return value if type(value) is int and low <= value <= high else self._general(value, pk)

    def _same(self, value, pk):
        """The quick way for what the file and the database have in common."""
        kind = bool if self.kind == "BooleanField" else float
        return value if type(value) is kind and value == value else self._general(value, pk)

    def _uuid(self, value, pk):
        """The quick way for UUIDs as fixtures write them."""
        if type(value) is str and _UUID.match(value):
            return value if self.connection.features.has_native_uuid_field else value.replace("-", "")
        return self._general(value, pk)

    def _day(self, value, pk):
        """The quick way for days as fixtures write them."""
        if type(value) is str and _DAY.match(value):
            try:
                return str(_day_from_iso(value))
            except ValueError:
                pass
        return self._general(value, pk)

    def _moment(self, value, pk):
        """The quick way for moments as fixtures write them."""
        if type(value) is str and _MOMENT.match(value):
            try:
                # As the adapters of the two databases write it; a day that does not exist goes the long way.
                text = str(_from_iso(value[:-1]))
                return text + "+00:00" if self.postgres else text
            except ValueError:
                pass
        return self._general(value, pk)

    def several(self, values, pks):
        """The values of many objects: as they are where a look at all of them says that nothing is to be done."""
        convert = self.convert
        if convert != self._general and self._pass(values):
            return values
        return [convert(value, pk) for value, pk in zip(values, pks)]

    def _pass(self, values):
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
            return self.range[0] <= min(values) and max(values) <= self.range[1]
        if self.convert != self._same or not kinds <= {bool if self.kind == "BooleanField" else float}:
            return False
        # What is not a number goes the long way.
        return self.kind == "BooleanField" or all(value == value for value in values)

    def checked(self, value, pk):
        if "\0" in value and self.postgres and self._note("nul", pk, "holds a NUL character") == "strip":
            value = value.replace("\0", "")
        if has_surrogate(value):
            detail = f"holds half a character, which no database stores: {short(value)}"
            value = self._lossy("surrogate", pk, detail, without_surrogates(value))
        if self.max_length is not None and value is not None and len(value) > self.max_length:
            detail = f"{len(value)} characters, at most {self.max_length} fit"
            # A database that enforces the length cannot keep it.
            if self._note("too_long", pk, detail) == "cut":
                value = value[: self.max_length]
        return value

    def _general(self, value, pk):
        """Through the field's own conversions, as stock does."""
        text = json_text(value) if self._own_json else None
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
        except EXPECTED as error:
            raise self.invalid(pk, error) from None
        return self.stored(value, pk)

    def stored(self, value, pk):
        """The database's value of a Python value."""
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
        if self._own_json:
            return self._json(value, pk)
        if self.kind in ADDRESSES:
            return str(value) if value else self._null(pk)
        try:
            prepared = self.field.get_db_prep_save(value, self.connection)
        except EXPECTED as error:
            raise self.invalid(pk, error) from None
        if getattr(self.field, "geom_type", None):
            return self._geometry(prepared)
        if prepared is None:
            return self._null(pk)
        return self._plain(prepared)

    def is_special(self, value):
        """Whether a fixture's value is one that only the database's own text can give."""
        return (self._own_json and json_text(value) is not None) or is_special(self.kind, value)

    def stand_in(self, value):
        """What Django may save of a special value until its text is written."""
        if is_special(self.kind, value):
            return "0" if self.kind == "DecimalField" else limit(self.kind, value)
        return None if self.field.null else {}

    def _lossy(self, kind, pk, detail, mended):
        """Note a value that the database does not keep; returns what the policy makes of it."""
        action, accept = self.problems.action(kind, self.model, self.name), ""
        if mended is None and not self.field.null and kind != "precision":
            accept = "drop"  # there is nothing to store in its place
            action = action if action == "drop" else "stop"
        elif action == "empty" and not self.field.null:
            action = "stop"
        self.problems.add(kind, self.model, pk, self.name, detail, action, accept)
        if action == "drop":
            raise Dropped()
        return None if action == "empty" else mended

    def _special(self, value, pk):
        """A value that only PostgreSQL's text can give: as it is there, else by the policy."""
        infinite = self.kind == "DecimalField" and value != "NaN"
        if self.postgres and not (infinite and self.connection.pg_version < 140000):
            return value
        if self.kind == "DecimalField":
            kind = "infinity" if infinite else "nan"
            action = self.problems.action(kind, self.model, self.name)
            if action == "limit":  # there is none for a number
                self.problems.add(kind, self.model, pk, self.name, f"{value} cannot be stored", "stop")
                raise Invalid()
            return self._lossy(kind, pk, f"{value} cannot be stored", None)
        end = limit(self.kind, value)
        mended = self._lossy("infinity", pk, f"{value} would be stored as {end}", end)
        return None if mended is None else self.stored(self.target.to_python(mended), pk)

    def _kept(self, value, pk):
        """What SQLite keeps of the value, noted where that is less."""
        if self.kind == "FloatField" and isinstance(value, float) and value != value:
            return self._lossy("nan", pk, "nan would be stored as NULL", None)
        if self.kind == "DecimalField" and isinstance(value, decimal.Decimal) and value.is_finite():
            kept = of_decimal(value, self.target)
            if kept is not None:
                self._lossy("precision", pk, f"{value} would be stored as {kept}", None)
        elif self.kind == "DurationField" and isinstance(value, datetime.timedelta) and is_too_long(value):
            return self._out_of_range(value, pk, f"{value} has more microseconds than an integer holds")
        return value

    def python(self, value, mended):
        """The object's value of a fixture's; of one that was mended the stored one is at hand."""
        if self._own_json and (value == JSON_NULL or (mended and value == "null")):
            return None
        text = json_text(value) if self._own_json else None
        if text is not None:
            value = json.loads(text)
        if is_special(self.kind, value):
            value = None if self.kind == "DecimalField" else limit(self.kind, value)
        if is_raster(self.target) and isinstance(value, str):
            return raster_values(value)
        if mended and self.kind == "JSONField" and isinstance(value, str):
            value = json.loads(value)
        return self.target.to_python(value)

    def prepared(self, value):
        """The stored form of an object's value, as it is."""
        if self.kind == "FileField" and value is None:
            value = ""
        if value is None:
            return None
        if self._own_json:
            return json.dumps(value, cls=getattr(self.field, "encoder", None))
        if self.kind in ADDRESSES:
            return str(value) if value else None
        prepared = self.field.get_db_prep_save(value, self.connection)
        if prepared is not None and getattr(self.field, "geom_type", None):
            return self._geometry(prepared)
        return None if prepared is None else self._plain(prepared)

    def has_more_digits(self, stored, value):
        """Whether the stored JSON differs from the object's value only in digits that Python's floats do not hold."""
        if not self._own_json or type(stored) is not str or json_special(stored, False) is None:
            return False
        return json.loads(stored) == value

    def _null(self, pk):
        required = not self.field.null and not self.field.primary_key
        if required and self._own_json:
            return "null"  # where there is no SQL NULL, it was JSON's
        if required and self._note("null", pk, "is NULL, which the field does not allow") == "drop":
            raise Dropped()
        return None

    def _in_range(self, value, pk):
        detail = None
        low, high = self.range
        if isinstance(value, int) and not isinstance(value, bool):
            if (low is not None and value < low) or (high is not None and value > high):
                detail = f"{value} is not between {low} and {high}"
        elif isinstance(value, decimal.Decimal) and self.kind == "DecimalField" and value.is_finite():
            room = self.target.max_digits - self.target.decimal_places
            if abs(value) >= decimal.Decimal(10) ** room:
                detail = f"{value} has more than {room} digits before the point"
        return value if detail is None else self._out_of_range(value, pk, detail)

    def _out_of_range(self, value, pk, detail):
        action = self._note("out_of_range", pk, detail)
        if action == "drop":
            raise Dropped()
        return None if action == "empty" else value

    def invalid(self, pk, error):
        if self._note("invalid", pk, "; ".join(getattr(error, "messages", None) or [str(error)])) == "drop":
            return Dropped()
        return Invalid()

    def _json(self, value, pk):
        text = json.dumps(value, cls=getattr(self.field, "encoder", None))
        if "NaN" in text or "Infinity" in text:
            plain = json.loads(text)
            if any_in(plain, is_nan):
                raise self.invalid(pk, f"{short(plain)} holds numbers that JSON does not have")
        if self.postgres and "\\u0000" in text:
            plain = json.loads(text)
            if _has_nul(plain) and self._note("nul", pk, "holds a NUL character") == "strip":
                text = json.dumps(_without_nul(plain))
        if self.postgres and "\\ud" in text:
            plain = json.loads(text)
            if any_in(plain, _is_broken):
                detail = f"holds half a character, which PostgreSQL does not store: {short(plain)}"
                if self._note("surrogate", pk, detail) == "drop":
                    raise Dropped()
                whole = mapped(plain, lambda each: without_surrogates(each) if _is_broken(each) else each)
                text = json.dumps(whole)
        return text

    def _geometry(self, prepared):
        if prepared is None:
            return None
        data = getattr(prepared, "ewkb", None)
        if (
            data is None
            or getattr(prepared, "srid", None) != self.field.srid
            or getattr(prepared, "is_geometry", 1) is False
        ):
            raise Stock("a geometry that the database must convert")
        return bytes(data).hex()

    def _plain(self, value):
        """A value that waits in a file and goes into COPY or a statement as it is."""
        kind = type(value)
        if kind in _MARSHALLED:
            return value
        if isinstance(value, bool):
            return bool(value)
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, datetime.datetime):
            return _in_utc(value)
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, datetime.timedelta):
            return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
        if isinstance(value, (decimal.Decimal, uuid.UUID, ipaddress._BaseAddress)):
            return str(value)
        binary = getattr(value, "adapted", getattr(value, "obj", value))
        if isinstance(binary, (bytes, bytearray, memoryview)):
            return bytes(binary)
        if binary is not value and hasattr(value, "dumps"):
            return _json_text(value, binary)
        if self.postgres:
            text = postgres_text(value)
            if text is not None:
                return text
        raise Stock(f"its field {self.name} has values of its own kind")


def converted(column, value):
    """The stored form of an object's value, or of a fixture's, or None where there is none."""
    try:
        if column.kind in ADDRESSES:
            return str(column.target.to_python(value))
        return column._plain(column.field.get_db_prep_save(column.target.to_python(value), column.connection))
    except (Stock, Invalid, *EXPECTED):
        return None


class Invalid(Exception):
    """A value that is none; noted already, and nothing will be written."""


EXPECTED = (ValidationError, ValueError, TypeError, ArithmeticError, AttributeError)


def _methods_of_django(field, *names):
    return all(getattr(type(field), name).__module__.startswith("django.db.models.fields") for name in names)


def _json_text(adapter, value):
    """The text that a driver's JSON adapter sends: psycopg2's has a method, psycopg 3's an attribute."""
    dumps = adapter.dumps
    return (dumps or json.dumps)(value)


def postgres_text(value):
    """PostgreSQL's text of an array, an hstore or a range; None of anything else."""
    if isinstance(value, (list, tuple)):
        return "{" + ",".join(["NULL" if each is None else _element(each) for each in value]) + "}"
    if isinstance(value, dict) and all(isinstance(part, (str, type(None))) for pair in value.items() for part in pair):
        return ",".join(
            "{}=>{}".format(_quoted(key), "NULL" if each is None else _quoted(each)) for key, each in value.items()
        )
    if all(hasattr(value, name) for name in ("isempty", "lower", "upper", "lower_inc", "upper_inc")):
        if value.isempty:
            return "empty"
        ends = ["" if each is None else _quoted(_text(each)) for each in (value.lower, value.upper)]
        return "{}{},{}{}".format("[" if value.lower_inc else "(", *ends, "]" if value.upper_inc else ")")
    return None


def _element(value):
    """One of an array's."""
    if isinstance(value, (list, tuple)):
        return postgres_text(value)
    return _quoted(_text(value))


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value):
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (str, int, float, decimal.Decimal, uuid.UUID, ipaddress._BaseAddress)):
        return str(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
    inside = getattr(value, "adapted", getattr(value, "obj", value))
    if inside is not value and hasattr(value, "dumps"):
        return _json_text(value, inside)
    if isinstance(inside, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(inside).hex()
    text = postgres_text(value)
    if text is None:
        raise Stock("it holds values of their own kind")
    return text


_MARSHALLED = {str, int, float, bool, bytes, type(None)}


def _in_utc(value):
    """One text for a moment, whatever zone it is told in: keys are compared by it."""
    with contextlib.suppress(OverflowError):  # at either end of time it stays in its own
        value = value if value.tzinfo is None else value.astimezone(datetime.timezone.utc)
    return str(value)


def _is_utf8(values):
    """Whether texts can be encoded: none holds half a pair of surrogates."""
    try:
        "".join(values).encode("utf-8")
    except UnicodeEncodeError:
        # Halves of two texts beside each other make no pair: Python joins code points.
        return False
    return True


def _is_broken(value):
    return isinstance(value, str) and has_surrogate(value)


def _has_nul(value):
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _without_nul(value):
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value
