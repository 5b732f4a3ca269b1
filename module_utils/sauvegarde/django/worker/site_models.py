"""Inside the site: its models, described in plain values, and the choice among them."""

import contextlib
import inspect
import platform
import uuid

import django
from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.management.utils import parse_apps_and_model_labels
from django.db import connections, models, router, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import signals
from django.db.models.manager import BaseManager
from django.db.models.query import QuerySet
from django.db.models.query_utils import DeferredAttribute

from ...errors import SauvegardeError
from ..fixture_stream import NUMBERED
from .database_guard import LOCK_SECONDS, timeouts
from .tree_fields import reference_fields, tree_fields

_EMPTY = {"DecimalField": "0", "UUIDField": "00000000-0000-0000-0000-000000000000", "DurationField": "P0DT00H00M00S"}
_EMPTY.update({"DateField": "1970-01-01", "DateTimeField": "1970-01-01T00:00:00Z", "TimeField": "00:00:00"})
_EMPTY.update({"ArrayField": "[]", "HStoreField": "{}"})
_ZERO = ("IntegerField", "BigIntegerField", "SmallIntegerField", "PositiveIntegerField", "PositiveSmallIntegerField")
_ZERO += ("PositiveBigIntegerField", "FloatField")


def describe(options, source, output):
    """The site in plain values: versions, database, models and their fields, migrations not applied.

    {"django", "python", "database": {"vendor", "name", "server"}, "models": {label: …as `masking.Masking` wants it…},
     "unapplied": [names], none where the database is not to be `asked`,
     "samples": as `worker_samples.samples` has them, of at most `rows` of each model; {} where that is 0}
    """
    using = options.get("database", "default")
    connection = connections[using]
    models_found = description(using)
    samples = {}
    if options.get("rows"):
        from .value_samples import samples as read

        samples = read(using, options["rows"], models_found)
    return {
        "samples": samples,
        "django": django.get_version(),
        "python": platform.python_version(),
        "database": {"vendor": connection.vendor, "engine": connection.settings_dict["ENGINE"]},
        "models": models_found,
        "unapplied": _unapplied(connection) if options["asked"] else [],
    }


def description(using):
    """{label: {"pk", "user", "natural_key", "index", "fields"}} of every model with a table of its own.

    "user": whether it is the user model. "index": the command that fills a search index, else an empty text.
    """
    from .derived_models import index_command

    return {
        model._meta.label_lower: {
            "pk": model._meta.pk.name,
            "user": model._meta.label_lower == settings.AUTH_USER_MODEL.lower(),
            "natural_key": _places(natural_parts(model)),
            "index": index_command(model),
            # What the database computes is no data of the site's: no policy, no masked dump and no proof knows of it.
            "fields": _fields(model, using),
        }
        for model in apps.get_models()
        if not model._meta.proxy and router.allow_migrate_model(using, model)
    }


def _fields(model, using):
    """{name: facts} of the fields of the model that hold data, what depends on them included."""
    fields = {field.name: _field(field) for field in stored_fields(model) if not is_generated(field)}
    for key, found in (("tree", tree_fields(model, using)), ("reference", reference_fields(model))):
        for name, why in found.items():
            if name in fields:
                fields[name][key] = why
    return fields


def is_generated(field):
    """Whether the database computes the field (GeneratedField)."""
    return getattr(field, "generated", False)


def rows_of(model, using):
    """All rows of the model, as objects of just its class, whatever its managers hide or make of them."""
    return QuerySet(model, using=using)


def exported_rows(model, using):
    """The rows that an export holds: those of the default manager, as stock."""
    # Whose own manager django-polymorphic recognizes and gives plain objects, as for stock.
    if hasattr(model._default_manager, "non_polymorphic"):
        return rows_of(model, using)
    return model._default_manager.using(using)


