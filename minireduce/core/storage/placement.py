"""Choose the workers that are to hold a new replica.

The first replica goes to the writer's own machine where that has a worker, the second to another rack, the third to the
rack of the second but another machine, further ones anywhere; no rack gets more than its share, so that losing one
never takes all. After HDFS's default policy. Within what these rules leave, chance decides, weighted by free room and
by the worker's own weight, and damped by what a worker was just given: an empty newcomer would otherwise get every new
block at once. After GFS (2003).

Other policies need to say three things only (`PlacementPolicy`): where new replicas go, which of too many is given up,
and whether a move leaves a block as well spread as it was.

Invariants: never a worker that holds the block, drains or is about to stop, never one without room; fewer replicas
rather than none, as a small cluster must be able to write: each rule yields when nobody obeys it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from minireduce.core.storage.places import Place
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

FREE_BYTES_KEPT = 256 << 20
"""Room that stays free on every worker, for what tasks write."""

Rule = Callable[[Place], bool]


@dataclass(frozen=True, slots=True)
class Want:
    """What to choose: `replicas` more workers for a block of `bytes_needed`, which `holders` have already."""

    replicas: int
    bytes_needed: int
    holders: tuple[Place, ...] = ()
    machine_id: str = ""  # the writer's; "" when the block is repaired


class PlacementPolicy(Protocol):
    """Where replicas should be."""

    def choose_targets(
        self, places: Iterable[Place], want: Want, recent: Mapping[WorkerId, int], rng: random.Random
    ) -> list[Place]:
        """Workers for `want`, at most as many as it says; `recent` counts what each was just given."""

    def choose_surplus(self, holders: Sequence[Place]) -> Place:
        """The holder that should give its replica up."""

    def keeps_spread(self, before: Sequence[Place], after: Sequence[Place]) -> bool:
        """Whether a block on `after` is as safe as on `before`."""

    def needs_other(self, holders: Sequence[Place]) -> Rule | None:
        """Where `holders` are too near to one another: what a further one must obey to mend that; else None."""


class RackAware:
    """The policy of this module."""

    def choose_targets(
        self, places: Iterable[Place], want: Want, recent: Mapping[WorkerId, int], rng: random.Random
    ) -> list[Place]:
        return choose_targets(places, want, recent, rng)

    def choose_surplus(self, holders: Sequence[Place]) -> Place:
        return choose_surplus(holders)

    def keeps_spread(self, before: Sequence[Place], after: Sequence[Place]) -> bool:
        """Neither on fewer racks nor on fewer machines."""
        return _count_racks(after) >= _count_racks(before) and _count_machines(after) >= _count_machines(before)

    def needs_other(self, holders: Sequence[Place]) -> Rule | None:
        """Several on one rack need one on another."""
        racks = {place.rack for place in holders}
        return (lambda place: place.rack not in racks) if len(holders) > 1 and len(racks) == 1 else None


def _count_racks(places: Iterable[Place]) -> int:
    return len({place.rack for place in places})


def _count_machines(places: Iterable[Place]) -> int:
    return len({place.machine_id for place in places})


def is_taker(place: Place, bytes_needed: int) -> bool:
    """Whether a worker may be given a replica of this size."""
    return place.takes_replicas and place.free_bytes >= bytes_needed + FREE_BYTES_KEPT


def choose_targets(
    places: Iterable[Place], want: Want, recent: Mapping[WorkerId, int], rng: random.Random
) -> list[Place]:
    """Workers for `want`, in the order in which they were chosen; `recent` counts what each was just given."""
    held = frozenset(place.worker for place in want.holders)
    everybody = list(places)
    candidates = [place for place in everybody if place.worker not in held and is_taker(place, want.bytes_needed)]
    near = frozenset(place.rack for place in everybody if want.machine_id and place.machine_id == want.machine_id)
    chosen = list(want.holders)
    racks = len({place.rack for place in [*candidates, *chosen]})
    rack_share_max = _rack_share_max(len(chosen) + want.replicas, len(chosen) + len(candidates), racks)
    for _ in range(min(want.replicas, len(candidates))):
        if chosen:
            place = _choose_one(candidates, chosen, rack_share_max, recent, rng)
        else:
            place = _choose_first(candidates, want.machine_id, near, recent, rng)
        candidates.remove(place)
        chosen.append(place)
    return chosen[len(want.holders) :]


def _rack_share_max(replicas: int, workers: int, racks: int) -> int:
    """The most replicas that one rack may hold; with two racks or more, always less than all."""
    count = min(replicas, workers)
    if racks <= 1 or count <= 1:
        return count
    share = (count - 1) // racks + 2
    return share - 1 if share == count else share


def _choose_first(
    candidates: Sequence[Place],
    machine_id: str,
    near: frozenset[str],
    recent: Mapping[WorkerId, int],
    rng: random.Random,
) -> Place:
    """On the writer's machine; in its rack, where its own worker has no room; else anywhere."""
    own = [place for place in candidates if machine_id and place.machine_id == machine_id]
    return _draw(own or [place for place in candidates if place.rack in near] or candidates, recent, rng)


def _choose_one(
    candidates: Sequence[Place],
    chosen: Sequence[Place],
    rack_share_max: int,
    recent: Mapping[WorkerId, int],
    rng: random.Random,
) -> Place:
    racks = [place.rack for place in chosen]
    machines = {place.machine_id for place in chosen}

    def is_on_new_machine(place: Place) -> bool:
        return place.machine_id not in machines

    def is_rack_open(place: Place) -> bool:
        return racks.count(place.rack) < rack_share_max

    def is_on_new_rack(place: Place) -> bool:
        return place.rack not in racks

    def is_on_second_rack(place: Place) -> bool:
        return place.rack == racks[1]

    rules: list[tuple[Rule, ...]] = [(is_rack_open, is_on_new_machine), (is_rack_open,), (is_on_new_machine,), ()]
    if len(set(racks)) == 1:
        rules.insert(0, (is_on_new_rack, is_on_new_machine))
    elif len(chosen) == 2:
        rules.insert(0, (is_on_second_rack, is_on_new_machine))
    for rule in rules:
        obeying = [place for place in candidates if all(obeys(place) for obeys in rule)]
        if obeying:
            return _draw(obeying, recent, rng)
    raise AssertionError("the last rule leaves every candidate")


def _draw(places: Sequence[Place], recent: Mapping[WorkerId, int], rng: random.Random) -> Place:
    """One of `places` by chance. Twice the room or weight is twice as likely, n blocks just given 1 + n times less."""
    chances = [place.weighted_room / (1 + recent.get(place.worker, 0)) for place in places]
    return rng.choices(places, chances)[0]


def choose_surplus(holders: Sequence[Place]) -> Place:
    """The holder to give its replica up: where machines and racks hold more than one, and then where room is least."""

    def crowding(place: Place) -> tuple[int, int, float, WorkerId]:
        return (
            sum(other.machine_id == place.machine_id for other in holders),
            sum(other.rack == place.rack for other in holders),
            -place.weighted_room,
            place.worker,
        )

    return max(holders, key=crowding)
