"""What of a worker's directory counts as finished, and what goes when."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import xxhash
from scenes.worker import JOB, OUTPUT, fetched_file, map_attempt, reduce_attempt, succeeded

from minireduce.core.messages import AttemptSucceeded
from minireduce.core.task_data import TaskOutput
from minireduce.disk import RealDisk
from minireduce.engine.frames import PART_MAGIC
from minireduce.errors import Corruption
from minireduce.testing.disk import SimDisk
from minireduce.worker.outputs import META_NAME, Outputs

DATA_DIR = Path("/data")
PART = TaskOutput(b"digest", 10, 1)


class CountingDisk(RealDisk):
    """A disk that counts what was made durable."""

    def __init__(self) -> None:
        self.synced: list[Path] = []

    def sync(self, file) -> None:
        self.synced.append(Path(file.name))
        super().sync(file)

    def sync_directory(self, path: Path) -> None:
        self.synced.append(path)
        super().sync_directory(path)


def finish(outputs: Outputs, report: AttemptSucceeded) -> Path:
    directory = outputs.prepare(report.attempt)
    (directory / "output.data").write_bytes(b"pairs")
    (directory / "stdout").write_bytes(b"hello")
    (directory / "work").mkdir()
    outputs.keep(report)
    return directory


def test_finished_outputs_are_listed_after_a_restart_and_the_rest_is_removed(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    finish(outputs, succeeded(map_attempt(1)))
    finish(outputs, succeeded(map_attempt(0)))
    unfinished = outputs.prepare(map_attempt(2))
    (unfinished / "output.data").write_bytes(b"pai")
    again = Outputs(tmp_path, RealDisk())
    assert again.held() == (succeeded(map_attempt(0)), succeeded(map_attempt(1)))
    assert not unfinished.exists()


def test_a_job_of_which_nothing_was_finished_leaves_no_directory(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    outputs.prepare(map_attempt(0))
    assert outputs.held() == ()
    assert not (tmp_path / "jobs" / JOB).exists()


def test_what_is_not_ours_is_left_alone(tmp_path: Path):
    (tmp_path / "jobs" / "lost+found").mkdir(parents=True)
    assert Outputs(tmp_path, RealDisk()).held() == ()
    assert (tmp_path / "jobs" / "lost+found").exists()


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x81\xa0\xa1x", b"\x93\x01\x02\x03"])
def test_an_illegible_report_counts_as_none(tmp_path: Path, damage: bytes):
    outputs = Outputs(tmp_path, RealDisk())
    directory = finish(outputs, succeeded(map_attempt(0)))
    (directory / META_NAME).write_bytes(damage)
    assert outputs.held() == ()
    assert not directory.exists()


def test_a_report_in_the_place_of_another_attempt_counts_as_none(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    directory = finish(outputs, succeeded(map_attempt(0)))
    directory.rename(outputs.directory(map_attempt(7)))
    assert outputs.held() == ()


def test_removing_an_attempt_or_its_job_leaves_what_it_printed_and_nothing_else(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    directory = finish(outputs, succeeded(map_attempt(0)))
    fetched_file(outputs, map_attempt(0), map_attempt(9))
    outputs.remove(map_attempt(0))
    assert [path.name for path in directory.iterdir()] == ["stdout"]
    outputs.remove(map_attempt(0))
    finish(outputs, succeeded(map_attempt(0)))
    silent = finish(outputs, succeeded(map_attempt(1)))
    (silent / "stdout").unlink()
    outputs.remove_job(JOB)
    assert [path.name for path in directory.parent.rglob("*")] == [directory.name, "stdout"]
    outputs.remove_job(JOB)
    (directory / "stdout").unlink()
    outputs.remove_job(JOB)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_job_that_is_no_job_removes_nothing(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    directory = finish(outputs, succeeded(map_attempt(0)))
    for name in ("", ".", "..", "../jobs"):
        outputs.remove_job(name)
    assert directory.exists()


def test_a_fetched_run_is_gone_on_with_and_goes_without_the_output(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    path = fetched_file(outputs, reduce_attempt(0), map_attempt(3))
    path.write_bytes(b"half")
    assert fetched_file(outputs, reduce_attempt(0), map_attempt(3)).read_bytes() == b"half"
    finish(outputs, succeeded(reduce_attempt(0)))
    outputs.remove_fetched(reduce_attempt(0))
    assert not path.exists()
    assert outputs.held() == (succeeded(reduce_attempt(0)),)


def test_a_part_is_durable_with_its_name_before_it_counts_and_a_map_output_need_not_be(tmp_path: Path):
    disk = CountingDisk()
    outputs = Outputs(tmp_path, disk)
    directory = finish(outputs, AttemptSucceeded(reduce_attempt(0), PART, ()))
    assert disk.synced[:3] == [directory / META_NAME, directory, directory.parent]
    disk.synced.clear()
    finish(outputs, AttemptSucceeded(map_attempt(0), OUTPUT, ()))
    assert disk.synced == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_tasks_with_an_account_of_their_own_reach_and_own_what_is_theirs(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk(), task_ids=(65534, 65534))
    path = fetched_file(outputs, reduce_attempt(0), map_attempt(3))
    owned = [path, path.parent, outputs.directory(reduce_attempt(0))]
    assert {place.stat().st_uid for place in owned} == {65534}
    above = [tmp_path, tmp_path / "jobs", tmp_path / "jobs" / JOB]
    assert {oct(place.stat().st_mode & 0o777) for place in above} == {"0o711"}


def test_a_part_that_was_kept_survives_a_crash_of_the_machine():
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        disk.make_directories(DATA_DIR)
        disk.sync_directory(DATA_DIR.parent)
        outputs = Outputs(DATA_DIR, disk)
        report = AttemptSucceeded(reduce_attempt(0), PART, ())
        with disk.create(outputs.prepare(reduce_attempt(0)) / "part") as part:
            part.write(b"pairs")
            disk.sync(part)
        outputs.keep(report)
        disk.crash()
        assert Outputs(DATA_DIR, disk).held() == (report,), seed


def fetched_copy(outputs: Outputs, disk, content: bytes) -> AttemptSucceeded:
    """A part that was fetched to be kept; its digest covers what follows the magic, unless it is text."""
    attempt = reduce_attempt(0)
    path = fetched_file(outputs, attempt, attempt)
    with disk.open_append(path) as file:
        file.write(content)
    digest = xxhash.xxh3_128(content.removeprefix(PART_MAGIC)).digest()
    return AttemptSucceeded(attempt, TaskOutput(digest, len(content), 1), ())


@pytest.mark.parametrize(("content", "is_text"), [(b"a\t1\n", True), (PART_MAGIC + b"frames", False)])
def test_a_copy_of_a_part_becomes_an_output_that_survives_a_crash_of_the_machine(content, is_text):
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        disk.make_directories(DATA_DIR)
        disk.sync_directory(DATA_DIR.parent)
        outputs = Outputs(DATA_DIR, disk)
        report = fetched_copy(outputs, disk, content)
        outputs.keep_copy(report, is_text=is_text)
        disk.crash()
        assert Outputs(DATA_DIR, disk).held() == (report,)
        with disk.open(outputs.directory(report.attempt) / "part") as part:
            assert part.read() == content


def test_a_copy_that_is_not_the_part_that_was_committed_is_refused(tmp_path):
    disk = RealDisk()
    outputs = Outputs(tmp_path, disk)
    report = fetched_copy(outputs, disk, b"a\t1\n")
    outputs.fetched(report.attempt, report.attempt).write_bytes(b"a\t2\n")
    with pytest.raises(Corruption, match="not the part that was committed"):
        outputs.keep_copy(report, is_text=True)
    assert outputs.held() == ()
