"""Where new replicas go."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from scenes.storage import GIB, StorageKit, place

from minireduce.core.storage.placement import RackAware, Want, choose_surplus, choose_targets, is_taker
from minireduce.core.storage.state import StorageState
from minireduce.core.storage.tokens import NoTokens


def choose(places, replicas=3, seed=1, **options):
    want = Want(replicas, 1, **options)
    return choose_targets(places, want, {}, random.Random(seed))


def test_the_writers_own_machine_comes_first_and_the_second_replica_leaves_its_rack():
    places = [place(f"w{rack}{number}", f"/{rack}") for rack in "ab" for number in range(4)]
    for seed in range(50):
        first, second, third = choose(places, seed=seed, machine_id="machine-wa2")
        assert first.worker == "wa2"
        assert second.rack == "/b"
        assert third.rack == "/b"
        assert third.worker != second.worker


def test_two_workers_of_one_machine_share_no_block_while_there_are_other_machines():
    places = [place("a1", machine="a"), place("a2", machine="a"), place("b1", machine="b"), place("c1", machine="c")]
    for seed in range(50):
        assert len({each.machine_id for each in choose(places, seed=seed)}) == 3
    assert len(choose(places[:2], replicas=2)) == 2


def test_workers_without_room_are_passed_over():
    assert [each.worker for each in choose([place("full", free=1 << 20), place("free")])] == ["free"]


def test_more_room_is_drawn_more_often_and_what_was_just_given_less():
    places = [place("big", free=300 * GIB), place("small", free=100 * GIB)]
    drawn = Counter(choose(places, replicas=1, seed=seed)[0].worker for seed in range(400))
    assert drawn["big"] > 2 * drawn["small"] > 0
    rng = random.Random(1)
    drawn = Counter(choose_targets(places, Want(1, 1), {"big": 20}, rng)[0].worker for _ in range(400))
    assert drawn["small"] > 2 * drawn["big"]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("mno")), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(0, 99),
)
def test_as_many_as_there_are_never_twice_and_never_all_on_one_rack(layout, replicas, held, seed):
    places = [place(f"w{number}", f"/{rack}", machine=machine) for number, (rack, machine) in enumerate(layout)]
    holders = tuple(places[:held])
    chosen = choose(places, replicas, seed, holders=holders)
    everyone = [each.worker for each in (*holders, *chosen)]
    assert len(everyone) == len(set(everyone)) == min(len(places), len(holders) + replicas)
    racks_there_are = {each.rack for each in places}
    if len(everyone) > len(holders) and len(everyone) > 1 and len(racks_there_are) > 1 and chosen:
        assert len({each.rack for each in (*holders, *chosen)}) > 1


def test_surplus_goes_from_where_most_replicas_lie_and_least_room_is():
    holders = [place("a1", "/a"), place("a2", "/a", free=GIB), place("b1", "/b")]
    assert choose_surplus(holders).worker == "a2"
    twins = [place("x", "/a", machine="m"), place("y", "/b", machine="m"), place("z", "/b", free=1)]
    assert choose_surplus(twins).worker in {"x", "y"}


class InOrderOfName(RackAware):
    """Another policy: the first workers by name that may have it."""

    def choose_targets(self, places, want, recent, rng):
        held = {each.worker for each in want.holders}
        takers = [each for each in places if each.worker not in held and is_taker(each, want.bytes_needed)]
        return sorted(takers, key=lambda each: each.worker)[: want.replicas]


class KitWithPolicy(StorageKit):
    def _new_state(self) -> StorageState:
        return StorageState(self.settings, self.places, NoTokens(), random.Random(7), InOrderOfName())


def test_another_policy_decides_where_new_replicas_and_copies_go():
    kit = KitWithPolicy(6)
    for number in range(4):
        kit.write(f"/f{number}", 1, key=str(number))
        assert kit.holders(f"/f{number}") == [{"w1", "w2", "w3"}]
    kit.lose("w2")
    kit.settle(int(kit.settings.repair_delay_s) + 10)
    assert [kit.holders(f"/f{number}") for number in range(4)] == [[{"w1", "w3", "w4"}]] * 4


def test_a_heavier_worker_is_drawn_more_often_and_gives_up_less_but_rules_come_first():
    places = [place("heavy", weight=4.0), place("light"), place("far", "/other", weight=0.01)]
    drawn = Counter(choose(places[:2], replicas=1, seed=seed)[0].worker for seed in range(400))
    assert drawn["heavy"] > 3 * drawn["light"] > 0
    assert choose_surplus(places[:2]).worker == "light"
    for seed in range(20):  # the second replica leaves the rack, whatever the other one weighs
        assert "far" in {each.worker for each in choose(places, replicas=2, seed=seed)}
