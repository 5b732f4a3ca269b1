"""Sample a bounded number of each field's values, and count what is personal in them.

The values stay in this process; only counts leave it.
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models, transaction

from ..known_people import People
from ..name_hints import name_fields
from ..personal_data import READ, kinds
from ..serialized import Known
from .model_selection import is_generated, rows_of, stored_fields
from .people_names import learn
from .read_snapshot import snapshot

if TYPE_CHECKING:
    from .django_types import Field, Model

Description = dict[str, Any]  # as `model_description.description` returns it
Names = tuple[People, "set[str]", Known]  # the people and the login names of the site, and its models

_NAMES = 20000
_SHORTEST_LOGIN = 5  # shorter ones are words, too
# A telephone number that is stored as a number has no leading zero, or begins with the country's code.
_TELEPHONE = re.compile(r"[1-9]\d{8}\Z|(?:33|32|41|44|49|34|39)\d{9,10}\Z")
# Fields whose values are text, or hold text.
_SAMPLED = (models.CharField, models.TextField, models.FileField, models.JSONField, models.BinaryField)
_ALSO = ("ArrayField", "HStoreField", "SearchVectorField")


def samples(using: str, rows: int, description: Description) -> dict[str, Any]:
    """Return {label: {field: {"rows": values that were not empty, "kinds": {kind: [values that are one, values that
    hold one]}}}}.

    The kind “objects” is that of whole rows of other models (see `serialized`). Of each model the first and the last
    rows are read, at most `rows` together.
    """
    with snapshot(using) as connection:
        tables = set(connection.introspection.table_names(include_views=True))
        chosen = [model for model in _models(description) if model._meta.db_table in tables]
        names = _people(chosen, using, description), _logins(chosen, using, description), Known(description)
        return {model._meta.label_lower: _read(model, using, rows, names) for model in chosen}


def _read(model: type[Model], using: str, rows: int, names: Names) -> dict[str, Any] | None:
    try:
        with transaction.atomic(using=using):
            return _sample(model, using, rows, names)
    except Exception:  # noqa: BLE001 - fields of the site's own, which a person has to classify
        return None


def _models(description: Description) -> list[type[Model]]:
    return [model for model in apps.get_models() if model._meta.label_lower in description and not model._meta.proxy]


def _people(chosen: Iterable[type[Model]], using: str, description: Description) -> People:
    """Return the names of people in the site's rows."""
    people = People()
    learn(people, chosen, using, name_fields(description), _NAMES)
    return people


def _logins(chosen: Iterable[type[Model]], using: str, description: Description) -> set[str]:
    """Return the names that the site's users log in with."""
    logins: set[str] = set()
    login_fields = name_fields(description, ("username",))
    for model in chosen:
        for name in login_fields.get(model._meta.label_lower, ()):
            values = rows_of(model, using).order_by().values_list(name, flat=True).distinct()[:_NAMES]
            logins.update(value for value in values if isinstance(value, str) and len(value) >= _SHORTEST_LOGIN)
    return logins


def _is_sampled(field: Field) -> bool:
    kind = field.get_internal_type()
    if is_generated(field) or field.remote_field is not None:
        return False
    if isinstance(field, models.IntegerField):
        return not field.primary_key
    return isinstance(field, _SAMPLED) or kind in _ALSO or kind == "JSONField"


def _sample(model: type[Model], using: str, rows: int, names: Names) -> dict[str, Any]:
    fields = [field for field in stored_fields(model) if not field.many_to_many and _is_sampled(field)]
    counts: dict[str, Any] = {
        field.name: {"rows": 0, "kinds": collections.defaultdict(lambda: [0, 0])} for field in fields
    }
    if fields:
        for row in _rows(model, using, rows, [field.attname for field in fields]):
            for field, value in zip(fields, row):
                if isinstance(value, int) and not isinstance(value, bool):
                    counts[field.name]["rows"] += 1
                    counts[field.name]["kinds"]["phone"][0] += bool(_TELEPHONE.match(str(value)))
                    continue
                _count(counts[field.name], value, names)
    for of_field in counts.values():
        of_field["kinds"] = {kind: numbers for kind, numbers in of_field["kinds"].items() if any(numbers)}
    return counts


def _rows(model: type[Model], using: str, rows: int, names: Sequence[str]) -> Iterator[Sequence[Any]]:
    """Yield the first and the last rows, in the order of the key, none of them twice."""
    query = rows_of(model, using).values_list("pk", *names)
    seen = set()
    for ordered in (query.order_by("pk"), query.order_by("-pk")):
        for row in ordered[: max(rows // 2, 1)]:
            if row[0] not in seen:
                seen.add(row[0])
                yield row[1:]


def _count(counts: dict[str, Any], value: Any, names: Names) -> None:
    texts = [text for text in itertools.islice(_texts(value), 200) if text.strip()]
    if not texts:
        return
    counts["rows"] += 1
    people, logins, models_of = names
    counts["kinds"]["objects"][1] += models_of.holds(value)
    kinds_of = [dict(kinds(text, people), **({"login": True} if text.strip() in logins else {})) for text in texts]
    for kind in {kind for of_text in kinds_of for kind in of_text}:
        whole = all(of_text.get(kind) for of_text in kinds_of)
        counts["kinds"][kind][0 if whole else 1] += 1


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts inside a value."""
    if value is None:
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        # Bytes that are not UTF-8 are replaced: text in another encoding still shows its addresses.
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
