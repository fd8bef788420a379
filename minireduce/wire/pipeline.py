"""What goes along with a block over HTTP: its length, who comes next in the pipeline, and in the end who has it.

A worker that hangs in the middle holds up all before it. Each waits for `SILENCE_S` times the workers that come after
it, so the one next to the hanging worker gives up first, says who it was, and the others keep what they have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from minireduce.checksums import PACKET_BYTES
from minireduce.errors import RequestError
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

LENGTH_HEADER = "Minireduce-Block-Length"
BASE_HEADER = "Minireduce-Block-Base"
PIPELINE_HEADER = "Minireduce-Pipeline"
PIPELINE_MAX = 512
_BASE = re.compile(r"([1-9][0-9]{0,17}),([1-9][0-9]{0,17})")
SILENCE_S = 10.0

Hop = tuple[WorkerId, str]
"""A worker and the address of its block server."""


@dataclass(frozen=True, slots=True)
class Written:
    """Who has the block on disk, the first in the pipeline first, and who has not, with the reason."""

    workers: tuple[WorkerId, ...]
    failed: tuple[tuple[WorkerId, str], ...] = ()

    def to_json(self) -> str:
        """As a worker answers."""
        return json.dumps({"workers": self.workers, "failed": self.failed})

    @classmethod
    def from_json(cls, text: bytes) -> Written:
        """As it is read. Raises ValueError for anything else."""
        told = json.loads(text)
        try:
            failed = tuple((str(worker), str(reason)) for worker, reason in told["failed"])
            return cls(tuple(str(worker) for worker in told["workers"]), failed)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no answer to a block: {error}") from error


@dataclass(frozen=True, slots=True)
class Base:
    """What the workers of a pipeline have already of a block that becomes longer."""

    generation: int
    length: int

    def to_text(self) -> str:
        """The header's text."""
        return f"{self.generation},{self.length}"


def read_base(text: str) -> Base | None:
    """What the header says; None where there is none. Raises RequestError."""
    if not text:
        return None
    match = _BASE.fullmatch(text)
    if match is None:
        raise RequestError(f"{text[:40]!r} is no generation and length of a block")
    return Base(int(match[1]), int(match[2]))


def sent_length(length: int, base: Base | None) -> int:
    """How many bytes of a block of `length` are sent: from the packet in which `base` ends."""
    return length if base is None else length - base.length // PACKET_BYTES * PACKET_BYTES


def silence_s_max(workers: int) -> float:
    """How long whoever sends to a pipeline of so many workers bears that nothing goes on, the syncing included."""
    return SILENCE_S * workers


def write_pipeline(hops: Sequence[Hop]) -> str:
    """The header's text."""
    return json.dumps([list(hop) for hop in hops])


def read_pipeline(text: str) -> tuple[Hop, ...]:
    """Who comes next. Raises RequestError."""
    try:
        hops = tuple((str(worker), str(address)) for worker, address in json.loads(text))
    except (ValueError, TypeError):
        raise RequestError("the pipeline is no list of workers with their addresses") from None
    if len(hops) > PIPELINE_MAX:
        raise RequestError(f"a pipeline of {len(hops)} workers is longer than {PIPELINE_MAX}")
    return hops
