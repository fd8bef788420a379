"""The workers of a simulated block store, which are nothing but the replicas they hold."""

from __future__ import annotations

from collections import deque
from dataclasses import field

from minireduce.core.messages import Command
from minireduce.core.replica_messages import RemoveReplica, Replica, ReplicaReport
from minireduce.core.settings import ClusterSettings
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

SETTINGS = ClusterSettings(
    repair_delay_s=15.0,
    block_size_bytes=100,
    trash_kept_s=5.0,
    inodes_collected_per_tick=1,
    lease_s=20.0,
    copies_per_worker_max=2,
)
Key = tuple[int, int]
"""A block and its generation."""


@dataclass(slots=True)
class SimHolder:
    """A worker. `back_at_s` is when it says hello again, and None while it has a session."""

    name: WorkerId
    replicas: dict[Key, Replica] = field(default_factory=dict)
    damaged: dict[Key, bool] = field(default_factory=dict)  # True once the worker has noticed
    is_up: bool = True
    back_at_s: float | None = 0.0
    heard_at_s: float = 0.0
    obeys_from_s: float = 0.0
    is_draining: bool = False
    inbox: deque[Command] = field(default_factory=deque)
    outbox: deque[ReplicaReport] = field(default_factory=deque)

    def cut(self, back_at_s: float) -> None:
        """The session ends, with all that was on its way."""
        self.back_at_s = back_at_s
        self.inbox.clear()
        self.outbox.clear()

    def good(self) -> set[Key]:
        """What is here with the right bytes, and has not been told to go."""
        leaving = {key_of(each.replica) for each in self.inbox if isinstance(each, RemoveReplica)}
        return {key for key in self.replicas if key not in self.damaged and key not in leaving}


def key_of(replica: Replica) -> Key:
    """The block of a replica, and its generation."""
    return replica.block_id, replica.generation
