"""What a master keeps its rows in: a store on disk, or nothing at all for a cluster that dies with its run.

An embedded cluster's metadata could be read by nobody, since its master is never started again. So it is not written,
and what would write it is not loaded, which is half of such a master's start (docs/adr/0001).
"""

from __future__ import annotations

import secrets
from typing import Protocol

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row


class Metadata(Protocol):
    """Opened in a new epoch. `txid` is that of the last commit before it."""

    cluster_id: str
    epoch: int
    txid: int

    def load(self) -> list[Row]:
        """All rows of earlier epochs."""

    def write(self, batch: list[Persist]) -> None:
        """Make these commits durable, all or none."""

    def close(self) -> None:
        """Let the next master in."""


class NoMetadata:
    """The metadata of a cluster that has no past and no future."""

    def __init__(self) -> None:
        self.cluster_id = secrets.token_hex(3)
        self.epoch = 1
        self.txid = 0

    def load(self) -> list[Row]:
        return []

    def write(self, batch: list[Persist]) -> None:
        """Nothing is promised, so nothing is kept."""

    def close(self) -> None:
        """Nothing was opened."""
