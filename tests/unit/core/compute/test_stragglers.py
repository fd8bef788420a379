"""The master's machine among attempts that end late, and workers that are slow."""

from __future__ import annotations

import pytest

from minireduce.core.messages import AttemptProgressed, AttemptStarted, AttemptSucceeded, FetchFailed, KillAttempt
from minireduce.core.settings import QueueSettings
from minireduce.core.task_data import LargestKey, TaskOutput
from tests.scenes.machine import FakeCluster


class Scene:
    """A cluster whose workers start what they are given at once, but for one that is mute, and one job."""

    def __init__(self, workers=3, slots=1, mute="", settings=None, **job):
        self.mute = mute
        self.cluster = FakeCluster(**(settings or {}))
        self.workers = [self.cluster.worker(f"w{n}", slots=slots) for n in range(workers)]
        self.job = self.cluster.submit(**{"reducers": 0, **job})
        self.launched = {}
        self.listen()

    def listen(self):
        """What was launched since the last time, as (task, worker)."""
        new = []
        for worker in self.workers:
            for attempt in worker.attempts():
                self.launched[attempt] = worker
                if worker.name != self.mute:
                    worker.say(AttemptStarted(attempt))
                new.append((f"{attempt.task.kind}{attempt.task.index}", worker.name))
        return new

    def attempt(self, task, number=0):
        return next(
            attempt
            for attempt in self.launched
            if f"{attempt.task.kind}{attempt.task.index}" == task and attempt.number == number
        )

    def succeed(self, *tasks, number=0, input_bytes=0):
        for task in tasks:
            attempt = self.attempt(task, number)
            output = TaskOutput(b"d", 10, 1)
            self.launched[attempt].say(AttemptSucceeded(attempt, output, (("g", "n", 1),), input_bytes))
        return self.listen()

    def progress(self, task, fraction, **details):
        attempt = self.attempt(task)
        self.launched[attempt].say(AttemptProgressed(attempt, fraction, 1, **details))

    def wait(self, seconds):
        """Time passes, and all workers can be heard; what was launched then."""
        new = []
        for _ in range(seconds):
            self.cluster.pass_time(1, *self.workers)
            new += self.listen()
        return new

    def counters(self):
        view = self.cluster.machine.views.job(self.job, self.cluster.now)
        return {name: value for group, name, value in view.counters if group == "minireduce"}

    def slow_workers(self):
        return [view.worker for view in self.cluster.machine.views.workers(self.cluster.now) if view.is_slow]


def test_an_attempt_that_ends_late_gets_a_backup_on_another_worker():
    scene = Scene(maps=3)
    scene.wait(2)
    scene.succeed("map0", "map1")
    scene.progress("map2", 0.1)
    assert scene.wait(2) == [("map2", "w0")]
    assert scene.counters()["NUM_BACKUP_MAPS"] == 1


def test_a_task_has_one_backup():
    scene = Scene(maps=3)
    scene.wait(2)
    scene.succeed("map0", "map1")
    assert [task for task, _ in scene.wait(60)] == ["map2"]


def test_a_job_without_speculation_has_none():
    scene = Scene(maps=3, speculation=False)
    scene.wait(2)
    scene.succeed("map0", "map1")
    assert scene.wait(60) == []


def test_a_backup_never_runs_beside_its_original():
    scene = Scene(workers=1, slots=3, maps=3)
    scene.wait(2)
    scene.succeed("map0", "map1")
    assert scene.wait(60) == []


def test_an_attempt_that_is_on_its_way_gets_none():
    scene = Scene(maps=3)
    scene.wait(2)
    scene.succeed("map0", "map1")
    scene.progress("map2", 0.7)
    assert scene.wait(1) == []


def test_backups_stay_below_a_tenth_of_the_slots():
    scene = Scene(workers=10, slots=2, maps=20)
    scene.wait(2)
    scene.succeed(*(f"map{n}" for n in range(10)))
    assert len(scene.wait(60)) == 2


def test_backups_stay_within_what_their_queue_may_use():
    scene = Scene(workers=20, maps=6, settings={"queues": (QueueSettings("default", slots_max=6),)})
    scene.wait(2)
    scene.succeed("map0")
    assert len(scene.wait(60)) == 1


def test_no_backup_takes_a_slot_that_an_ordinary_task_waits_for():
    scene = Scene(workers=2, maps=4)
    scene.wait(2)
    assert scene.succeed("map0") == [("map2", "w0")]
    scene.wait(2)
    assert scene.succeed("map2") == [("map3", "w0")]
    assert scene.wait(2) == []
    scene.succeed("map3")
    assert scene.wait(1) == [("map1", "w0")]


def test_a_split_of_ten_times_the_size_is_no_straggler():
    def sizes(lengths):
        scene = Scene(maps=3, lengths=lengths)
        scene.wait(2)
        scene.succeed("map0", "map1")
        return scene.wait(12)

    assert sizes((100, 100, 1000)) == []
    assert sizes((100, 100, 100)) == [("map2", "w0")]


def test_an_attempt_that_never_starts_gets_a_backup():
    scene = Scene(maps=3, mute="w2")
    scene.wait(2)
    scene.succeed("map0", "map1")
    assert scene.wait(2) == [("map2", "w0")]


def test_the_loser_is_killed_at_once_and_its_slot_is_free():
    scene = Scene(maps=3)
    scene.wait(2)
    scene.succeed("map0", "map1")
    scene.wait(2)
    scene.succeed("map2", number=1)
    assert [kill.attempt for kill in scene.workers[2].take(KillAttempt)] == [scene.attempt("map2")]
    assert [view.slots_used for view in scene.cluster.machine.views.workers(scene.cluster.now)] == [0, 0, 0]
    assert scene.counters()["NUM_BACKUPS_WON"] == 1


