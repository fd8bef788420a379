from __future__ import annotations

import pytest

from minireduce.core.compute.speculation import (
    FreeWorker,
    Pace,
    Straggler,
    Underway,
    backups_max,
    choose_backups,
    choose_place,
    is_straggler,
    remaining_s,
)
from minireduce.core.settings import ClusterSettings
from minireduce.ids import AttemptId, TaskId, TaskKind

SETTINGS = ClusterSettings()


def pace_of(*tasks):
    pace = Pace()
    for seconds, input_bytes in tasks:
        pace.add(seconds, input_bytes)
    pace.refresh()
    return pace


def straggler(index, remaining, **details):
    attempt = AttemptId(TaskId("job-000000-1", 0, TaskKind.MAP, index), 0)
    return Straggler(attempt, remaining, 1.0, **details)


def place(worker, slots_free=1, node="", memory_free_bytes=100):
    return FreeWorker(worker, node or worker, slots_free, memory_free_bytes)


def test_a_task_with_ten_times_the_input_may_take_ten_times_as_long():
    pace = pace_of((10.0, 100), (12.0, 100), (9.0, 110))
    assert pace.expected_s(1000) == pytest.approx(100.0)
    is_late = remaining_s(Underway(60.0, 0.6, 0.1), pace.expected_s(1000))
    assert not is_straggler(is_late, pace.expected_s(1000), 60.0, SETTINGS)
    assert is_straggler(remaining_s(Underway(60.0, 0.6, 0.1), 10.0), 10.0, 60.0, SETTINGS)


def test_a_task_with_little_input_gets_the_usual_time():
    assert pace_of((10.0, 100), (12.0, 100), (9.0, 110)).expected_s(1) == 10.0


def test_what_was_added_counts_after_a_refresh():
    pace = Pace()
    pace.add(3.0, 10)
    assert not pace.is_known
    pace.refresh()
    assert pace.is_known
    assert pace.expected_s(10) == 3.0


def test_only_the_latest_tasks_tell_the_pace():
    pace = pace_of(*[(100.0, 10)] * 100, *[(1.0, 10)] * 100)
    assert pace.expected_s(10) == 1.0


def test_an_attempt_that_started_last_is_behind_and_not_slow():
    assert remaining_s(Underway(2.0, 0.2, 0.0), 10.0) == pytest.approx(8.0)


def test_an_attempt_at_a_tenth_of_the_speed_is_known_by_its_fraction():
    assert remaining_s(Underway(10.0, 0.1, 0.0), 10.0) == pytest.approx(90.0)


def test_an_attempt_that_reports_nothing_is_known_by_the_time_it_took():
    assert remaining_s(Underway(4.0, 0.0, 4.0), 10.0) == pytest.approx(6.0)
    assert remaining_s(Underway(30.0, 0.0, 30.0), 10.0) == pytest.approx(30.0)


def test_an_attempt_that_stands_still_near_its_end_is_not_taken_to_end_soon():
    assert remaining_s(Underway(60.0, 0.99, 50.0), 10.0) == pytest.approx(50.0)


def test_a_fraction_that_was_heard_some_time_ago_says_nothing_of_the_time_since():
    assert remaining_s(Underway(4.0, 0.1, 3.0), 10.0) == pytest.approx(6.0)


def test_an_attempt_whose_machine_fell_ill_is_known_by_its_rate_of_late():
    assert remaining_s(Underway(100.0, 0.8, 0.0), 100.0) == pytest.approx(25.0)
    assert remaining_s(Underway(100.0, 0.8, 0.0, fraction_per_s=0.001), 100.0) == pytest.approx(200.0)


def test_an_attempt_that_never_started_has_all_before_it():
    assert remaining_s(Underway(None, 0.0, 20.0), 10.0) == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("remaining", "fresh_s", "age_s", "is_late"),
    [
        (100.0, 10.0, 20.0, True),
        (100.0, 10.0, SETTINGS.backup_age_s_min / 2, False),
        (10.0 * SETTINGS.backup_gain_ratio_min - 0.1, 10.0, 20.0, False),
        (SETTINGS.backup_gain_s_min, 0.1, 20.0, False),
    ],
)
def test_a_backup_must_be_expected_to_end_clearly_earlier(remaining, fresh_s, age_s, is_late):
    assert is_straggler(remaining, fresh_s, age_s, SETTINGS) is is_late


def test_a_tenth_of_the_slots_may_run_backups_and_one_always_may():
    assert [backups_max(slots, SETTINGS) for slots in (1, 9, 20, 109, 3400)] == [1, 1, 2, 10, 340]


def test_the_attempt_with_the_longest_way_to_go_is_first():
    chosen = choose_backups([straggler(0, 5.0), straggler(1, 50.0)], [place("w1", 9)], 1)
    assert [(each.attempt.task.index, worker) for each, worker in chosen] == [(1, "w1")]


def test_no_more_backups_than_allowed_and_no_more_than_slots():
    late = [straggler(index, 50.0) for index in range(10)]
    assert len(choose_backups(late, [place("w1", 9)], 3)) == 3
    assert len(choose_backups(late, [place("w1", 1), place("w2", 1)], 9)) == 2


def test_a_backup_never_runs_where_its_task_runs_or_failed():
    assert choose_backups([straggler(0, 50.0, avoided=frozenset({"w1"}))], [place("w1", 9)], 1) == []


def test_another_machine_is_better_than_one_near_the_input_and_that_is_better_than_much_room():
    late = straggler(0, 50.0, avoided=frozenset({"w0"}), node="n0", homes=("n0", "n1"))
    on_same, near, roomy = place("w1", 1, "n0"), place("w2", 1, "n1"), place("w3", 9, "n2")
    assert choose_place(late, [on_same, near, roomy]) is near
    assert choose_place(late, [on_same, roomy]) is roomy
    assert choose_place(late, [on_same]) is on_same


def test_a_backup_runs_only_on_a_machine_that_can_read_the_input():
    late = straggler(0, 50.0, required_node="n2")
    assert choose_place(late, [place("w1", node="n1")]) is None
    assert choose_place(late, [place("w1", node="n1"), place("w2", node="n2")]).worker == "w2"


def test_the_backup_of_a_reduce_takes_no_slot_that_a_gathering_reduce_will_have_first():
    reduce = AttemptId(TaskId("job-000000-1", 0, TaskKind.REDUCE, 0), 0)
    claimed = FreeWorker("w1", "w1", 1, slots_claimed=1)
    assert choose_place(Straggler(reduce, 50.0, 1.0), [claimed]) is None
    assert choose_place(straggler(0, 50.0), [claimed]) is claimed


def test_backups_take_no_more_memory_than_a_worker_has():
    late = [straggler(index, 50.0, memory_bytes=40) for index in range(5)]
    assert len(choose_backups(late, [place("w1", 9, memory_free_bytes=100)], 9)) == 2
