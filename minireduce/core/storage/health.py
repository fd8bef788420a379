"""Explain why a block has the replicas that it has, for people who ask what is wrong and what is done about it."""

from __future__ import annotations

from collections.abc import Sequence

from minireduce.core.storage.blocks import Block
from minireduce.core.storage.views import BlockHealth
from minireduce.ids import WorkerId


def examine(block: Block, copying: Sequence[WorkerId], workers_live: int) -> BlockHealth:
    """How a block is. `copying`: where copies of it are on their way to."""
    state, why = _judge(block, copying, workers_live)
    return BlockHealth(
        block.replica,
        block.wanted,
        state,
        why,
        tuple(sorted(block.good)),
        tuple(sorted(block.damaged)),
        tuple(sorted(block.absent)),
        tuple(sorted(copying)),
    )


def _judge(block: Block, copying: Sequence[WorkerId], workers_live: int) -> tuple[str, str]:
    good = len(block.good)
    if not block.is_committed:
        return "open", "it is being written"
    if not good:
        return "missing", _why_missing(block)
    if good > block.wanted:
        return "surplus", "replicas are removed once enough workers have confirmed theirs"
    if good == block.wanted:
        return "healthy", "damaged replicas are being removed" if block.damaged else ""
    if copying:
        return "under-replicated", f"being copied to {', '.join(sorted(copying))}"
    if workers_live <= good:
        return (
            "under-replicated",
            f"{workers_live} live workers cannot hold {block.wanted} replicas: start more workers",
        )
    if block.absent:
        return "under-replicated", f"waiting for {', '.join(sorted(block.absent))} to come back"
    return "under-replicated", "waiting for its turn, or for a worker with room"


def _why_missing(block: Block) -> str:
    if block.absent:
        return f"only lost workers have it: start {', '.join(sorted(block.absent))}"
    if block.damaged:
        return (
            f"all replicas are damaged, those on {', '.join(sorted(block.damaged))}: parts of it may be readable, "
            "and `fsck --repair` has them read again"
        )
    return "no worker has it: start those that are missing, or restore the file from elsewhere"
