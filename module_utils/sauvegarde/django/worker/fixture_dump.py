"""Dump the chosen models as a fixture, from one snapshot; or convert existing fixtures to one.

`model_dump` writes each model. A dump can be masked, and a dump of fixture sets empties or masks what they hold of
people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import DataError, OperationalError, connections

from ...errors import SauvegardeError
from ..leak_scan import Originals
from ..masking import Masking
from ..set_masking import SetMasking
from ..set_privacy import actions, masked_names
from ..worker_request import ConvertOptions, DumpOptions, DumpReport, WorkerRequest
from .dates_beyond_python import read_endless_dates, warning
from .derived_models import left_out, tables_of
from .json_style import Style
from .load_source import FixtureFile, fixture_files
from .lossy_values import escaped
from .masked_originals import from_database, from_entry
from .model_description import description
from .model_dump import ModelDump
from .model_selection import raw_numbers, rows_of, selected
from .natural_key_export import NaturalKeys
from .people_names import learn_from_database, learn_from_entry
from .read_snapshot import snapshot
from .unreadable_values import Unreadable

if TYPE_CHECKING:
    from .django_types import Model, Output, Source

# What reading raises for a value that its field cannot read.
_READ_ERRORS = (DataError, OperationalError, ValueError, TypeError, AttributeError, ArithmeticError, Unreadable)
_WRITE = 1 << 18  # bytes of text joined at a time


class FixtureWriter:
    """Joins the texts of objects into the stream."""

    def __init__(self, style: Style, output: Output) -> None:
        self.style, self.output = style, output
        self._between = (style.after + style.between).encode("ascii")
        self._before = (style.start + style.first).encode("ascii")  # what comes before the next text
        self._texts: list[bytes] = []
        self._size, self._is_first = 0, True

    def add(self, texts: Sequence[bytes]) -> None:
        self._texts += texts
        self._size += sum(map(len, texts))
        if self._size >= _WRITE:
            self._flush()

    def _flush(self) -> None:
        self._texts[0] = self._before + self._texts[0]
        self.output.data(self._between.join(self._texts))
        self._texts, self._size, self._before, self._is_first = [], 0, self._between, False

    def end(self) -> None:
        if self._texts:
            self._flush()
        before, after = (self.style.start, "") if self._is_first else ("", self.style.after)
        self.output.data((before + after + self.style.end).encode("ascii"))


@dataclass(frozen=True)
class _Private:
    """What a dump of fixture sets does with people's data.

    `actions`: as `set_privacy.actions` returns them. `models`: {label: the masking of its objects}. `masking`: the one
    that needs the site's names and is searched for; None if fields are only emptied.
    """

    actions: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, SetMasking] = field(default_factory=dict)
    masking: SetMasking | None = None


# --- a dump of the database -------------------------------------------------------------------------------------------


def dump(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Write the chosen models to the output, with `DumpOptions`; returns a `DumpReport`."""
    options, using = DumpOptions.from_values(request.options), request.database
    tables = None
    if not options.derived:
        with snapshot(using) as connection:
            tables = tables_of(connection)
    chosen = _chosen(options, using, tables)
    labels = [model._meta.label_lower for model in chosen]
    _check(options, chosen)
    masking = _masking(options, using, labels)
    private = _private(options, using, labels, output)
    output.progress(many=_many(chosen))
    style = Style(options.format, options.indent, options.exact)
    writer = FixtureWriter(style, output)
    counts: dict[str, int] = {}
    stock: dict[str, str] = {}
    warnings: list[str] = []
    with snapshot(using) as connection:
        if options.exact:
            read_endless_dates(connection)
        if masking:
            learn_from_database(masking, using)
            output.progress(originals=from_database(masking, using).plain())
        if private.masking:
            learn_from_database(private.masking, using)
            originals = from_database(private.masking, using).plain()
            output.progress(originals=originals, policy=private.masking.policy)
        keys = NaturalKeys(using, masking or private.masking)
        for model in chosen:
            label = model._meta.label_lower
            if masking and masking.drops(label):
                continue
            model_dump = ModelDump(model, options, using, style, private.models.get(label, masking), keys)
            if model_dump.stock_reason:
                stock[label] = model_dump.stock_reason
            try:
                counts[label] = model_dump.write(writer.add)
            except _READ_ERRORS as error:
                raise model_dump.read_error(error) from error
            warnings += [warning(label, *counted) for counted in sorted(model_dump.endless.items())]
            output.progress(model=label, objects=counts[label])
        facts = _facts(masking, labels, using)
    writer.end()
    return DumpReport(counts, stock, masking is not None, facts, warnings, dict(private.actions)).as_dict()


def _check(options: DumpOptions, chosen: Sequence[type[Model]]) -> None:
    problems = raw_numbers(chosen, options.natural_foreign, options.natural_primary)
    if problems:
        raise SauvegardeError(
            "The dump would hold numbers of permissions or content types, which mean others elsewhere.",
            "\n".join(problems),
            "Dump with natural foreign keys, and leave auth.permission and contenttypes out: every site makes its own.",
        )
    if options.pks and len(chosen) != 1:
        raise SauvegardeError("Chosen keys need one chosen model.", f"{len(chosen)} models are chosen.", "Name one.")


