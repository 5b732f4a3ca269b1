"""Fixtures that begin with a byte-order mark, as editors and PowerShell write them."""

import io
import json

import pytest
from sauvegarde.django import fixture_stream

ENTRIES = [{"model": "a.b", "pk": number, "fields": {"text": "é 𝄞" * number}} for number in range(300)]


class Slow:
    """A source that gives a few bytes at a time."""

    def __init__(self, data, step):
        self._file, self._step = io.BytesIO(data), step

    def read(self, size):
        return self._file.read(min(size, self._step))


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("form", ["json", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_mark_at_the_start_says_the_encoding(encoding, form, step):
    entries = ENTRIES[: 20 if step == 1 else None]
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    text = "\n".join(lines) if form == "jsonl" else "[" + ",".join(lines) + "]"
    assert list(fixture_stream.objects(Slow(text.encode(encoding), step), form)) == entries
