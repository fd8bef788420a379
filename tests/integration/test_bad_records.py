"""Records that cannot be computed, in real task processes: what is left out, what is counted, what is told of each.

The idea is Hadoop's TestBadRecords: ten records, some of which end the mapper in every way there is, and two keys that
end the reducer.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minireduce import Job

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