# --- a conversion of fixtures -----------------------------------------------------------------------------------------


def convert(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Write the chosen models' objects of the source's fixtures (see `load_source.fixture_files`), masked if there is a
    policy.

    Of a model that several files hold, the objects of the first one count. With a policy every file comes twice: the
    first time, names and originals are collected. Returns a `DumpReport`.
    """
    options, using = ConvertOptions.from_values(request.options), request.database
    chosen = _chosen(options, using, None)
    labels = {model._meta.label_lower for model in chosen}
    of_site = {model._meta.label_lower for model in apps.get_models()}
    masking = _masking(options, using, sorted(labels))
    output.progress(many=_many(chosen))
    style = Style(options.format, options.indent, options.exact)
    writer = FixtureWriter(style, output)
    counts: dict[str, int] = {}
    dropped: dict[str, int] = {}
    done: set[str] = set()
    files = fixture_files(source)
    if masking:
        _learn(masking, islice(files, options.files), using, output)
    for file in files:
        in_file = set()
        for entry in file.entries(using):
            label = entry["model"].lower()
            if label not in labels and not options.labels and label not in of_site:
                raise SauvegardeError(
                    f"The archive holds objects of {label}, which the site's code does not know.",
                    fix="Bring the code to that of the archive, or name the models to move.",
                )
            if label in labels and label not in done:
                in_file.add(label)
                changed = masking.entry(entry, options.natural_foreign) if masking else entry
                if changed is None:
                    dropped[label] = dropped.get(label, 0) + 1
                else:
                    writer.add([escaped(style.entry(changed))])
                    counts[label] = counts.get(label, 0) + 1
        done |= in_file
    writer.end()
    facts = dict(masking.facts(sorted(labels)), dropped=dropped) if masking else None
    return DumpReport(counts, {}, masking is not None, facts, []).as_dict()


def _learn(masking: Masking, files: Iterator[FixtureFile], using: str, output: Output) -> None:
    """Collect the names and originals in the files, and report the originals."""
    names, masked, originals = masking.name_fields(), masking.masked_fields(), Originals(masking.key)
    for file in files:
        for entry in file.entries(using):
            learn_from_entry(masking, names, entry)
            from_entry(originals, masking, masked, entry)
    originals.add_people(masking.people)
    output.progress(originals=originals.plain())


# --- what is dumped ---------------------------------------------------------------------------------------------------


def _chosen(options: DumpOptions, using: str, tables: Mapping[str, str] | None) -> list[type[Model]]:
    """Return the models to write, in stock's order. `tables`: see `derived_models.left_out`."""
    chosen = selected(options.labels, options.exclude, using, options.natural_foreign)
    without = {} if options.derived else left_out(chosen, [*options.labels, *options.include], tables)
    return [model for model in chosen if model._meta.label_lower not in without]


def _many(chosen: Sequence[type[Model]]) -> dict[str, list[str]]:
    """Return {label: names of the many-to-many fields}: what a fingerprint takes as sets."""
    return {model._meta.label_lower: [field.name for field in model._meta.local_many_to_many] for model in chosen}


def _masking(options: DumpOptions, using: str, labels: Sequence[str]) -> Masking | None:
    if not options.policy:
        return None
    return Masking(options.policy, description(using), bytes.fromhex(options.key), labels)


def _facts(masking: Masking | None, labels: Sequence[str], using: str) -> dict[str, Any] | None:
    """Return what was masked (as `masking.Masking.facts`), and the number of rows of each model that is dropped."""
    if masking is None:
        return None
    models = {model._meta.label_lower: model for model in apps.get_models() if model._meta.label_lower in labels}
    dropped = {label: rows_of(model, using).count() for label, model in models.items() if masking.drops(label)}
    return dict(masking.facts(labels), dropped=dropped)


def _private(options: DumpOptions, using: str, labels: Sequence[str], output: Output) -> _Private:
    if not options.sets:
        return _Private()
    output.progress(logins=_logins(using))
    described = description(using)
    chosen = actions(described, options.sets, [label for label in labels if label in described])
    masked = {label: masked_names(rules) for label, rules in chosen.items()}
    applied = chosen
    if options.compared:
        output.progress(unmasked=chosen)
        applied = {
            label: {name: action for name, action in rules.items() if name not in masked[label]}
            for label, rules in chosen.items()
        }
    sets = SetMasking(applied, described, bytes.fromhex(options.key), options.sets)
    return _Private(
        chosen,
        {label: sets for label, rules in applied.items() if rules},
        sets if any(masked.values()) and not options.compared else None,
    )


def _logins(using: str) -> list[str]:
    """Return the login names of the site's users, if these have a table."""
    user = apps.get_model(settings.AUTH_USER_MODEL) if apps.is_installed("django.contrib.auth") else None
    if user is None or user._meta.db_table not in connections[using].introspection.table_names():
        return []
    return [str(name) for name in rows_of(user, using).values_list(user.USERNAME_FIELD, flat=True).iterator()]
