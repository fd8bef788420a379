"""What a message costs its sender and its reader, and what the master's decisions cost for a thousand short tasks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from minireduce.core.messages import AttemptSucceeded, Up
from minireduce.core.task_data import TaskOutput
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.wire.codec import decode, encode

BENCH = Path(__file__).resolve().parent.parent
ENDS = 16
TASKS = 1000


def loaded(name: str) -> Any:
    """A program of `bench/`, as a module."""
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCH))


def ends() -> Up:
    counters = tuple(("minireduce", name, 1) for name in ("MAP_INPUT_RECORDS", "MAP_OUTPUT_RECORDS"))
    attempts = (AttemptId(TaskId("job-00000a-1", 0, TaskKind.MAP, number), 0) for number in range(ENDS))
    reports = [AttemptSucceeded(attempt, TaskOutput(b"d" * 16, 0, 0), counters) for attempt in attempts]
    return Up(session=1, number=1, ack=0, reports=tuple(reports))


def bench_making_a_message_of_ends(benchmark: Any) -> None:
    benchmark(encode, ends())


def bench_reading_a_message_of_ends(benchmark: Any) -> None:
    data = encode(ends())
    benchmark(decode, Up, data)


def bench_heartbeat(benchmark: Any) -> None:
    empty = Up(session=1, number=1, ack=0, reports=())
    benchmark(lambda: decode(Up, encode(empty)))


def bench_decisions_for_a_thousand_tasks(benchmark: Any) -> None:
    advance = loaded("advance")
    advance.WORKERS = 100
    benchmark.pedantic(advance.play, (TASKS,), rounds=5, warmup_rounds=1)
