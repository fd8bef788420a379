"""The workers as the block store sees them: where each stands, and what room it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from minireduce.core.membership import Member, Membership
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId


@dataclass(frozen=True, slots=True)
class Place:
    """A live worker. Two workers of one `machine_id` fail together, and so, more rarely, do those of one rack.

    One that `is_draining` shall be done without: what it has counts for readers, and not towards what a block should
    have. It takes no new replicas, nor does one that is about to stop (`takes_replicas`).

    `weight` is what its operator says it is worth as a keeper of blocks: one of 2 counts as having twice the disks.
    """

    worker: WorkerId
    machine_id: str
    rack: str
    data_address: str
    free_bytes: int
    capacity_bytes: int = 0  # 0: not known
    is_draining: bool = False
    takes_replicas: bool = True
    weight: float = 1.0

    @property
    def weighted_room(self) -> float:
        """Its free room as it counts beside that of others."""
        return self.free_bytes * self.weight

    @property
    def weighted_capacity(self) -> float:
        """Its disks as they count beside those of others."""
        return self.capacity_bytes * self.weight


class Places(Protocol):
    """Who is live now."""

    def live(self) -> Mapping[WorkerId, Place]:
        """The live workers, in an order that does not depend on chance."""

    @property
    def is_anyone_expected(self) -> bool:
        """Whether workers from before a restart of the master may still come back in time."""


class MembershipPlaces:
    """The workers of a `Membership`."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._live = _LivePlaces(membership)

    def live(self) -> Mapping[WorkerId, Place]:
        return self._live

    @property
    def is_anyone_expected(self) -> bool:
        return self._membership.is_anyone_expected


class _LivePlaces(Mapping[WorkerId, Place]):
    """Made as they are asked for: of a thousand workers, who reads a block asks for three."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def __getitem__(self, worker: WorkerId) -> Place:
        member = self._membership.get(worker)
        if member is None or not member.is_live:
            raise KeyError(worker)
        return _place(member)

    def __iter__(self) -> Iterator[WorkerId]:
        return (member.id for member in self._membership.live())

    def __len__(self) -> int:
        return len(self._membership.live())


def _place(member: Member) -> Place:
    profile = member.profile
    return Place(
        member.id,
        profile.machine_id,
        profile.rack,
        profile.data_address,
        member.free_bytes,
        profile.capacity_bytes,
        member.is_draining,
        member.takes_work,
        profile.weight or 1.0,  # one of an older version says none
    )


def distance(place: Place, machine_id: str, rack: str) -> int:
    """How far a worker is from a reader: 0 the same machine, 1 the same rack, 2 elsewhere."""
    if machine_id and place.machine_id == machine_id:
        return 0
    return 1 if rack and place.rack == rack else 2
