"""Real workers hold what a job left twice: one of them may die, and nothing runs again for it."""

from __future__ import annotations

import time

import pytest
from scenes.cluster import ProcessCluster, watch
from scenes.gated import SETTINGS, Stage, closed, finish, running, submit, tried

from minireduce.api.job import Job
from minireduce.ids import TaskKind
from minireduce.wire import methods
from minireduce.wire.questions import GetResult, ListTasks

WAIT_S = 60.0
LONG_S = 1.5  # a part that took so long is copied while its job runs


def words(line):
    for word in line.split():
        yield word, 1


def total(word, counts):
    yield word, sum(counts)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, open_splits=2)


def test_a_result_is_read_after_the_worker_that_made_it_died_and_nothing_ran_again(tmp_path, stage, monkeypatch):
    with ProcessCluster(tmp_path, workers=3, settings=SETTINGS) as cluster, cluster.connect() as connection:
        monkeypatch.setenv("MINIREDUCE_TOKEN_FILE", str(cluster.token_file))
        result = Job(words, total, reducers=2).run(stage.input, master=cluster.address)
        before = {task.task: tried(task) for task in connection.call(methods.LIST_TASKS, ListTasks(result.id))}
        place = connection.call(methods.GET_RESULT, GetResult(result.id)).parts[0]
        cluster.kill(cluster.daemon_of(place.worker))
        assert dict(result) == stage.expected()
        after = {task.task: tried(task) for task in connection.call(methods.LIST_TASKS, ListTasks(result.id))}
        moved = connection.call(methods.GET_RESULT, GetResult(result.id)).parts[0]
        assert (moved.attempt, moved.worker != place.worker) == (place.attempt, True)
        reduces = [task for task in before if task.kind is TaskKind.REDUCE]
        assert {task: after[task] for task in reduces} == {task: before[task] for task in reduces}


def test_a_reduce_whose_part_was_copied_does_not_run_again_when_its_worker_dies(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=4, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.reduce_gate):  # one reduce waits, the other one ends
            with closed(stage.map_gate):
                client = submit(cluster, stage)

                def both_reduces_gather_for_a_while(view, tasks):
                    gathering = running(tasks, TaskKind.REDUCE)
                    return len(gathering) == 2 and min(each.elapsed_s for each in gathering) > LONG_S

                watch(connection, "@", both_reduces_gather_for_a_while)
            ended = {}

            def one_reduce_is_done_and_one_runs(view, tasks):
                ended.update(
                    {t.task: t.attempts for t in tasks if t.state == "done" and t.task.kind is TaskKind.REDUCE}
                )
                return bool(ended) and bool(running(tasks, TaskKind.REDUCE))

            view = watch(connection, "@", one_reduce_is_done_and_one_runs)
            ((task, attempts),) = ended.items()
            await_copy(tmp_path, str(attempts[-1].attempt))
            cluster.kill(cluster.daemon_of(attempts[-1].worker))

            def the_worker_is_lost(view, tasks):
                return sum(worker.state == "live" for worker in cluster.workers().values()) == 3

            watch(connection, view.job, the_worker_is_lost)
            tasks = {t.task: t for t in connection.call(methods.LIST_TASKS, ListTasks(view.job))}
            assert (tasks[task].state, tried(tasks[task])) == ("done", {each.attempt for each in attempts})
        finish(client, cluster, stage)


def await_copy(root, attempt):
    """Until two workers hold a part."""
    deadline = time.monotonic() + WAIT_S
    while len(list(root.glob(f"worker-*/jobs/*/{attempt}/output.meta"))) < 2:
        assert time.monotonic() < deadline, "nobody copied the part"
