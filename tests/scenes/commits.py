"""A scripted history of commits to the master's metadata: written until a write fails, and looked for afterwards.

Each commit has a row of the table "workers" with its number, which is how the last one is known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minireduce.core.cluster import Persist
from minireduce.errors import Unavailable
from minireduce.master import store as stores
from minireduce.master.store import Store


def write_all(store: Store, history: Sequence[Persist]) -> tuple[int, Unavailable | None]:
    """Write until it fails: how many commits were acknowledged, and what was said."""
    for number, commit in enumerate(history):
        try:
            store.write([commit])
        except Unavailable as error:
            return number, error
    return len(history), None


def found(directory: Path, history: Sequence[Persist]) -> int:
    """How many commits of the history a start finds; it fails if one is there in part."""
    held = stores.lock(directory)
    store = stores.examine(directory, held)
    store.verify()
    rows = [row for row in store.load() if row.table != "settings"]
    store.close()
    last = next((row.values[0] for row in rows if row.table == "workers"), 0)
    assert len(rows) == sum(len(commit.rows) - 1 for commit in history[:last]) + (last > 0)
    return int(last)
