"""Find the site's signal listeners, and silence them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db.models import signals

if TYPE_CHECKING:
    from .django_types import Model

_SAVING = ("pre_save", "post_save")
_CHANGING = ("pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed")


def saving_signals(model: type[Model]) -> frozenset[str]:
    """Return the names of the signals about building and saving the model's objects that have a listener."""
    names = ["pre_init", "post_init"]
    # Django sends no signals about saving for the rows of many-to-many fields.
    names += [] if model._meta.auto_created else _SAVING
    return frozenset(name for name in names if getattr(signals, name).has_listeners(model))


def listener_names(model: type[Model]) -> set[str]:
    """Return the site's own functions (with their modules) that are called when the model's objects are saved, deleted
    or added to many-to-many fields."""
    pairs: list[tuple[Any, Any]] = [
        (getattr(signals, name), model) for name in ("pre_save", "post_save", "pre_delete", "post_delete")
    ]
    pairs += [(signals.m2m_changed, field.remote_field.through) for field in model._meta.local_many_to_many]
    names = set()
    for signal, sender in pairs:
        receivers = signal._live_receivers(sender)  # since Django 5.0: (functions, coroutines)
        for receiver in [*receivers[0], *receivers[1]] if isinstance(receivers, tuple) else receivers:
            function = getattr(receiver, "__func__", receiver)
            name = getattr(function, "__qualname__", type(function).__qualname__)
            names.add(f"{function.__module__}.{name}")
    return {name for name in names if not name.startswith("django.")}


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Remove all listeners to saving, deleting and lists for the block. `pre_init` and `post_init` stay: they take part
    in what an object is."""
    kept: dict[Any, Any] = {}
    for name in _CHANGING:
        signal = getattr(signals, name)
        with signal.lock:
            kept[signal], signal.receivers = signal.receivers, []
            signal.sender_receivers_cache.clear()
    try:
        yield
    finally:
        for signal, receivers in kept.items():
            with signal.lock:
                signal.receivers = receivers
                signal.sender_receivers_cache.clear()
