"""Read a dump as a stream that raises every error as a SauvegardeError, at its end at the latest."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from ...system import process
from .byte_stream import CHUNK, ReadableAndClosable
from .file_type import damaged
from .layers import ERRORS


class DumpStream:
    """The bytes of `file`, or the output of a `child` process that must end well. path: of the dump, for errors."""

    def __init__(self, file: ReadableAndClosable, path: str, child: process.Process | None = None) -> None:
        self._file = file
        self._path = path
        self._child = child

    def read(self, size: int = CHUNK, /) -> bytes:
        try:
            data = self._file.read(size)
        except ERRORS as error:
            raise damaged(self._path, str(error)) from error
        if not data and self._child is not None:
            child, self._child = self._child, None
            result = child.wait()
            if result.status:
                raise damaged(self._path, failure_message(result))
        return data

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._file.close()

    def __enter__(self) -> DumpStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def failure_message(result: process.Result) -> str:
    """Return what a failed program wrote, and the signal that ended it, if one did."""
    if result.status >= 0:
        return result.stderr
    return f"{Path(result.argv[0]).name} was ended by signal {-result.status}.\n{result.stderr}"
