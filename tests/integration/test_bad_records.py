"""Records that cannot be computed, in real task processes: what is left out, what is counted, what is told of each.

The idea is Hadoop's TestBadRecords: ten records, some of which end the mapper in every way there is, and two keys that
end the reducer.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minireduce import Job, JobFailed, Sum
from minireduce.errors import RequestError

RECORDS = [f"hello{number:02}" for number in range(1, 11)]
GROUP = "minireduce"
HANGS_S = 600.0
TIMEOUT_S = 1.0


def leave() -> None:
    os._exit(3)


def leave_in_c() -> None:
    ctypes.CDLL(None)._exit(4)


def raise_error() -> None:
    raise ValueError("not this one")


def hang() -> None:
    time.sleep(HANGS_S)


def crash() -> None:
    ctypes.string_at(0)


def exhaust_memory() -> None:
    held = []
    while True:
        held.append(bytearray(b"x" * (4 << 20)))


ENDS: dict[str, Callable[[], None]] = {
    "hello01": leave,
    "hello04": raise_error,
    "hello05": hang,
    "hello06": crash,
    "hello07": exhaust_memory,
    "hello09": leave_in_c,
}


def mapper(ending: tuple[str, ...]) -> Callable[[str], Iterator[tuple[str, str]]]:
    """A map that ends in its own way at each of these records, after it has yielded a pair."""

    def map_(line: str) -> Iterator[tuple[str, str]]:
        from minireduce import task

        task.counter("own", "seen").add()
        yield line, line
        if line in ending:
            ENDS[line]()

    return map_


def reduce_but_two(key: str, values: Iterator[str]) -> Iterator[tuple[str, str]]:
    if key == "hello08":
        leave()
    for value in values:
        yield key, value
    if key == "hello10":
        raise_error()


def reduce_all(key: str, values: Iterator[str]) -> Iterator[tuple[str, str]]:
    for value in values:
        yield key, value


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("MINIREDUCE_MASTER", raising=False)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{record}\n" for record in RECORDS))
    return path


def offset_of(record: str) -> int:
    return RECORDS.index(record) * len(f"{record}\n")


def read_quarantine(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "_quarantine" / "part-00000.jsonl").read_text().splitlines()]


def test_each_way_to_die_costs_one_record_and_the_rest_comes_out_once(text: Path) -> None:
    ending = ("hello01", "hello04", "hello05")
    job = Job(mapper(ending), reduce_but_two, skip_bad_records=5, task_timeout_s=TIMEOUT_S, reducers=1)
    result = job.run(text, slots=1)
    left = [record for record in RECORDS if record not in (*ending, "hello08", "hello10")]
    assert list(result) == [(record, record) for record in left]
    assert {(bad.record or bad.key, bad.kind, bad.offset) for bad in result.skipped} == {
        ("hello01", "exited", offset_of("hello01")),
        ("hello04", "raised", offset_of("hello04")),
        ("hello05", "timeout", offset_of("hello05")),
        ("hello08", "exited", None),
        ("hello10", "raised", None),
    }
    assert all(bad.path == str(text) for bad in result.skipped if bad.key is None)
    counters = result.counters[GROUP]
    assert counters["MAP_INPUT_RECORDS"] == counters["MAP_OUTPUT_RECORDS"] == len(RECORDS) - len(ending)
    assert counters["MAP_SKIPPED_RECORDS"] == len(ending)
    assert counters["REDUCE_SKIPPED_GROUPS"] == counters["REDUCE_SKIPPED_RECORDS"] == 2
    assert counters["REDUCE_INPUT_GROUPS"] == counters["REDUCE_INPUT_RECORDS"] == len(left)
    assert counters["REDUCE_OUTPUT_RECORDS"] == len(left)
    assert (counters["NUM_FAILED_MAPS"], counters["NUM_FAILED_REDUCES"]) == (0, 0)
    assert result.counters["own"]["seen"] == len(RECORDS) - len(ending)


def test_a_crash_an_end_in_c_and_exhausted_memory_cost_one_record_each(text: Path, tmp_path: Path) -> None:
    ending = ("hello06", "hello07", "hello09")
    job = Job(mapper(ending), reduce_all, skip_bad_records=3, memory_limit="128MB", reducers=1)
    result = job.run(text, output=tmp_path / "out", slots=1)
    assert {(bad.record, bad.kind) for bad in result.skipped} == {
        ("hello06", "crashed"),
        ("hello07", "memory"),
        ("hello09", "exited"),
    }
    lines = (tmp_path / "out" / "part-00000").read_text().splitlines()
    assert lines == [f"{record}\t{record}" for record in RECORDS if record not in ending]
    quarantine = read_quarantine(tmp_path / "out")
    assert [(line["record"], line["file"], line["offset"]) for line in quarantine] == [
        (record, str(text), offset_of(record)) for record in ending
    ]
    assert "string_at" in quarantine[0]["traceback"]


def test_a_key_whose_reduce_crashes_hangs_or_exhausts_memory_is_left_out_with_all_its_values(text: Path) -> None:
    def reduce_(key: str, values: Iterator[str]) -> Iterator[tuple[str, str]]:
        first = next(values)
        if key in ("hello05", "hello06", "hello07"):
            ENDS[key]()
        yield key, first

    def thrice(line: str) -> Iterator[tuple[str, str]]:
        for _ in range(3):
            yield line, line

    job = Job(thrice, reduce_, skip_bad_records=3, task_timeout_s=TIMEOUT_S, memory_limit="128MB", reducers=1)
    result = job.run(text, slots=1)
    assert [(bad.key, bad.kind) for bad in result.skipped] == [
        ("hello05", "timeout"),
        ("hello06", "crashed"),
        ("hello07", "memory"),
    ]
    assert [key for key, _ in result] == [
        record for record in RECORDS if record not in ("hello05", "hello06", "hello07")
    ]
    assert result.counters[GROUP]["REDUCE_SKIPPED_GROUPS"] == 3
    assert result.counters[GROUP]["REDUCE_SKIPPED_RECORDS"] == 9
    assert result.counters[GROUP]["REDUCE_INPUT_RECORDS"] == 21


@pytest.mark.parametrize(("record", "kind"), [("hello04", "raised"), ("hello06", "crashed"), ("hello09", "exited")])
def test_without_the_flag_the_second_failure_at_a_record_fails_the_job(text: Path, record: str, kind: str) -> None:
    job = Job(mapper((record,)), reduce_all, attempts_max=4)
    with pytest.raises(JobFailed) as failed:
        job.run(text, slots=1)
    assert [error.error.kind for error in failed.value.errors] == [kind, kind]
    assert failed.value.errors[0].error.offset == offset_of(record)
    assert "failed twice at the record" in failed.value.message
    for told in (f"'{record}'", f"{text} at offset {offset_of(record)}", "--skip-bad-records"):
        assert told in failed.value.message


def dying_late(where: Path) -> tuple[Job[str, str], int]:
    """A job over many quick lines, at one of the last of which its process is ended in C; and where that begins."""
    lines = [f"line {number:06}" for number in range(30_000)]
    where.write_text("".join(f"{line}\n" for line in lines))

    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line == "line 025000":
            crash()
        if line.endswith("00"):
            yield line, line

    return Job(map_, reduce_all, attempts_max=4), lines.index("line 025000") * len("line 000000\n")


def test_among_records_that_are_marked_together_the_next_attempt_finds_the_one_that_ends_its_process(
    tmp_path: Path,
) -> None:
    job, offset = dying_late(tmp_path / "in.txt")
    with pytest.raises(JobFailed) as failed:
        job.run(tmp_path / "in.txt", slots=1)
    last, *first = [each.error for each in failed.value.errors]
    assert 1 <= len(first) <= 2
    assert all(each.kind == "crashed" and (each.position in (-1, 25_000)) for each in first)
    assert (last.position, last.offset) == (25_000, offset)
    assert f"failed twice at the record 'line 025000' of {tmp_path / 'in.txt'} at offset {offset}" in str(failed.value)


def test_a_record_that_ends_its_process_among_many_quick_ones_is_left_out_alone(tmp_path: Path) -> None:
    job, offset = dying_late(tmp_path / "in.txt")
    result = job.run(tmp_path / "in.txt", slots=1, skip_bad_records=1)
    assert [(bad.record, bad.offset) for bad in result.skipped] == [("line 025000", offset)]
    assert len(list(result)) == 299


def test_without_the_flag_two_failures_at_different_records_do_not_end_the_job(text: Path, tmp_path: Path) -> None:
    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line in ("hello02", "hello03") and not (tmp_path / line).exists():
            (tmp_path / line).touch()
            crash()
        yield line, line

    result = Job(map_, reduce_all).run(text, slots=1)
    assert len(list(result)) == len(RECORDS)
    assert result.counters[GROUP]["NUM_FAILED_MAPS"] == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGBUS])
def test_a_kill_from_outside_or_a_damaged_mapping_never_blames_the_record_in_work(
    text: Path, tmp_path: Path, number: int
) -> None:
    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line == "hello03" and (kills := len(list(tmp_path.glob("kill-*")))) < 3:
            (tmp_path / f"kill-{kills}").touch()  # so often that a record would be given up if these were its failures
            os.kill(os.getpid(), number)  # for its worker the same as one by anybody else
        yield line, line

    result = Job(map_, reduce_all, skip_bad_records=10).run(text, slots=1)
    assert len(list(tmp_path.glob("kill-*"))) == 3
    assert result.skipped == []
    assert [key for key, _ in result] == RECORDS


def test_user_code_that_kills_itself_at_one_record_ends_its_job_after_so_many_losses_and_the_record_is_named(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIREDUCE_LOSSES_MAX", "2")

    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line == "hello03":
            os.kill(os.getpid(), signal.SIGKILL)
        yield line, line

    with pytest.raises(JobFailed) as failed:
        Job(map_, reduce_all, skip_bad_records=10).run(text, slots=1)
    assert failed.value.skipped == ()
    expected = (
        f"was lost 3 times, each time because: its process was killed (SIGKILL) at record 3 of its task, in {text}"
    )
    assert expected in str(failed.value)


def test_a_kill_from_outside_during_a_probe_does_not_blame_the_record_either(text: Path, tmp_path: Path) -> None:
    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line == "hello03":
            runs = len(list(tmp_path.glob("run-*")))
            (tmp_path / f"run-{runs}").touch()
            if runs == 2:  # the plain run and the careful one have raised, this is the probe
                os.kill(os.getpid(), signal.SIGKILL)
            if runs < 2:
                raise_error()
        yield line, line

    result = Job(map_, reduce_all, skip_bad_records=10).run(text, slots=1)
    assert len(list(tmp_path.glob("run-*"))) == 4
    assert result.skipped == []
    assert [key for key, _ in result] == RECORDS


def test_a_record_that_can_be_computed_alone_is_kept_and_its_failure_counts(text: Path) -> None:
    seen: list[str] = []

    def map_(line: str) -> Iterator[tuple[str, str]]:
        seen.append(line)
        if line == "hello03" and len(seen) > 1:
            raise_error()
        yield line, line

    with pytest.raises(JobFailed) as failed:
        Job(map_, reduce_all, skip_bad_records=10, attempts_max=3).run(text, slots=1)
    assert failed.value.skipped == ()
    assert len(failed.value.errors) == 3


def test_an_input_that_cannot_be_read_to_its_end_blames_no_record(text: Path) -> None:
    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line == "hello03":
            os.utime(text, (0, 0))  # as of a file that somebody writes to
        yield line, line

    with pytest.raises(JobFailed, match="lost 11 times") as failed:
        Job(map_, reduce_all, skip_bad_records=10).run(text, slots=1)
    assert failed.value.skipped == ()


@pytest.mark.parametrize("skips", [None, 10])
@pytest.mark.parametrize("seconds", [0.0, HANGS_S])
def test_a_process_that_closed_its_connection_blames_no_record(text: Path, skips: int | None, seconds: float) -> None:
    def map_(line: str) -> Iterator[tuple[str, str]]:
        if line == "hello03":
            os.closerange(0, 1000)
        if line == "hello08":
            time.sleep(seconds)  # it works on, at a record that can be computed
        yield line, line

    with pytest.raises(JobFailed, match="cut its connection to the worker") as failed:
        Job(map_, reduce_all, skip_bad_records=skips, attempts_max=2).run(text, slots=1)
    assert failed.value.skipped == ()
    assert [told.error.position for told in failed.value.errors] == [-1, -1]
    assert "hello" not in str(failed.value)


def test_memory_that_many_records_used_up_together_blames_none_of_them(tmp_path: Path) -> None:
    text = tmp_path / "many.txt"  # so many that no process can end before anybody looks at its memory
    text.write_text("".join(f"line {number}\n" for number in range(200)))
    held: list[bytearray] = []

    def map_(line: str) -> Iterator[tuple[str, str]]:
        held.append(bytearray(b"x" * (24 << 20)))
        yield line, line

    with pytest.raises(JobFailed) as failed:
        Job(map_, reduce_all, skip_bad_records=10, memory_limit="128MB", attempts_max=2).run(text, slots=1)
    assert failed.value.skipped == ()
    assert {error.error.kind for error in failed.value.errors} == {"memory"}


def test_more_bad_records_than_allowed_fail_the_job_which_names_them(text: Path, tmp_path: Path) -> None:
    job = Job(mapper(("hello01", "hello04", "hello06")), reduce_all, skip_bad_records=2)
    with pytest.raises(JobFailed, match="3 records could not be computed, and --skip-bad-records allows 2") as failed:
        job.run(text, output=tmp_path / "out", slots=1)
    assert {bad.record for bad in failed.value.skipped} == {"hello01", "hello04", "hello06"}
    assert not (tmp_path / "out").exists()


def test_a_share_is_judged_over_all_records_of_a_step(text: Path) -> None:
    job = Job(mapper(("hello01", "hello04", "hello06")), reduce_all)
    assert len(job.run(text, slots=1, skip_bad_records="30%").skipped) == 3
    with pytest.raises(JobFailed, match="3 of 10 records could not be computed, and --skip-bad-records allows 29%"):
        job.run(text, slots=1, skip_bad_records="29%")


class Stubborn:
    """A value that cannot be stored."""

    def __reduce__(self) -> str:
        raise TypeError("not me")

    def __repr__(self) -> str:
        return "Stubborn()"


def bad_key(line: str) -> Iterator[tuple[object, object]]:
    """Pairs that cannot be taken, of every kind."""
    yield {"hello02": float("nan"), "hello03": {}}.get(line, line), line
    if line == "hello04":
        yield "no pair"  # type: ignore[misc]
    if line == "hello05":
        yield line, Stubborn()


def few(_: str) -> Iterator[tuple[str, int]]:
    """Raises for one record in four."""
    yield _[:6], 12 // (int(_[5:]) % 4)


@pytest.mark.parametrize("reduce", [reduce_all, None, Sum()], ids=["function", "map only", "aggregation"])
@pytest.mark.parametrize("map_", [few, bad_key], ids=["raises", "gives what cannot be taken"])
def test_inline_and_on_a_cluster_the_same_is_left_out_and_the_same_comes_out(
    text: Path, tmp_path: Path, map_: object, reduce: object
) -> None:
    if map_ is bad_key and isinstance(reduce, Sum):
        pytest.skip("its values cannot be summed")
    job = Job(map_, reduce, skip_bad_records=10)
    told = {}
    for name, where in (("inline", {"inline": True}), ("cluster", {"slots": 2})):
        result = job.run(text, output=tmp_path / name, reducers=2, **where)
        lines = read_quarantine(tmp_path / name)
        for line in lines:
            del line["task"], line["attempt"]
        parts = [path.read_bytes() for path in sorted((tmp_path / name).glob("part-*"))]
        told[name] = parts, lines, dict(result.counters[GROUP])["MAP_SKIPPED_RECORDS"]
        assert len(result.skipped) == len(lines) > 1
    assert told["inline"] == told["cluster"]


def test_a_map_over_all_records_loses_the_same_ones_whatever_they_do_to_their_process(text: Path) -> None:
    ending = ("hello01", "hello04", "hello05", "hello06", "hello09")

    def all_of_them(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
        for line in lines:
            yield line, line
            if line in ending:
                ENDS[line]()

    job = Job(map_records=all_of_them, reduce=reduce_all, skip_bad_records=5, task_timeout_s=TIMEOUT_S, reducers=1)
    result = job.run(text, slots=1)
    assert list(result) == [(record, record) for record in RECORDS if record not in ending]
    assert {(bad.record, bad.kind, bad.offset) for bad in result.skipped} == {
        (record, kind, offset_of(record))
        for record, kind in zip(ending, ("exited", "raised", "timeout", "crashed", "exited"), strict=True)
    }
    assert result.counters[GROUP]["MAP_INPUT_RECORDS"] == len(RECORDS) - len(ending)


def test_the_command_shows_what_it_left_out_and_names_the_flag_when_a_record_fails_twice(
    minireduce: Callable[..., object], text: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(
        "from minireduce import Job, Sum\n"
        "def thirds(line):\n"
        "    yield line, 1 // (int(line[5:]) % 3)\n"
        "job = Job(thirds, Sum())\n"
    )
    ran = minireduce("submit", "job.py", text, "-o", "out", "--skip-bad-records", "3")
    assert ran.status == 0, ran.err
    assert "3 records that could not be computed left out, see out/_quarantine" in ran.err
    assert ran.err.count("left out") == 1
    assert len((tmp_path / "out" / "part-00000").read_text().splitlines()) == 7
    ran = minireduce("submit", "job.py", text, "-o", "other", "--skip-bad-records", "1")
    assert ran.status == 1
    assert "left out: record 'hello03' of" in ran.err
    ran = minireduce("submit", "job.py", text, "-o", "other")
    assert ran.status == 1
    assert ran.err.index("ZeroDivisionError") < ran.err.index("--skip-bad-records")
    assert "yield line, 1 // (int(line[5:]) % 3)" in ran.err
    ran = minireduce("submit", "job.py", text, "--skip-bad-records", "many")
    assert ran.status == 2
    assert 'such as "0.1%"' in ran.err


@pytest.mark.parametrize("where", [{"inline": True}, {"slots": 1}], ids=["inline", "cluster"])
def test_a_record_that_is_too_long_to_be_read_is_left_out_like_others(tmp_path: Path, where: dict[str, object]) -> None:
    path = tmp_path / "in.txt"
    path.write_text("one\n" + "long" * 1000 + "\nhello04\nfour\n" + "x" * 5000)
    job = Job(mapper(("hello04",)), reduce_all, skip_bad_records=3)
    result = job.run(path, record_bytes_max=100, **where)
    assert sorted(result) == [("four", "four"), ("one", "one")]
    found = {
        (bad.path, bad.offset, bad.bytes_total, bytes(bad.record[:8])) for bad in result.skipped if bad.bytes_total > 7
    }
    assert found == {(str(path), 4, 4000, b"longlong"), (str(path), 4018, 5000, b"xxxxxxxx")}
    assert [bad.record for bad in result.skipped if bad.bytes_total == 7] == ["hello04"]
    assert (result.counters[GROUP]["MAP_INPUT_RECORDS"], result.counters[GROUP]["MAP_SKIPPED_RECORDS"]) == (2, 3)
    with pytest.raises(JobFailed, match="at offset 4 is longer than 100 bytes"):
        Job(mapper(()), reduce_all).run(path, record_bytes_max=100, **where)


@pytest.mark.parametrize("given", [-1, "101%", "x", "nan%", True, 10**9])
def test_a_limit_that_cannot_be_is_refused(given: object) -> None:
    with pytest.raises(RequestError, match="skip_bad_records"):
        Job(reduce_all, skip_bad_records=given)
