"""Find the fields that hold a model's rows together: trees and generic references.

A tree's path or its left and right numbers say where a row stands among the others. Changing one value alone breaks the
tree, although each value still looks right.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from .django_types import Model

_TREEBEARD = ("path", "depth", "numchild", "lft", "rgt", "tree_id", "sib_order")
_MPTT = ("left_attr", "right_attr", "tree_id_attr", "level_attr")
# Names in packages and sites that cannot be recognized by their classes.
_SHAPES = (
    ("path", "depth", "numchild"),
    ("lft", "rgt"),
    ("lft", "rght"),
    ("tree_left", "tree_right"),
)
_BESIDE = ("tree_id", "level", "depth", "tree_level", "tree_depth")
# A reference to an object of any kind that has no GenericForeignKey, beside the relation to its content type.
_OBJECT = re.compile(r"(\A|_)object_(id|pk)\Z")
_PATHS = ("path", "tree_path", "materialized_path", "lineage", "ancestors")


def tree_fields(model: type[Model], using: str) -> dict[str, str]:
    """Return {name of a field: the tree that it belongs to, as a phrase for people}."""
    names = {field.name for field in model._meta.local_concrete_fields}
    packages = {cls.__module__.split(".")[0] for cls in model.__mro__}
    trees: dict[str, str] = {}
    if "treebeard" in packages:
        trees.update((name, "the tree of django-treebeard") for name in names.intersection(_TREEBEARD))
    mptt = getattr(model, "_mptt_meta", None)
    if mptt is not None:
        own = {getattr(mptt, attribute, "") for attribute in _MPTT}
        trees.update((name, "the tree of django-mptt") for name in names & own)
    for shape in _SHAPES:
        if names.issuperset(shape):
            trees.update((name, "a tree") for name in names.intersection(shape + _BESIDE) if name not in trees)
    for field in model._meta.local_concrete_fields:
        with contextlib.suppress(Exception):  # a field of the site's own, which may not know its type
            if field.db_type(connections[using]) == "ltree":
                trees.setdefault(field.name, "a tree (ltree)")
    return trees


def reference_fields(model: type[Model]) -> dict[str, str]:
    """Return {name of a field: why other values depend on it}: generic references, and paths of own trees."""
    reasons: dict[str, str] = {}
    pointed = [field for field in model._meta.local_concrete_fields if field.remote_field is not None]
    if any(field.related_model._meta.label_lower == "contenttypes.contenttype" for field in pointed):
        plain = [field.name for field in model._meta.local_concrete_fields if field.remote_field is None]
        why = "it is part of a reference to an object of any kind"
        reasons.update((name, why) for name in filter(_OBJECT.search, plain))
    for private in model._meta.private_fields:
        name = getattr(private, "fk_field", None)
        if name and getattr(private, "ct_field", None):
            reasons[name] = f"it is part of the generic reference {private.name}"
    if any(field.related_model is model for field in pointed):
        names = {field.name for field in model._meta.local_concrete_fields}
        reasons.update((name, "it is the path of a tree") for name in names.intersection(_PATHS))
    return reasons
