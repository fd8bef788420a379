"""Where a task goes, and how long it waits for a better place: the master with stored files, driven by hand."""

from __future__ import annotations

from scenes.machine import FakeCluster, stored_file, stored_splits

from minireduce.core.compute.locality import Homes, Level, LocalityWait, Spot, find_homes
from minireduce.core.messages import AttemptFailed, LaunchAttempt, WorkerStopping
from minireduce.core.replica_messages import Replica, ReplicaStored
from minireduce.core.spec import StoredFiles
from minireduce.core.task_data import TaskError


def stored_cluster(blocks, **settings):
    """A master that knows a stored file; its workers stand on machines of their own."""
    return FakeCluster(stored_file(blocks), locality_wait_node_s=2.0, locality_wait_rack_s=1.0, **settings)


def worker(cluster, name, blocks=(), rack="/a", slots=1):
    return cluster.worker(name, slots=slots, machine_id=name, rack=rack, blocks=blocks)


def submit(cluster, blocks, key="k", **options):
    return cluster.submit(key, splits=stored_splits(blocks), reducers=0, **options)


def splits_of(worker):
    return [attempt.task.index for attempt in worker.attempts()]


def counters(cluster, job):
    view = cluster.machine.views.job(job, cluster.now)
    return {name: value for _, name, value in view.counters}


def test_homes_are_where_most_bytes_are_and_all_that_hold_nearly_as_much():
    spots = {"a": Spot("a", "/1"), "b": Spot("b", "/2"), "c": Spot("c", "/2"), "gone": None}
    homes = find_homes([(100, ("a", "b")), (95, ("b", "gone")), (100, ("a",)), (5, ("c",))], spots.get)
    assert homes == Homes(("a", "b"), ("/1", "/2"))
    assert [homes.level_of(spot) for spot in (spots["b"], spots["c"], Spot("x", "/3"))] == [0, 1, 2]


def test_a_wait_ends_by_itself_and_begins_anew_with_a_local_launch():
    wait = LocalityWait()
    wait.slot_passed(10.0)
    wait.slot_passed(11.0)
    assert [wait.level(now, 2.0, 1.0) for now in (11.9, 12.0, 13.0)] == [Level.NODE, Level.RACK, Level.ANY]
    wait.launched(Level.ANY, 13.0, 2.0)
    assert wait.level(13.0, 2.0, 1.0) is Level.ANY
    wait.launched(Level.RACK, 13.0, 2.0)
    assert wait.level(13.5, 2.0, 1.0) is Level.RACK
    wait.launched(Level.NODE, 14.0, 2.0)
    assert wait.level(14.0, 2.0, 1.0) is Level.NODE


def test_a_slot_that_passes_by_for_long_is_taken_though_others_go_on_to_launch_local_tasks():
    wait, levels = LocalityWait(), []
    for tick in range(40):
        now = 10.0 + tick / 2
        wait.slot_passed(now)
        levels.append(wait.level(now, 0.7, 0.3))
        wait.launched(levels[-1], now, 0.7)  # a local task each time, unless one may go anywhere
    far = [number for number, level in enumerate(levels) if level is Level.ANY]
    assert far == [10, 21, 32]


def test_slots_that_pass_by_now_and_then_are_waited_for_each_time():
    wait = LocalityWait()
    for now in range(10, 40, 2):
        wait.slot_passed(float(now))
        assert wait.level(float(now), 0.7, 0.3) is Level.NODE
        wait.launched(Level.NODE, float(now), 0.7)


def test_a_worker_without_any_split_gets_one_though_the_others_never_stop_launching():
    cluster = stored_cluster(40)
    holder, idle = worker(cluster, "w1", range(1, 41)), worker(cluster, "w2")
    submit(cluster, 40)
    for _ in range(17):
        cluster.pass_time(1, holder, idle)
        holder.succeed(*holder.attempts())
    assert len(idle.attempts()) == 1


def test_the_worker_with_the_fewest_local_choices_goes_first():
    cluster = stored_cluster(2)
    rich = worker(cluster, "rich", (1, 2))  # if it were first, it would take what is near the fewest others: split 0
    needy = worker(cluster, "needy", (1,))
    for name in ("w1", "w2"):
        worker(cluster, name, (2,), slots=0)
    submit(cluster, 2)
    assert (splits_of(needy), splits_of(rich)) == ([0], [1])


