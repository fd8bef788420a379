"""Choose the workers that are to hold a new replica.

The first replica goes to the writer's own machine where that has a worker, the second to another rack, the third to the
rack of the second but another machine, further ones anywhere; no rack gets more than its share, so that losing one
never takes all. After HDFS's default policy. Within what these rules leave, chance decides, weighted by free room and
damped by what a worker was just given: an empty newcomer would otherwise get every new block at once. After GFS (2003).

Invariants: never a worker that holds the block or is excluded, never one without room; fewer replicas rather than none,
as a small cluster must be able to write: each rule yields when nobody obeys it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from minireduce.core.storage.places import Place
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


def choose_targets(
    places: Iterable[Place], want: Want, recent: Mapping[WorkerId, int], rng: random.Random
) -> list[Place]:
    """Workers for `want`, in the order in which they were chosen; `recent` counts what each was just given."""
    held = frozenset(place.worker for place in want.holders)
    candidates = [
        place
        for place in places
        if place.worker not in held and place.free_bytes >= want.bytes_needed + FREE_BYTES_KEPT
    ]
    chosen = list(want.holders)
    racks = len({place.rack for place in [*candidates, *chosen]})
    rack_share_max = _rack_share_max(len(chosen) + want.replicas, len(chosen) + len(candidates), racks)
    for _ in range(min(want.replicas, len(candidates))):
        place = _choose_one(candidates, chosen, want.machine_id, rack_share_max, recent, rng)
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


def _choose_one(
    candidates: Sequence[Place],
    chosen: Sequence[Place],
    machine_id: str,
    rack_share_max: int,
    recent: Mapping[WorkerId, int],
    rng: random.Random,
) -> Place:
    if not chosen:
        own = [place for place in candidates if machine_id and place.machine_id == machine_id]
        return _draw(own or candidates, recent, rng)
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
    """One of `places` by chance. Twice the room is twice as likely, n blocks just given 1 + n times less."""
    weights = [place.free_bytes / (1 + recent.get(place.worker, 0)) for place in places]
    return rng.choices(places, weights)[0]


def choose_surplus(holders: Sequence[Place]) -> Place:
    """The holder to give its replica up: where machines and racks hold more than one, and then where room is least."""

    def crowding(place: Place) -> tuple[int, int, int, WorkerId]:
        return (
            sum(other.machine_id == place.machine_id for other in holders),
            sum(other.rack == place.rack for other in holders),
            -place.free_bytes,
            place.worker,
        )

    return max(holders, key=crowding)