def test_the_backup_is_killed_when_the_original_is_first():
    scene = Scene(maps=3)
    scene.wait(2)
    scene.succeed("map0", "map1")
    scene.wait(2)
    scene.succeed("map2")
    assert [kill.attempt for kill in scene.workers[0].take(KillAttempt)] == [scene.attempt("map2", 1)]
    assert (scene.counters().get("NUM_BACKUPS_WON", 0), scene.counters()["NUM_BACKUPS_LOST"]) == (0, 1)


def test_a_reduce_that_waits_for_a_map_is_no_straggler():
    def backups_of_reduces(*, is_map_gone):
        scene = Scene(workers=3, maps=1, reducers=2, mute="w1")
        scene.wait(2)
        assert scene.succeed("map0") == [("reduce0", "w0"), ("reduce1", "w1")]
        scene.wait(2)
        scene.succeed("reduce0", input_bytes=10)
        if is_map_gone:
            late = scene.attempt("reduce1")
            scene.workers[1].say(FetchFailed(late, scene.attempt("map0"), is_gone=True, reason="damaged"))
        return [task for task, _ in scene.wait(4) if task.startswith("reduce")]

    assert backups_of_reduces(is_map_gone=True) == []
    assert backups_of_reduces(is_map_gone=False) == ["reduce1"]


def test_a_reduce_is_judged_by_reduces_since_it_had_its_input():
    scene = Scene(workers=3, maps=1, reducers=3)
    scene.wait(30)
    assert sorted(task for task, _ in scene.succeed("map0")) == ["reduce0", "reduce1", "reduce2"]
    scene.wait(2)
    scene.succeed("reduce0", "reduce1", input_bytes=10)
    assert [task for task, _ in scene.wait(2)] == ["reduce2"]
    assert scene.counters()["NUM_BACKUP_REDUCES"] == 1


def reduces_of_which_the_last_is_long(largest_key, input_bytes):
    scene = Scene(workers=3, maps=1, reducers=3)
    assert len(scene.succeed("map0")) == 3
    scene.wait(2)
    scene.succeed("reduce0", "reduce1", input_bytes=100)
    scene.progress("reduce2", 0.01, input_bytes=input_bytes, largest_key=largest_key)
    return scene


def test_a_hot_key_is_told_and_not_chased():
    scene = reduces_of_which_the_last_is_long(LargestKey("'the'", 5000, 0.8), 300)
    assert scene.wait(60) == []
    view = scene.cluster.machine.views.job(scene.job, scene.cluster.now)
    (note,) = view.notes
    assert note.startswith("a hot key: 'the' has 80% of partition 2 of step 0, 5,000 values")
    assert note.endswith("the partition is 3.0 times as large as others")


@pytest.mark.parametrize(
    ("largest_key", "input_bytes"),
    [(None, 300), (LargestKey("'the'", 5000, 0.4), 300), (LargestKey("'the'", 5000, 0.8), 150)],
)
def test_a_reduce_without_a_key_that_makes_it_large_is_chased_like_any_other(largest_key, input_bytes):
    scene = reduces_of_which_the_last_is_long(largest_key, input_bytes)
    assert [task for task, _ in scene.wait(60)] == ["reduce2"]
    assert scene.cluster.machine.views.job(scene.job, scene.cluster.now).notes == ()


def test_a_slow_worker_gets_less_until_it_recovers():
    scene = Scene(workers=3, slots=4, maps=1000, speculation=False)
    done = set()

    def work(seconds_of_slow):
        """Everybody does a task in two seconds, but for one worker."""
        for attempt, worker in list(scene.launched.items()):
            age_s = scene.cluster.now - since[attempt]
            if attempt not in done and age_s >= (seconds_of_slow if worker.name == "w2" else 2):
                done.add(attempt)
                worker.succeed(attempt)
        scene.listen()
        for attempt in scene.launched:
            since.setdefault(attempt, scene.cluster.now)

    since = dict.fromkeys(scene.launched, scene.cluster.now)
    for _ in range(12):
        scene.cluster.pass_time(1, *scene.workers)
        work(20)
    assert scene.slow_workers() == ["w2"]
    for _ in range(20):
        scene.cluster.pass_time(1, *scene.workers)
        work(20)
    assert sum(worker.name == "w2" for attempt, worker in scene.launched.items() if attempt not in done) == 1
    for _ in range(30):
        scene.cluster.pass_time(1, *scene.workers)
        work(2)
    assert scene.slow_workers() == []
    assert sum(worker.name == "w2" for attempt, worker in scene.launched.items() if attempt not in done) == 4


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_straggler_gets_a_backup_only_while_the_part_that_it_reads_is_there(is_gone):
    scene = Scene(workers=5, maps=3, reducers=3, steps=2)
    scene.wait(2)
    scene.succeed("map0", "map1", "map2")
    scene.wait(2)
    scene.succeed("reduce0", "reduce1", "reduce2")
    scene.wait(2)
    second = {each.task.index: each for each in scene.launched if each.task.step and each.task.kind == "map"}
    for index in (0, 1):
        scene.launched[second[index]].say(AttemptSucceeded(second[index], TaskOutput(b"d", 10, 1), ()))
    if is_gone:
        part = scene.attempt("reduce2")
        scene.launched[part].say(FetchFailed(part, part, is_gone=True, reason="its worker cannot read it"))
    assert ("map2" in [task for task, _ in scene.listen() + scene.wait(60)]) is not is_gone