def test_workers_with_overlapping_choices_each_get_one():
    cluster = stored_cluster(3)
    workers = [worker(cluster, "w1", (1, 2, 3)), worker(cluster, "w2", (1, 2)), worker(cluster, "w3", (1,))]
    submit(cluster, 3)
    assert [splits_of(each) for each in workers] == [[2], [1], [0]]


def test_of_the_local_choices_the_one_with_the_fewest_homes_goes_first():
    cluster = stored_cluster(2)
    both, one = worker(cluster, "both", (1, 2)), worker(cluster, "one", (1,), slots=0)
    submit(cluster, 2)
    assert splits_of(both) == [1]
    assert splits_of(one) == []


def test_a_task_waits_for_its_home_then_for_its_rack_and_then_no_longer():
    cluster = stored_cluster(3)
    home = worker(cluster, "home", (1, 2, 3), rack="/a")
    job = submit(cluster, 3)
    assert splits_of(home) == [0]
    far, near = worker(cluster, "far", rack="/b"), worker(cluster, "near", rack="/a")
    assert (splits_of(far), splits_of(near)) == ([], [])
    assert "near its input" not in cluster.machine.views.job(job, cluster.now).waiting_for
    cluster.pass_time(2, home, far, near)
    assert (splits_of(far), splits_of(near)) == ([], [1])
    cluster.pass_time(1, home, far, near)
    assert splits_of(far) == [2]
    counted = counters(cluster, job)
    assert [counted[f"{name}_LOCAL_MAPS"] for name in ("DATA", "RACK", "OTHER")] == [1, 1, 1]


def test_the_slot_that_one_job_lets_pass_goes_to_the_next_job():
    cluster = stored_cluster(2)
    home = worker(cluster, "home", (1, 2))
    submit(cluster, 2)
    other = cluster.submit("other", maps=1, reducers=0, machine_id="far")
    far = worker(cluster, "far")
    assert [attempt.task.job for attempt in far.attempts()] == [other]
    assert splits_of(home) == [0]


def test_nobody_waits_for_homes_that_are_dead_or_stopping():
    cluster = stored_cluster(3)
    dying, stopping = worker(cluster, "dying", (1, 2)), worker(cluster, "stopping", (3,))
    submit(cluster, 3)
    dying.attempts()
    stopping.attempts()
    far = worker(cluster, "far", slots=3)
    assert splits_of(far) == []
    stopping.say(WorkerStopping())
    stopping.stream = 0
    cluster.now += 0.1
    cluster.pass_time(11, far)
    assert sorted(splits_of(far)) == [0, 1, 2]


def test_an_input_without_any_replica_waits_for_nobody():
    cluster = stored_cluster(2)
    submit(cluster, 2)
    assert splits_of(worker(cluster, "w", slots=2)) == [0, 1]


def test_a_worker_that_an_input_without_a_home_must_avoid_still_gets_what_has_a_home_elsewhere():
    cluster = stored_cluster(3)
    home = worker(cluster, "home", (2, 3))
    submit(cluster, 3)
    assert splits_of(home) == [1]
    far = worker(cluster, "far")
    (attempt,) = far.attempts()
    assert attempt.task.index == 0
    far.say(AttemptFailed(attempt, TaskError("raised", "ValueError", "it is not for here")))
    cluster.pass_time(3, home, far)
    assert splits_of(far) == [2]


def test_a_wait_of_zero_switches_waiting_off():
    cluster = FakeCluster(stored_file(2), locality_wait_node_s=0.0, locality_wait_rack_s=0.0)
    worker(cluster, "home", (1, 2))
    submit(cluster, 2)
    assert splits_of(worker(cluster, "far")) == [1]


def test_a_replica_that_was_copied_while_a_task_waits_is_seen():
    cluster = stored_cluster(2)
    home = worker(cluster, "home", (1, 2))
    submit(cluster, 2)
    far = worker(cluster, "far")
    far.say(ReplicaStored(Replica(2, 1, 100)))
    cluster.pass_time(1, home, far)
    assert splits_of(far) == [1]


def test_small_files_that_share_a_split_go_where_most_of_their_bytes_are():
    cluster = stored_cluster(3)
    most, least = worker(cluster, "most", (1, 2)), worker(cluster, "least", (2,))
    cluster.submit("k", splits=(StoredFiles(stored_splits(3)),), reducers=0)
    assert splits_of(least) == []
    (launch,) = most.take(LaunchAttempt)
    assert [len(each.blocks) for each in launch.input.inputs] == [3, 3, 2]
