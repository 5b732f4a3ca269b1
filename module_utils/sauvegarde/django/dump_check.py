"""Parse a dump while it is written: count its objects, fingerprint them, and search them for originals."""

from __future__ import annotations

import queue
import threading
from typing import Any

from . import fixture_stream, set_privacy
from .fixture_fingerprint import Count, Fingerprint
from .leak_scan import Scanner


class DumpCheck:
    """Parses a stream that passes by, in a thread of its own, for the duration of a `with` block.

    `many`: {model: names of its many-to-many fields}. `scanner`: searches for the originals of masked values.
    `unmasked`: what fixture sets mask (as `set_privacy.actions`), which does not count in a comparison. All of them may
    be set until the first data come.
    """

    def __init__(self, form: str, prove: bool = True, many: dict[str, list[str]] | None = None) -> None:
        self.many: dict[str, list[str]] = {} if many is None else many
        self.scanner: Scanner | None = None
        self.unmasked: dict[str, dict[str, Any]] = {}
        self._form = form
        self._pieces: queue.Queue[bytes] = queue.Queue(maxsize=8)
        self._is_over = False
        self._rest = b""
        self._fingerprint: Count = Fingerprint(self.many) if prove else Count()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> DumpCheck:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._pieces.put(b"")
            self._thread.join()

    def feed(self, payload: bytes) -> None:
        if payload:
            self._pieces.put(payload)

    def end(self) -> Count:
        """Wait for the thread and return the fingerprint, or only the counts. Raises what the thread has raised."""
        self._pieces.put(b"")
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._fingerprint

    def _run(self) -> None:
        try:
            for entry in fixture_stream.objects(self, self._form, "The dump"):
                self._fingerprint.add(set_privacy.without_masked(entry, self.unmasked, self.many))
                if self.scanner is not None:
                    self.scanner.add(entry)
            if self.scanner is not None:
                self.scanner.end()
        except Exception as error:  # noqa: BLE001 - raised again by `end`, in the caller's thread
            self._error = error
        while self._next_piece():  # so that `feed` never waits for a full queue
            pass

    def _next_piece(self) -> bool:
        if not self._is_over:
            self._rest = self._pieces.get()
            self._is_over = not self._rest
        return not self._is_over

    def read(self, _size: int) -> bytes:
        """Return the next piece, whatever its size: the parser reads this object like a binary file."""
        if not self._rest and not self._next_piece():
            return b""
        piece, self._rest = self._rest, b""
        return piece
