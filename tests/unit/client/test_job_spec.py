"""What is fixed when a job is submitted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minireduce import Job, Sum
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.job_spec import Wishes, default_reducers, make_spec
from minireduce.client.splits import spread_split_size
from minireduce.config import Settings
from minireduce.core.spec import JobSpec, Program
from minireduce.core.views import ClusterView
from minireduce.errors import RequestError, Unavailable

MIB = 1 << 20
PROGRAM = Program("source", b"", "")


def words(line: str) -> Iterator[tuple[str, int]]:
    yield line, 1


def cluster(*, workers: int = 1, slots: int = 4, machine: str = "here") -> ClusterView:
    return ClusterView("c0ffee", 1, "0.1.0", workers, slots, 1000 * MIB, (machine,))


def spec(
    job: Job, *, size: int = 10 * MIB, wishes: Wishes | None = None, settings: Settings | None = None, **view
) -> JobSpec:
    return make_spec(
        job,
        PROGRAM,
        Inputs((InputFile("/in/a", size, "f"),), 0),
        wishes or Wishes(),
        cluster=cluster(**view),
        settings=settings or Settings(),
        machine_id="here",
    )


@pytest.mark.parametrize(
    ("input_bytes", "slots", "reducers"),
    [(0, 4, 1), (1, 4, 1), (64 * MIB, 4, 1), (64 * MIB + 1, 4, 2), (10_000 * MIB, 4, 4), (10_000 * MIB, 1, 1)],
)
def test_reducers_follow_the_input_and_stay_within_the_slots(input_bytes: int, slots: int, reducers: int) -> None:
    assert default_reducers(input_bytes, slots) == reducers


def test_a_flag_beats_the_job_which_beats_a_setting_which_beats_the_default() -> None:
    own, plain, asked = Job(words, Sum(), reducers=5), Job(words, Sum()), Wishes(reducers=7)
    configured = Settings(reducers=3)
    assert spec(own, wishes=asked, settings=configured).steps[0].reducers == 7
    assert spec(own, settings=configured).steps[0].reducers == 5
    assert spec(plain, settings=configured).steps[0].reducers == 3
    assert spec(plain, size=200 * MIB).steps[0].reducers == 4


def test_a_step_without_reduce_has_no_reducers_whatever_was_asked() -> None:
    assert spec(Job(words), wishes=Wishes(reducers=7)).steps[0].reducers == 0


def test_memory_is_what_a_slot_of_the_smallest_worker_has_unless_somebody_said_otherwise() -> None:
    assert spec(Job(words, Sum())).steps[0].memory_limit_bytes == 1000 * MIB
    assert spec(Job(words, Sum(), memory_limit="100MiB")).steps[0].memory_limit_bytes == 100 * MIB
    assert spec(Job(words, Sum()), settings=Settings(memory_limit=MIB)).steps[0].memory_limit_bytes == MIB


def test_input_that_no_worker_can_see_is_refused_before_a_job_exists() -> None:
    with pytest.raises(RequestError, match="no worker runs on this machine"):
        spec(Job(words, Sum()), machine="elsewhere")


def test_a_cluster_without_workers_cannot_take_a_job() -> None:
    with pytest.raises(Unavailable, match="no live worker"):
        spec(Job(words, Sum()), workers=0)


def test_the_name_that_was_asked_for_is_shown() -> None:
    assert spec(Job(words, Sum(), name="nightly")).name == "nightly"
    assert spec(Job(words, Sum()), wishes=Wishes(name="tonight")).name == "tonight"


def test_attempts_are_as_many_as_the_job_says_or_else_the_settings() -> None:
    assert spec(Job(words, Sum())).attempts_max == 4
    assert spec(Job(words, Sum()), settings=Settings(attempts_max=2)).attempts_max == 2
    assert spec(Job(words, Sum(), attempts_max=1), settings=Settings(attempts_max=2)).attempts_max == 1


def test_a_job_has_backups_unless_it_or_whoever_runs_it_says_no() -> None:
    assert spec(Job(words, Sum())).speculation
    assert not spec(Job(words, Sum(), speculation=False).then(None, Sum())).speculation
    assert not spec(Job(words, Sum()), wishes=Wishes(speculation=False)).speculation


def test_the_longest_record_is_what_the_settings_say() -> None:
    assert spec(Job(words, Sum())).steps[0].record_bytes_max == 64 * MIB
    assert spec(Job(words, Sum()), settings=Settings(record_bytes_max=MIB)).steps[0].record_bytes_max == MIB


@pytest.mark.parametrize(
    ("input_mib", "slots", "split_mib"),
    [(1, 2, 4), (6, 2, 4), (32, 2, 16), (32, 4, 8), (32, 100, 4), (1000, 2, 64), (16, 0, 16)],
)
def test_splits_are_small_enough_for_each_slot_to_get_one(input_mib: int, slots: int, split_mib: int):
    assert spread_split_size(64 << 20, input_mib << 20, slots) == split_mib << 20


@pytest.mark.parametrize(("input_mib", "slots", "split_mib"), [(64, 2, 16), (128, 2, 32), (200, 2, 50), (60, 2, 30)])
def test_a_slot_gets_two_splits_where_they_are_not_too_small(input_mib: int, slots: int, split_mib: int):
    assert spread_split_size(64 << 20, input_mib << 20, slots) == split_mib << 20