def hidden_keys(model, using):
    """The keys of rows that no export holds, since the model's default manager hides them."""
    if type(model._default_manager).get_queryset is BaseManager.get_queryset:
        return []
    seen = set(exported_rows(model, using).values_list("pk", flat=True).iterator())
    return [pk for pk in rows_of(model, using).values_list("pk", flat=True).iterator() if pk not in seen]


def stored_fields(model):
    """What a fixture of the model can hold: its own columns, and its many-to-many fields without a model between."""
    return list(model._meta.local_concrete_fields) + [
        field for field in model._meta.local_many_to_many if field.remote_field.through._meta.auto_created
    ]


def _field(field):
    many = isinstance(field, models.ManyToManyField)
    relation, natural = None, {}
    if field.remote_field is not None and field.related_model is not None:
        # A proxy has no table, no key and no policy of its own.
        target = (field.related_model if many else field.target_field.model)._meta.concrete_model
        name = target._meta.pk.name if many else field.target_field.name
        relation = [target._meta.label_lower, name]
        if field.related_model._meta.proxy:
            natural["natural_key"] = _places(natural_parts(field.related_model))
    kind = field.get_internal_type()
    nested = _nested(field)
    together = {name for group in field.model._meta.unique_together for name in group}
    for constraint in field.model._meta.constraints:
        together.update(getattr(constraint, "fields", ()))
    facts = {
        "type": kind,
        "null": field.null,
        "pk": field.primary_key,
        "alone": field.unique,
        "unique": field.unique or field.name in together,
        # That of UUIDs is of their digits alone.
        "max_length": None if kind == "UUIDField" else getattr(nested or field, "max_length", None),
        "digits": getattr(field, "max_digits", None),
        "relation": relation,
        "many": many,
        "text": isinstance(field, (models.CharField, models.TextField, models.FileField)) or nested is not None,
        # A fixture has these as a text that holds JSON.
        "nested": nested is not None,
        # To the database these are like any other text.
        "email": isinstance(nested or field, models.EmailField),
        "url": isinstance(field, models.URLField),
        "choices": bool(getattr(field, "choices", None)),
        "empty": False
        if kind == "BooleanField"
        else 0
        if kind in _ZERO
        else {}
        if kind == "JSONField"
        else _EMPTY.get(kind, ""),
    }
    return dict(facts, **natural)


def _nested(field):
    """The field of the texts inside an array (or of a hstore, the field itself), or None."""
    if field.get_internal_type() == "HStoreField":
        return field
    if field.get_internal_type() != "ArrayField":
        return None
    while hasattr(field, "base_field"):
        field = field.base_field
    return field if isinstance(field, (models.CharField, models.TextField)) else None


_ABOUT_SAVING = ("pre_init", "post_init", "pre_save", "post_save")


def heard_signals(model):
    """The names of the signals about a load's objects of the model that somebody listens to."""
    # As Django, which sends none about saving for the rows of many-to-many fields.
    names = _ABOUT_SAVING[:2] if model._meta.auto_created else _ABOUT_SAVING
    return frozenset(name for name in names if getattr(signals, name).has_listeners(model))


def listeners(model):
    """The site's own functions (names with their modules) that hear when the model's objects are saved, deleted or put
    into lists."""
    heard = [(getattr(signals, name), model) for name in ("pre_save", "post_save", "pre_delete", "post_delete")]
    heard += [(signals.m2m_changed, field.remote_field.through) for field in model._meta.local_many_to_many]
    names = set()
    for signal, sender in heard:
        found = signal._live_receivers(sender)  # from Django 5.0 on: (plain ones, coroutines)
        for receiver in [*found[0], *found[1]] if isinstance(found, tuple) else found:
            function = getattr(receiver, "__func__", receiver)
            name = getattr(function, "__qualname__", type(function).__qualname__)
            names.add(f"{function.__module__}.{name}")
    return {name for name in names if not name.startswith("django.")}


