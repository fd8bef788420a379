"""The workers as the block store sees them: where each stands, and what room it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from minireduce.core.membership import Membership
from minireduce.ids import WorkerId


@dataclass(frozen=True, slots=True)
class Place:
    """A live worker. Two workers of one `machine_id` fail together, and so, more rarely, do those of one rack."""

    worker: WorkerId
    machine_id: str
    rack: str
    data_address: str
    free_bytes: int


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

    def live(self) -> Mapping[WorkerId, Place]:
        return {
            member.id: Place(
                member.id,
                member.profile.machine_id,
                member.profile.rack,
                member.profile.data_address,
                member.free_bytes,
            )
            for member in self._membership.live()
        }

    @property
    def is_anyone_expected(self) -> bool:
        return self._membership.is_anyone_expected


def distance(place: Place, machine_id: str, rack: str) -> int:
    """How far a worker is from a reader: 0 the same machine, 1 the same rack, 2 elsewhere."""
    if machine_id and place.machine_id == machine_id:
        return 0
    return 1 if rack and place.rack == rack else 2
