"""What a master keeps its rows in: a store on disk, or nothing at all for a cluster that dies with its run.

An embedded cluster's metadata could be read by nobody, since its master is never started again. So it is not written,
and what would write it is not loaded, which is half of such a master's start (docs/adr/0001). Only what is read later
from the durable form stays in memory; how much that may be, the machine decides.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.core.tables import TABLES, TABLES_BY_NAME, place_of


class Metadata(Protocol):
    """Opened in a new epoch."""

    @property
    def cluster_id(self) -> str:
        """Drawn at its first start."""

    @property
    def epoch(self) -> int:
        """That of this start."""

    @property
    def txid(self) -> int:
        """That of the last commit before."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it while it goes on, for people to mend."""

    def load(self) -> Iterable[Row]:
        """All rows of earlier epochs. Raises Corruption, after the last row at the latest."""

    def write(self, batch: list[Persist]) -> None:
        """Make these commits durable, all or none."""

    def read(self, table: str, key: tuple[Any, ...], *, after: int, rows_max: int) -> list[Row]:
        """The first durable rows of a table whose key begins so, in its order, behind the place `after`; whole."""

    def close(self) -> None:
        """Let the next master in."""


class NoMetadata:
    """The metadata of a cluster that has no past and no future."""

    def __init__(self) -> None:
        self.cluster_id = secrets.token_hex(3)
        self.epoch = 1
        self._kept: dict[str, dict[tuple[Any, ...], Row]] = {table.name: {} for table in TABLES if table.read_later}
        self._changing = threading.Lock()

    @property
    def txid(self) -> int:
        return 0

    @property
    def problems(self) -> tuple[str, ...]:
        return ()

    def load(self) -> list[Row]:
        return []

    def write(self, batch: list[Persist]) -> None:
        """Nothing is promised, so nothing is kept but what will be read."""
        with self._changing:
            for row in (row for persist in batch for row in persist.rows if row.table in self._kept):
                self._apply(self._kept[row.table], row)

    @staticmethod
    def _apply(kept: dict[tuple[Any, ...], Row], row: Row) -> None:
        if row.values is not None:
            kept[row.key] = row
            return
        for key in [key for key in kept if key[: len(row.key)] == row.key]:
            del kept[key]

    def read(self, table: str, key: tuple[Any, ...], *, after: int, rows_max: int) -> list[Row]:
        with self._changing:
            found = [row for known, row in self._kept[table].items() if known[: len(key)] == key]
        place = place_of(TABLES_BY_NAME[table])
        return sorted((row for row in found if place(row) > after), key=place)[:rows_max]

    def close(self) -> None:
        """Nothing was opened."""
