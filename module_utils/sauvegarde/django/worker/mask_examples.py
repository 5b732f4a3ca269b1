"""Return some values of each field before and after its mask, for the person who decides about a policy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps

from ..fixture_stream import NUMBERED
from ..masking import Masking
from ..policy_actions import ASK, DROP, KEEP
from ..worker_request import DumpOptions, PreviewOptions, WorkerRequest
from .json_style import Style
from .model_description import description
from .model_dump import ModelDump
from .model_selection import rows_of
from .natural_key_export import NaturalKeys
from .people_names import learn_from_database
from .read_snapshot import snapshot

if TYPE_CHECKING:
    from .django_types import Model, Output, Source

_READ = 500  # rows of each model to find different values in
_LONGEST = 160


def preview(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Return {label: {field: {"action", "examples": [[before, after]]}}} with `PreviewOptions`.

    Values are texts, cut if they are long. For a field that the policy asks about, "after" is "". A model whose rows
    are dropped has "drop" in place of its fields.
    """
    options, using = PreviewOptions.from_values(request.options), request.database
    described = description(using)
    masking = Masking(options.policy, described, bytes.fromhex(options.key), [])
    examples: dict[str, Any] = {}
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
            examples[label] = rules if rules == DROP else _of_model(model, rules, masking, using, options.count)
    return examples


def _of_model(model: type[Model], rules: Mapping[str, Any], masking: Masking, using: str, count: int) -> dict[str, Any]:
    options = DumpOptions(natural_foreign=False, all=True)
    model_dump = ModelDump(model, options, using, Style("jsonl", None), None, NaturalKeys(using, None))
    facts = masking.description[model._meta.label_lower]["fields"]
    fields = [
        field for field in model._meta.local_concrete_fields
        if field.name in facts and field.name in rules and field.remote_field is None
    ]  # fmt: skip
    before: dict[str, list[Any]] = {field.name: [] for field in fields}
    encoders = {field.name: model_dump.encoder(field)[1] for field in fields}
    rows = rows_of(model, using).order_by("pk").values_list(*[field.attname for field in fields])
    for row in rows[:_READ] if fields else ():
        for field, value in zip(fields, row):
            some = before[field.name]
            plain = json.loads(encoders[field.name](value)) if len(some) < count else None
            if plain not in (None, "", [], {}) and plain not in some:
                some.append(plain)
    return {name: _examples(model, name, rules[name], some, masking) for name, some in before.items()}


def _examples(model: type[Model], name: str, action: Any, values: Sequence[Any], masking: Masking) -> dict[str, Any]:
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


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
