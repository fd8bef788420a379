"""Several files that are opened together: to be read with one question, or to be stored with one answer.

New ones are gathered in memory and get their names when the last of them is closed, or the `with` over all of them
ends: only then is any of them stored, and closing one before says nothing about it. An exception in the `with`, or a
file that is never closed, stores none.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import BinaryIO, Self, cast

StoreAll = Callable[[Sequence[tuple[str, bytes]]], object]


class ManyFiles(list[BinaryIO]):
    """The streams, in the order of their paths; as a context manager it closes all of them."""

    def close(self) -> None:
        """Close all. Those that are written are stored when this returns; raises what storing them raises."""
        for stream in self:
            stream.close()

    def abandon(self) -> None:
        """Close all, and store nothing."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class NewFiles(ManyFiles):
    """New files, which `store` stores."""

    def __init__(self, paths: Sequence[str], store: StoreAll) -> None:
        self._paths = paths
        self._store = store
        self._contents: dict[int, bytes] = {}
        super().__init__(
            cast("BinaryIO", _NewFile(lambda data, number=number: self._closed(number, data)))  # type: ignore[misc]
            for number in range(len(paths))
        )

    def _closed(self, number: int, content: bytes) -> None:
        self._contents[number] = content
        if len(self._contents) == len(self._paths):
            self._store([(path, self._contents[number]) for number, path in enumerate(self._paths)])

    def abandon(self) -> None:
        """Close all, and store nothing."""
        self._store = lambda _: None
        self.close()


class _NewFile(io.BytesIO):
    """What is written to one of them."""

    def __init__(self, closed: Callable[[bytes], None]) -> None:
        super().__init__()
        self._tell = closed

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._tell(content)

    def __del__(self) -> None:
        """Forgotten without being closed, it is no file that anybody meant."""
