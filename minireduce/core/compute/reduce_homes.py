"""Estimate where most of a partition is, so that its reduce goes there and fetches little.

Each finished map output tells the size of each partition, rounded up to a power of two. Outputs of maps that run now
will lie where these run; what has not begun may come to lie anywhere. Only a machine that is expected to hold clearly
more than its even share counts: in most jobs no machine does, and then the least busy worker is the better choice.

Invariant: at most `OUTPUTS_SAMPLED_MAX` outputs are looked at, spread over the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minireduce.ids import TaskKind, WorkerId

if TYPE_CHECKING:
    from minireduce.core.compute.job import Step

OUTPUTS_SAMPLED_MAX = 200
EVEN_SHARES_MIN = 4 / 3
"""A home holds at least so many times what it would if all machines held equally much."""
SHARE_MIN = 0.2
"""And at least this part of the partition: less saves no fetching that anybody would notice."""
BYTES_MIN = 1 << 20
"""And at least so many bytes."""

NodeOf = Callable[[WorkerId], str]


class PartitionSpread:
    """How much of each partition of one step lies, or is going to lie, on which machine."""

    def __init__(self, step: Step, nodes: int, node_of: NodeOf) -> None:
        done = [task.winner for task in step.maps if task.is_done and task.winner is not None]
        sampled = done[:: -(-len(done) // OUTPUTS_SAMPLED_MAX) or 1]
        self._outputs = [(node_of(winner.worker), winner.output.partition_bytes_log2) for winner in sampled]
        running = [
            attempt.worker
            for task in step.running.values()
            if task.id.kind is TaskKind.MAP and not task.is_done
            for attempt in task.live_attempts[:1]
        ]
        self._running = [node_of(worker) for worker in running]
        self._known = (len(done) + len(running)) / max(1, len(step.maps))
        self._scale = len(done) / max(1, len(sampled))  # of all outputs to those looked at
        self._nodes = nodes

    def home(self, partition: int) -> str | None:
        """The machine on which most of the partition is expected, if that is clearly more than on others."""
        held: dict[str, float] = {}
        for node, sizes in self._outputs:
            if partition < len(sizes) and sizes[partition]:
                held[node] = held.get(node, 0.0) + (1 << sizes[partition]) * self._scale
        if not held:
            return None
        mean = sum(held.values()) / (len(self._outputs) * self._scale)
        for node in self._running:
            held[node] = held.get(node, 0.0) + mean
        node, most = max(held.items(), key=lambda item: item[1])
        if most < BYTES_MIN:
            return None
        even = 1 / max(1, self._nodes)
        share = self._known * most / sum(held.values()) + (1 - self._known) * even
        return node if self._nodes > 1 and share >= max(EVEN_SHARES_MIN * even, SHARE_MIN) else None
