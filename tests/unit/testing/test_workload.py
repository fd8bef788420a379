from __future__ import annotations

from minireduce.testing.workload import SimJob, run_first_map, run_later_map, run_reduce, sequential, unpack


def test_the_sequential_run_sums_words_step_by_step():
    expected = sequential(SimJob("j", texts=("ab a", "ab"), reducers=(1, 1)))
    assert expected.parts == (b"a\t3\n",)
    assert {name: count for _, name, count in expected.counters} == {
        "MAP_INPUT": 4,
        "MAP_OUTPUT": 5,
        "REDUCE_INPUT": 5,
        "REDUCE_OUTPUT": 3,
    }


def test_tasks_give_what_the_sequential_run_gives():
    job = SimJob("j", texts=("the map of maps", "sort the maps", ""), reducers=(3, 0))
    outputs = [run_first_map(job, text.splitlines()) for text in job.texts]
    parts = [run_reduce(output.partitions[part] for output in outputs).partitions[0] for part in range(3)]
    final = tuple(run_later_map(job, 1, part).partitions[0] for part in parts)
    assert final == sequential(job).parts
    assert sum(count for part in final for _, count in unpack(part)) == 7


def test_a_digest_tells_outputs_apart_and_not_attempts():
    job = SimJob("j", texts=("a", "b"), reducers=(1,))
    assert run_first_map(job, ["a"]).output.digest == run_first_map(job, ["a"]).output.digest
    assert run_first_map(job, ["a"]).output.digest != run_first_map(job, ["b"]).output.digest
