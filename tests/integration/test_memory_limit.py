"""A job over ten times its memory limit, in real task processes, whose memory is watched from outside all the while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil
import pytest

from minireduce import Job
from minireduce.attempt.linux import anonymous_bytes

LIMIT_BYTES = 16 << 20
LINE_BYTES = 1000
LINES = 10 * LIMIT_BYTES // LINE_BYTES + 1
KEYS = 1009
FIND_S = 0.03
LOOK_S = 0.003


class Watch:
    """The least and the greatest memory of each task process that descends from this one."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, int]] = {}
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._is_done.is_set():
            tasks = [child.pid for child in psutil.Process().children(recursive=True) if _is_task(child)]
            for _ in range(round(FIND_S / LOOK_S)):
                for pid in tasks:
                    with contextlib.suppress(OSError, IndexError):  # it has ended
                        size = anonymous_bytes(Path(f"/proc/{pid}/statm").read_bytes())
                        least, most = self.seen.get(pid, (size, size))
                        self.seen[pid] = min(least, size or least), max(most, size)
                self._is_done.wait(LOOK_S)

    def __enter__(self) -> dict[int, tuple[int, int]]:
        self._thread.start()
        return self.seen

    def __exit__(self, *raised: object) -> None:
        self._is_done.set()
        self._thread.join()


def _is_task(process: psutil.Process) -> bool:
    try:
        return process.name() == "minireduce-task"
    except psutil.Error:
        return False


def keyed(line: str) -> Iterator[tuple[str, str]]:
    yield line[:4], line


def lengths(key: str, lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    yield key, sum(map(len, lines))


def test_ten_times_the_limit_goes_through_task_processes_that_stay_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MINIREDUCE_MASTER", raising=False)
    path = tmp_path / "in.txt"
    with path.open("w") as file:
        file.writelines(
            f"{number % KEYS:04d} {number:09d} ".ljust(LINE_BYTES - 1, "x") + "\n" for number in range(LINES)
        )
    assert path.stat().st_size >= 10 * LIMIT_BYTES
    with Watch() as seen:
        result = Job(keyed, lengths, memory_limit=LIMIT_BYTES).run(path, slots=1, reducers=1)
    totals = dict(result)
    assert len(totals) == KEYS
    assert sum(totals.values()) == LINES * (LINE_BYTES - 1)
    assert result.counters["minireduce"]["SPILLED_RECORDS"] > 0
    assert seen, "no task process was seen"
    assert max(most for _, most in seen.values()) > LIMIT_BYTES // 4, "the work was done elsewhere"
    for least, most in seen.values():
        assert most <= least + 1.1 * LIMIT_BYTES
    result.close()


def of_one_key(line: str) -> Iterator[tuple[str, str]]:
    yield "one", line


def counted_twice(key: str, kept: Collection[str], lines: Iterator[str]) -> Iterator[tuple[str, list[int]]]:
    yield key, [len(kept), sum(map(len, kept)), sum(map(len, kept)), sum(map(len, lines))]


def test_values_of_a_key_that_a_join_loops_over_again_stay_within_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MINIREDUCE_MASTER", raising=False)
    path = tmp_path / "in.txt"
    lines = 4 * LIMIT_BYTES // LINE_BYTES
    with path.open("w") as file:
        file.writelines(f"{number:09d} ".ljust(LINE_BYTES - 1, "x") + "\n" for number in range(lines))
    job: Job[str, list[int]] = Job({"kept": of_one_key, "lines": of_one_key}, counted_twice, memory_limit=LIMIT_BYTES)
    with Watch() as seen:
        result = job.run({"kept": path, "lines": path}, slots=1, reducers=1)
    total = lines * (LINE_BYTES - 1)
    assert list(result) == [("one", [lines, total, total, total])]
    assert seen, "no task process was seen"
    assert max(most for _, most in seen.values()) > LIMIT_BYTES // 4, "the work was done elsewhere"
    for least, most in seen.values():
        assert most <= least + 1.1 * LIMIT_BYTES
    result.close()
