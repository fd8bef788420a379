"""What a record is: declared here by name, read in `engine.read`.

A format is a plain value, so that a job that names one stays immutable and cheap to ship. `Text` is what a job
without a format gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Record_co = TypeVar("Record_co", covariant=True)


class InputFormat(Generic[Record_co]):
    """What `Job(input=…)` takes; its parameter is the type of a record."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Text(InputFormat[str]):
    r"""Lines: split at `\n`, one trailing `\r` and a byte order mark removed, invalid UTF-8 replaced and counted."""


@dataclass(frozen=True, slots=True)
class Bytes(InputFormat[bytes]):
    r"""The lines that `Text` gives, as bytes just as they stand in the file, without their `\n` only."""


@dataclass(frozen=True, slots=True)
class Pairs(InputFormat["tuple[object, object]"]):
    """Typed pairs that an earlier step or job wrote; the map is called as `map(key, value)`."""