def hidden_attribute(model, field):
    """Whether something of the site's own stands between the field's column and the object's attribute."""
    descriptor = inspect.getattr_static(model, field.attname, None)
    # A plain class attribute (a base class's default) is no descriptor and hides nothing.
    return hasattr(type(descriptor), "__get__") and not (
        isinstance(descriptor, DeferredAttribute) and type(descriptor).__module__.startswith("django.")
    )


def natural_parts(model):
    """Where each part of the model's natural key comes from: (label, field, whether it is the object's own). None where
    the model has no natural key; an empty list where it cannot be told, as of what is computed.
    """
    if not hasattr(model, "natural_key"):
        return None
    marks = {}
    try:
        key = _marked(model, marks, ()).natural_key()
    except Exception:  # noqa: BLE001 - a method of the site's, run on an object that is not real
        return []
    parts = [marks.get(part) if isinstance(part, str) else None for part in key]
    return [] if None in parts else parts


def _marked(model, marks, above):
    """An object of which each field, and each field of what it points to, holds a mark of its own."""
    probe = model()
    for field in model._meta.concrete_fields:
        related = field.related_model if field.remote_field is not None else None
        if hasattr(related, "natural_key") and above.count(related) < 2:  # a tree's objects point to their like
            with contextlib.suppress(Exception):
                setattr(probe, field.name, _marked(related, marks, (*above, model)))
        mark = str(uuid.uuid4())
        marks[mark] = (field.model._meta.label_lower, field.name, not above)
        probe.__dict__[field.attname] = mark
    return probe


def _places(parts):
    """[[label, field]] of natural_parts()'s."""
    return None if parts is None else [list(part[:2]) for part in parts]


def _unapplied(connection):
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def selected(labels, exclude, using, natural_foreign):
    """The models that stock `dumpdata LABELS --exclude …` writes, in its order."""
    excluded_models, excluded_apps = parse_apps_and_model_labels(exclude)
    chosen = {}
    if not labels:
        chosen = {
            config: None
            for config in apps.get_app_configs()
            if config.models_module is not None and config not in excluded_apps
        }
    for label in labels:
        app_label, _, model_label = label.partition(".")
        try:
            config = apps.get_app_config(app_label)
            model = config.get_model(model_label) if model_label else None
        except LookupError as error:
            raise SauvegardeError(
                f"The site knows no {label}.", str(error), "Name an application or application.Model of the site."
            ) from error
        if config.models_module is None or config in excluded_apps:
            continue
        if model is None:
            chosen[config] = None
        elif chosen.setdefault(config, []) is not None and model not in chosen[config]:
            chosen[config].append(model)
    if natural_foreign:
        ordered = serializers.sort_dependencies(chosen.items(), allow_cycles=True)
    else:
        ordered = [
            model for config, some in chosen.items() for model in (config.get_models() if some is None else some)
        ]
    return [
        model
        for model in ordered
        if model not in excluded_models and not model._meta.proxy and router.allow_migrate_model(using, model)
    ]


@contextlib.contextmanager
def snapshot(using):
    """One transaction that sees the database at one moment and cannot write."""
    connection = connections[using]
    # A pooler in transaction mode forbids cursors that outlive a transaction; ours do not.
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = False
    connection.ensure_connection()
    connection.queries_log.clear()
    with transaction.atomic(using=using):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute(timeouts(connection, LOCK_SECONDS))
        yield connection


def raw_numbers(chosen, natural_foreign, natural_primary):
    """Sentences that say where a dump of these models would hold numbers of permissions or content types."""
    problems = []
    for model in chosen:
        if model._meta.label_lower in NUMBERED and not natural_primary:
            problems.append(f"{model._meta.label_lower}: its rows' own numbers")
        if not natural_foreign:
            problems += [
                f"{model._meta.label_lower}.{field.name}: numbers of {field.related_model._meta.label_lower}"
                for field in stored_fields(model)
                if field.related_model is not None
                and field.related_model._meta.concrete_model._meta.label_lower in NUMBERED
            ]
    return problems
