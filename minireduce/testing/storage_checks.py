"""What must hold in a simulated block store, at every moment and in the end; `storage_world` lists it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from minireduce.core.effects import Row
from minireduce.core.storage import blocks as block_rows
from minireduce.core.storage.views import FileBlocks, FileStatus
from minireduce.testing.storage_holders import SETTINGS, Key, key_of
from minireduce.testing.storage_writers import bytes_of
from minireduce.testing.wrong import Wrong

if TYPE_CHECKING:
    from minireduce.testing.storage_world import SimStorage


def why_too_early(world: SimStorage, row: Row) -> str:
    """Why a row must not be there yet; "" when it may: a block that a writer sent counts only once as many workers have
    stored it as were asked for.
    """
    if row.table != block_rows.TABLE or row.values is None or row.values[3] == block_rows.OPEN_LENGTH:
        return ""
    key = (row.key[0], row.values[2])
    sent = world.writers.sent.pop(key, None)
    takers = sum(place.takes_replicas for place in world.listed.values())
    if sent is not None and len(sent.stored) < min(sent.replicas_min, max(1, takers)):
        return f"block {key} counts at {world.now} s, but only {list(sent.stored)} ever stored it"
    return ""


def _check_bytes(world: SimStorage, path: str, found: FileBlocks) -> None:
    """Whether a small file is found where it lies in the block that it shares."""
    for source in (block.source for block in found.blocks):
        content = world.writers.contents.get(key_of(source.replica))
        begins, length = -source.file_offset, found.status.length
        if content is not None and content[begins : begins + length] != bytes_of(path, length):
            raise Wrong(f"{path} is not at {begins} of block {source.replica.block_id} at {world.now} s")


def check_copies(world: SimStorage) -> None:
    """No worker takes part in more copies at a time than it may. Raises Wrong."""
    copies = world.state._copying._copies.values()  # noqa: SLF001 - a checker looks inside
    load = Counter(worker for copy in copies for worker in (copy.source, copy.target))
    for worker, count in load.items():
        if count > SETTINGS.copies_per_worker_max:
            raise Wrong(f"{worker} takes part in {count} copies at {world.now} s")


def check_durability(world: SimStorage) -> None:
    """Every closed file has its bytes, and a good replica of each of its blocks. Raises Wrong."""
    for path in world.closed:
        found = world.state.file_blocks(path, 0, 1 << 60)
        _check_bytes(world, path, found)
        length = found.status.length
        if length < world.writers.appended.get(path, 0):
            raise Wrong(f"{path} has {length} bytes at {world.now} s, {world.writers.appended[path]} were committed")
        if length > world.writers.longest.get(path, length):
            raise Wrong(f"{path} has {length} bytes at {world.now} s, {world.writers.longest[path]} were ever sent")
        for key in (key_of(block.source.replica) for block in found.blocks):
            if not any(key in each.replicas and key not in each.damaged for each in world.holders.values()):
                raise Wrong(f"no disk holds a good replica of block {key} of {path} at {world.now} s")


def _should_move(world: SimStorage, key: Key, files: list[FileStatus]) -> bool:
    content = world.writers.contents.get(key, b"")
    is_hollow = 2 * sum(status.length for status in files) < len(content)
    return is_hollow or len({status.replication for status in files}) > 1


def what_is_wrong(world: SimStorage) -> str:
    """What is not as it shall be in the end; empty when all is well."""
    shared: dict[Key, list[FileStatus]] = {}
    for path, status in world.closed.items():
        for key, _ in world.writers.blocks_of(path):
            shared.setdefault(key, []).append(status)
    wanted = {key: max(status.replication for status in files) for key, files in shared.items()}
    for path in world.closed:
        for key, named in world.writers.blocks_of(path):
            good = {each.name for each in world.holders.values() if key in each.good()}
            if len(good) != min(wanted[key], len(world.listed)) or named != good:
                return f"block {key} of {path} is on {sorted(good)}, the master names {sorted(named)}"
            if _should_move(world, key, shared[key]):
                return f"block {key} of {path} holds too many holes, or files that want different replication"
    for holder in world.holders.values():
        if set(holder.replicas) - set(wanted) or holder.damaged:
            kept = sorted(set(holder.replicas) - set(wanted))
            return f"{holder.name} keeps {kept}, damaged {sorted(holder.damaged)}"
    return ""
