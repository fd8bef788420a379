"""The planted bugs that only the block store's own simulation can judge: see `planted` and `storage_world`."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

from minireduce.core.replica_messages import Replica
from minireduce.core.storage import open_blocks
from minireduce.core.storage.blocks import Blocks
from minireduce.core.storage.copying import Copying
from minireduce.core.storage.recovery import Recovered
from minireduce.core.storage.repair import Repair
from minireduce.ids import WorkerId
from minireduce.testing.planting import PlantedBug, error_of_storage, replace_in


def _count_on_the_absent(original: Callable[..., None]) -> Callable[..., None]:
    """What is too many is told by replicas of which nobody has heard since their workers went."""

    def remove_surplus(self: Repair, block: Any, *rest: Any) -> None:
        wanted, block.wanted = block.wanted, max(0, block.wanted - len(block.absent))
        try:
            original(self, block, *rest)
        finally:
            block.wanted = wanted

    return remove_surplus


def _take_any_generation(original: Callable[..., bool]) -> Callable[..., bool]:
    def stored(self: Blocks, block: Any, worker: str, replica: Any) -> bool:
        return replica.generation < block.generation or original(self, block, worker, replica)

    return stored


def _take_the_longest(held: Mapping[WorkerId, Replica], live: Container[WorkerId], _: int) -> Recovered | None:
    lengths = [replica.length for worker, replica in held.items() if worker in live]
    holders = (worker for worker, replica in held.items() if worker in live and replica.length == max(lengths))
    return (max(lengths), tuple(holders)) if lengths else None


def _never_busy(*_: Any) -> bool:
    return True


_InStorage = partial(PlantedBug, error_of=error_of_storage)

PLANTED_IN_STORAGE: tuple[PlantedBug, ...] = (
    _InStorage(
        "surplus removed on a stale view",
        replace_in(Repair, "_remove_surplus", _count_on_the_absent(Repair._remove_surplus)),  # noqa: SLF001 - as above
        first_seed=150,
    ),
    _InStorage("stale generation accepted", replace_in(Blocks, "stored", _take_any_generation(Blocks.stored))),
    _InStorage(
        "lease recovery takes the longest replica", replace_in(open_blocks, "choose_recovered", _take_the_longest)
    ),
    _InStorage("repair without limit", replace_in(Copying, "is_free", _never_busy)),
)
