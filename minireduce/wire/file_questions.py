"""What clients ask of the block store without changing anything, one class a question.

The answers are `core.storage.views`. As with `questions`, no machine ever sees these.
"""

from __future__ import annotations

from minireduce.frozen import dataclass

FILES_PER_CALL_MAX = 1000


@dataclass(frozen=True, slots=True)
class GetStatus:
    """What a path names."""

    path: str


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """A page of a directory: entries whose names come after `after`. Of a file, the file itself."""

    path: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class GetSummary:
    """How much a path holds."""

    path: str


@dataclass(frozen=True, slots=True)
class GetFiles:
    """Several files, each with the blocks of its first `length` bytes; at most `FILES_PER_CALL_MAX`."""

    paths: tuple[str, ...]
    length: int
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class GetHealth:
    """How the blocks of a file are, and why."""

    path: str


@dataclass(frozen=True, slots=True)
class GetBlocks:
    """The blocks of a file that touch a range, replicas on the machine `machine_id` first."""

    path: str
    offset: int
    length: int
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class DescribeStore:
    """The block store in numbers."""
