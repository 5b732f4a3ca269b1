"""Prove a migration: compare what arrived in the side database with what the archive says was sent, per model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..archive import compression
from ..archive.manifest import Manifest
from ..django import data_dump, data_load, fixture_fingerprint, fixture_stream
from ..django.site import Site
from ..errors import SauvegardeError
from . import difference_examples
from .migration_plan import SiteSurvey
from .migration_request import MigrationRequest

Keys = Mapping[str, Sequence[Any]]  # model to keys of its objects


def archive_data(request: MigrationRequest, manifest: Manifest) -> Path:
    """Return the path of the carried archive's fixture."""
    return Path(request.path, manifest.source["file"] + compression.SUFFIX)


def moved_models(facts: SiteSurvey, manifest: Manifest) -> list[str]:
    """Return the models that both sides have, empty ones and those that masking drops included: what is replaced."""
    return [label for label in facts["selected"] if label in manifest.source["many"]]


def prove(
    request: MigrationRequest,
    where: Site,
    facts: SiteSurvey,
    manifest: Manifest,
    touched: Keys,
    progress: Callable[[dict[str, Any]], None] | None = None,
    changed: Keys | None = None,
) -> dict[str, Any]:
    """Compare what is in the database with what the archive says was sent. Raises SauvegardeError where they differ.

    A model that differs is compared once more over the fields that both sides know and without the objects that the
    policy has changed (touched, by model), which are listed; those in `changed` ({model: [[key, fields]]}) lack these
    fields only. Returns {"by", "rows", "models": {label: {"rows", "hash"}}, "left_out": {label: fields}, "mended":
    {label: objects}}.
    """
    options = manifest.source["options"]
    values = {key: options[key] for key in ("natural_foreign", "natural_primary") if key in options}
    # The side database must hold just what was sent, whatever a manager shows of it.
    values.update(all=True, exact=True)
    labels = moved_models(facts, manifest)
    arrived = data_dump.stream(where, dict(values, labels=labels, format="jsonl"), lambda piece: None, progress)[
        "fingerprint"
    ]
    tables = (manifest.fingerprint or {})["tables"]
    sent = {"tables": {label: tables[label] for label in tables if label in labels}}
    left_out: dict[str, list[str]] = {}
    differences = fixture_fingerprint.compare(sent, arrived)
    if differences:
        values.update(labels=[difference["model"] for difference in differences], format="jsonl")
        differences, left_out = _compare_common_fields(request, where, facts, manifest, values, touched, changed)
    if differences:
        raise _refusal(request, where, facts, manifest, values, touched, differences)
    return {
        "by": fixture_fingerprint.ALGORITHM,
        "rows": sum(model["rows"] for model in arrived["tables"].values()),
        "models": arrived["tables"],
        "left_out": left_out,
        "mended": {label: len(keys) for label, keys in touched.items()},
    }


def _refusal(
    request: MigrationRequest,
    where: Site,
    facts: SiteSurvey,
    manifest: Manifest,
    values: Mapping[str, Any],
    touched: Keys,
    differences: Sequence[Mapping[str, Any]],
) -> SauvegardeError:
    """Return the error that names the differences and, where the number of rows is right, the first objects."""
    labels = [one["model"] for one in differences if one["expected"]["rows"] == one["actual"]["rows"]]
    examples: list[str] = []
    if labels:
        fields_by_model = {label: facts["models"][label]["fields"] for label in labels}
        options = {key: value for key, value in values.items() if key != "labels"}
        data, many = archive_data(request, manifest), manifest.source["many"]
        examples = difference_examples.of(where, data, labels, options, many, fields_by_model, touched)
    return SauvegardeError(
        "What arrived is not what was sent: the live database was not touched.",
        "\n".join([one["sentence"] for one in differences] + examples),
        "Compare the code of both sites: a field that is written or read in its own way differs.",
    )


def _compare_common_fields(
    request: MigrationRequest,
    where: Site,
    facts: SiteSurvey,
    manifest: Manifest,
    values: Mapping[str, Any],
    touched: Keys,
    changed: Keys | None,
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return (differences, {label: fields of one side only}) of the models that `values` names."""
    fields_by_model = {label: facts["models"][label]["fields"] for label in values["labels"]}
    sent = fixture_fingerprint.Part(manifest.source["many"], fields_by_model, touched, changed)
    with contextlib.ExitStack() as stack:
        for entry in fixture_stream.objects(*data_load.opened(stack, archive_data(request, manifest))):
            sent.add(entry)
    many: dict[str, Any] = {}
    arrived = fixture_fingerprint.Part(many, sent.fields, touched, changed)
    data_dump.stream(where, values, data_dump.parsed(arrived.add), prove=False, many=many)
    left_out = {label: sorted(sent.fields[label] ^ fields) for label, fields in arrived.fields.items() if fields}
    differences = fixture_fingerprint.compare(sent.result(), arrived.result())
    return differences, {label: fields for label, fields in left_out.items() if fields}
