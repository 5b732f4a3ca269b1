"""Inside the site: look at a bounded number of each field's values and count what is personal in them.

The values stay here; only counts leave.
"""

import collections
import itertools
import re

from django.apps import apps
from django.db import models, transaction

from .masking import name_fields
from .people import People
from .personal import READ, kinds
from .serialized import Known
from .worker_models import is_generated, rows_of, snapshot, stored_fields
from .worker_people import learn

_NAMES = 20000
_SHORTEST_LOGIN = 5  # shorter ones are words, too
# A telephone that is stored as a number has lost its zero, or has its country's number.
_TELEPHONE = re.compile(r"[1-9]\d{8}\Z|(?:33|32|41|44|49|34|39)\d{9,10}\Z")
# Whose values are text, or hold text.
_LOOKED_AT = (models.CharField, models.TextField, models.FileField, models.JSONField, models.BinaryField)
_ALSO = ("ArrayField", "HStoreField", "SearchVectorField")


def samples(using, rows, description):
    """{label: {field: {"rows": values that were not empty, "kinds": {kind: [whole values, values that hold it]}}}}.

    The kind “objects” is that of whole rows of other models (see `serialized`). Of each model the first and the last
    rows are read, at most `rows` together.
    """
    with snapshot(using) as connection:
        tables = set(connection.introspection.table_names(include_views=True))
        chosen = [model for model in _models(description) if model._meta.db_table in tables]
        known = _people(chosen, using, description), _logins(chosen, using, description), Known(description)
        return {model._meta.label_lower: _read(model, using, rows, known) for model in chosen}


def _read(model, using, rows, known):
    try:
        with transaction.atomic(using=using):
            return _sample(model, using, rows, known)
    except Exception:  # noqa: BLE001 - fields of the site's own, which a person then looks at
        return None


def _models(description):
    return [model for model in apps.get_models() if model._meta.label_lower in description and not model._meta.proxy]


def _people(chosen, using, description):
    """The names of people that the site's rows hold."""
    known = People()
    learn(known, chosen, using, name_fields(description), _NAMES)
    return known


def _logins(chosen, using, description):
    """The names that the site's users log in with."""
    found = set()
    wanted = name_fields(description, ("username",))
    for model in chosen:
        for name in wanted.get(model._meta.label_lower, ()):
            values = rows_of(model, using).order_by().values_list(name, flat=True).distinct()[:_NAMES]
            found.update(value for value in values if isinstance(value, str) and len(value) >= _SHORTEST_LOGIN)
    return found


def _is_looked_at(field):
    kind = field.get_internal_type()
    if is_generated(field) or field.remote_field is not None:
        return False
    if isinstance(field, models.IntegerField):
        return not field.primary_key
    return isinstance(field, _LOOKED_AT) or kind in _ALSO or kind == "JSONField"


def _sample(model, using, rows, known):
    fields = [field for field in stored_fields(model) if not field.many_to_many and _is_looked_at(field)]
    found = {field.name: {"rows": 0, "kinds": collections.defaultdict(lambda: [0, 0])} for field in fields}
    if fields:
        for row in _rows(model, using, rows, [field.attname for field in fields]):
            for field, value in zip(fields, row):
                if isinstance(value, int) and not isinstance(value, bool):
                    found[field.name]["rows"] += 1
                    found[field.name]["kinds"]["phone"][0] += bool(_TELEPHONE.match(str(value)))
                    continue
                _count(found[field.name], value, known)
    for each in found.values():
        each["kinds"] = {kind: counts for kind, counts in each["kinds"].items() if any(counts)}
    return found


def _rows(model, using, rows, names):
    """The first and the last rows, by the key; where the key cannot be compared twice, none comes twice."""
    query = rows_of(model, using).values_list("pk", *names)
    seen = set()
    for ordered in (query.order_by("pk"), query.order_by("-pk")):
        for row in ordered[: max(rows // 2, 1)]:
            if row[0] not in seen:
                seen.add(row[0])
                yield row[1:]


def _count(found, value, known):
    texts = [text for text in itertools.islice(_texts(value), 200) if text.strip()]
    if not texts:
        return
    found["rows"] += 1
    people, logins, models_of = known
    found["kinds"]["objects"][1] += models_of.holds(value)
    every = [dict(kinds(text, people), **({"login": True} if text.strip() in logins else {})) for text in texts]
    for kind in {kind for each in every for kind in each}:
        whole = all(each.get(kind) for each in every)
        found["kinds"][kind][0 if whole else 1] += 1


def _texts(value):
    """The texts inside a value."""
    if value is None:
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        # Letters that are none are seen as such: what is text in another encoding still shows its addresses.
        yield bytes(value[:READ]).decode("utf-8", "replace")
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(name)
            yield from _texts(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _texts(item)
    elif not isinstance(value, (int, float)):
        yield str(value)
