"""Choose what counts of an append whose writer died before it could commit.

A writer sends a block to all its workers and only then has it committed. If it dies in between, each worker has all of
the block, or nothing: of one generation no two replicas differ in length, and what is cut off is never said to exist.
So the bytes are kept if `replicas_min` live workers say that they have them, since then they are as safe as any that
were acknowledged. What fewer have is void, however long it is: with the shorter replicas
removed, nothing would be left if that one disk broke.

What was not kept can never come back: the next try at the block has a higher generation than any before.
Elsewhere: when a lease ends (`leases`), what becomes of the file (`files`), who has told of what (`blocks`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from minireduce.core.replica_messages import Replica
from minireduce.ids import WorkerId

Recovered = tuple[int, tuple[WorkerId, ...]]
"""A length, and the workers that have so much."""


def choose_recovered(
    held: Mapping[WorkerId, Replica], live: Container[WorkerId], replicas_min: int
) -> Recovered | None:
    """The greatest length that at least `replicas_min` live workers have, and who; None when there is none."""
    by_length: dict[int, list[WorkerId]] = {}
    for worker, replica in held.items():
        if worker in live:
            by_length.setdefault(replica.length, []).append(worker)
    lengths = [length for length, workers in by_length.items() if len(workers) >= replicas_min]
    return (max(lengths), tuple(by_length[max(lengths)])) if lengths else None
