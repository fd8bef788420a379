"""What a worker and its block server say to each other about replicas: one line of JSON each, over two pipes.

Down go the master's commands, up go the events that the worker's machine takes in. Both ends are of one installation,
started by one another, so the lines are plain and carry no version.
"""

from __future__ import annotations

import json

from minireduce.core.plain import from_plain, to_plain
from minireduce.core.replica_messages import (
    DirectoriesMeasured,
    RemoveReplica,
    RepackBlock,
    ReplicateBlock,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.worker import (
    ReplicaDeleted,
    ReplicaFoundDamaged,
    ReplicationEnded,
    ReplicaWritten,
)

ReplicaCommand = ReplicateBlock | RepackBlock | RemoveReplica | VerifyReplica
ReplicaEvent = (
    ReplicaWritten | ReplicaDeleted | ReplicaFoundDamaged | ReplicationEnded | DirectoriesMeasured | ReplicaVerified
)


def to_line(message: ReplicaCommand | ReplicaEvent) -> bytes:
    """One line."""
    return json.dumps(to_plain(message)).encode() + b"\n"


def command_from_line(line: bytes) -> ReplicaCommand:
    """What the worker ordered."""
    command: ReplicaCommand = from_plain(ReplicaCommand, json.loads(line))
    return command


def event_from_line(line: bytes) -> ReplicaEvent:
    """What happened at the block server."""
    event: ReplicaEvent = from_plain(ReplicaEvent, json.loads(line))
    return event
