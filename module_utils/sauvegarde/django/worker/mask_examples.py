"""Inside the site: some values of each field before and after its mask, for the person who decides."""

import json

from django.apps import apps

from ..fixture_stream import NUMBERED
from ..masking import (
    ASK,
    DROP,
    KEEP,
    Masking,
)
from .model_dump import NaturalKeys, Reader, Style
from .people_names import learn_from_database
from .site_models import description, rows_of, snapshot

_READ = 500  # rows of each model among which different values are looked for
_LONGEST = 160


def preview(options, source, output):
    """{label: {field: {"action", "examples": [[before, after]]}}}, at most `count` different values of each field.

    `options`: policy, key (hexadecimal), count, database. Values are texts, cut where they are long. What a field that
    the policy asks about becomes is "". Models whose rows are dropped are "drop".
    """
    using = options["database"]
    described = description(using)
    masking = Masking(options["policy"], described, bytes.fromhex(options["key"]), [])
    found = {}
    with snapshot(using) as connection:
        tables = set(connection.introspection.table_names(include_views=True))
        learn_from_database(masking, using)
        for model in apps.get_models():
            label = model._meta.label_lower
            rules = masking.models.get(label)
            if model._meta.proxy or label not in described or model._meta.db_table not in tables or rules is None:
                continue
            if label in NUMBERED:
                continue
            found[label] = rules if rules == DROP else _of_model(model, rules, masking, using, options["count"])
    return found


def _of_model(model, rules, masking, using, count):
    options = {"database": using, "natural_foreign": False, "natural_primary": False, "all": True, "pks": []}
    reader = Reader(model, options, Style("jsonl", None), None, NaturalKeys(using, None))
    facts = masking.description[model._meta.label_lower]["fields"]
    fields = [
        field for field in model._meta.local_concrete_fields
        if field.name in facts and field.name in rules and field.remote_field is None
    ]  # fmt: skip
    before = {field.name: [] for field in fields}
    encoders = {field.name: reader.encoder(field)[1] for field in fields}
    rows = rows_of(model, using).order_by("pk").values_list(*[field.attname for field in fields])
    for row in rows[:_READ] if fields else ():
        for field, value in zip(fields, row):
            some = before[field.name]
            plain = json.loads(encoders[field.name](value)) if len(some) < count else None
            if plain not in (None, "", [], {}) and plain not in some:
                some.append(plain)
    return {name: _examples(model, name, rules[name], some, masking) for name, some in before.items()}


def _examples(model, name, action, values, masking):
    is_question = action == ASK or (isinstance(action, dict) and ASK in action)
    mask = None if is_question else masking.mask(model._meta.label_lower, name)
    pairs = []
    for value in values:
        after = ""
        if action == KEEP:
            after = _text(value)
        elif mask is not None:
            try:
                after = _text(mask(value))
            except Exception as error:  # noqa: BLE001 - what does not fit is what the preview is for
                after = "cannot be masked: " + str(getattr(error, "why", "") or error).splitlines()[0]
        pairs.append([_text(value), after])
    return {"action": action, "examples": pairs}


def _text(value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
