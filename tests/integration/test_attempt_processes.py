"""Real task processes, forked by a real zygote: how attempts end, and that nothing of them stays behind."""

# ruff: noqa: ASYNC240 - the files of these tests are a few bytes on a local disk
from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import pwd
import re
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from minireduce.attempt.conversation import (
    BlockHere,
    MapTask,
    PartFile,
    ReadRange,
    ReduceTask,
    RunFile,
    RunTask,
    StoredFile,
)
from minireduce.attempt.linux import anonymous_share_bytes, children
from minireduce.attempt.load import python_version
from minireduce.checksums import PACKET_BYTES, crc_of
from minireduce.core.spec import LocalFiles, LocalRange, Program
from minireduce.core.texts import left_out_note
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptOutcome,
    AttemptsEnded,
    AttemptsGivenBack,
    Failed,
    Killed,
    Lost,
    ProgressMade,
    Succeeded,
)
from minireduce.core.work.bad_records import Care
from minireduce.core.work.printed import TextPrinted
from minireduce.engine.index import read_index
from minireduce.errors import Unavailable
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.machine import fingerprint
from minireduce.worker.input_reader import OpenBlock
from minireduce.worker.slots import SPARES, Slots

MIB = 1 << 20
GONE_S_MAX = 10.0

MISBEHAVING = r"""
import ctypes, json, os, signal, subprocess, sys, time
from minireduce import Job, Sum, task

def obey(line):
    if line == "pid":
        print(os.getpid())
    elif line == "raise":
        raise ValueError("no such word")
    elif line == "sys.exit":
        sys.exit(4)
    elif line == "exit":
        os._exit(3)
    elif line.startswith("fork"):
        child = os.fork()
        if child == 0 and line == "fork, exit":
            sys.exit(0)
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    elif line == "segfault":
        ctypes.string_at(0)
    elif line == "abort":
        os.abort()
    elif line == "fill":
        kept = []
        while True:
            kept.append(bytearray(8 << 20))
            time.sleep(0.005)
    elif line.startswith("fill in children"):
        ours = bytearray(40 << 20)
        for _ in range(3):
            if os.fork() == 0:
                theirs = bytearray(40 << 20) if line.endswith("each") else None
                while not os.path.exists(os.path.join(os.path.dirname(task.input_path), "looked")):
                    time.sleep(0.005)
                os._exit(0)
        for _ in range(3):
            os.wait()
    elif line == "grab":
        bytearray(1 << 40)
    elif line == "take and free":
        bytearray(b"x") * (30 << 20)
    elif line == "take and hold":
        sys.modules["held"] = bytearray(b"x") * (30 << 20)
    elif line == "hang":
        print(os.getpid(), flush=True)
        time.sleep(1000)
    elif line == "family":
        near = subprocess.Popen(["sleep", "1000"])
        far = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print(os.getpid(), near.pid, far.pid, flush=True)
        time.sleep(1000)
    elif line.endswith("daemon"):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(writing, str(os.getpid()).encode())
                os.execvp("sleep", ["sleep", "1000"])
            os._exit(0)
        os.wait()
        print(os.getpid(), int(os.read(reading, 20)), flush=True)
        if line == "daemon":
            time.sleep(1000)
    elif line == "hang up":
        os.closerange(3, 256)
        time.sleep(1000)
    elif line == "babble":
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"\xff" * 64)
            except OSError:
                continue
        time.sleep(1000)
    elif line == "count all":
        for number in range(2000):
            task.counter("numbers", str(number)).add()
    elif line == "chatter":
        for _ in range(40):
            print("x" * (1 << 16))
    elif line == "pid":
        print(os.getpid())
    elif line.endswith(" words"):
        print(line)
    elif line.startswith("say by "):
        way = line.removeprefix("say by ")
        if way == "print":
            print("said by print")
        elif way == "half a line":
            print("said by half a line", end="")
        elif way == "stderr":
            print("said by stderr", file=sys.stderr)
        elif way == "descriptor":
            os.write(1, b"said by descriptor\n")
        elif way == "c":
            ctypes.CDLL(None).printf(b"said by %s\n", b"c")
        elif way == "child":
            subprocess.run(["echo", "said by child"])
    elif line == "close streams":
        os.close(1)
        os.close(2)
    elif line == "environment":
        print(json.dumps(dict(os.environ)))
    elif line == "tell":
        task.status("telling")
        time.sleep(1.5)
    yield line, 1

job = Job(obey, Sum())
"""

ACCOUNT = """
import os
from minireduce import Job

def account(line):
    yield os.getuid(), os.getgid()
    print(os.getuid(), os.getgid())

job = Job(account, len)
"""
"""Imports only what every task process holds: the account may not be allowed where this Python is installed."""

_numbers = itertools.count()


def printed_by(task: RunTask, name: str = "stdout") -> str:
    """What an attempt left of what it printed."""
    path = Path(task.directory, name)
    return path.read_text() if path.exists() else ""


def program(text: str = MISBEHAVING) -> Program:
    body = textwrap.dedent(text).encode()
    return Program("source", body, hashlib.sha256(body).hexdigest(), "/jobs/misbehaving.py", python_version())


class Bench:
    """Slots over a directory of input and attempts."""

    def __init__(self, root: Path, slots: Slots, told: list[ProgressMade], pieces: list[TextPrinted]) -> None:
        self.root = root
        self.slots = slots
        self.told = told
        self.pieces = pieces

    def task(
        self, *lines: str, job: str = "job-000001-1", index: int | None = None, limit_bytes: int = 256 * MIB
    ) -> RunTask:
        """A map over these lines."""
        file = self.root / f"input-{next(_numbers)}.txt"
        file.write_text("".join(f"{line}\n" for line in lines))
        status = file.stat()
        part = LocalRange(str(file), 0, status.st_size, fingerprint(status))
        return self.task_over(LocalFiles("here", (part,)), job=job, index=index, limit_bytes=limit_bytes)

    def task_over(
        self,
        source: LocalFiles | StoredFile,
        *,
        job: str = "job-000001-1",
        index: int | None = None,
        limit_bytes: int = 256 * MIB,
        record_bytes_max: int = 64 * MIB,
        is_place_exact: bool = False,
    ) -> RunTask:
        number = next(_numbers)
        attempt = AttemptId(TaskId(job, 0, TaskKind.MAP, number if index is None else index), number)
        directory = self.root / str(attempt)
        directory.mkdir()
        return RunTask(
            attempt,
            MapTask(source, 2),
            str(directory),
            output_text=False,
            memory_limit_bytes=limit_bytes,
            record_bytes_max=record_bytes_max,
            care=Care(is_place_exact=is_place_exact),
        )

    async def run(self, task: RunTask, *, task_timeout_s: float = 60.0) -> AttemptOutcome:
        return await self.slots.run(program(), task, task_timeout_s=task_timeout_s)

    async def printed(self, *lines: str, job: str = "job-000001-1", index: int | None = None) -> str:
        """What a task over these lines printed; it must succeed."""
        task = self.task(*lines, job=job, index=index)
        outcome = await self.run(task)
        assert isinstance(outcome, Succeeded), outcome
        return printed_by(task)

    async def started(self, line: str) -> tuple[RunTask, asyncio.Task[AttemptOutcome], list[int]]:
        """A task that prints process numbers and then hangs."""
        task = self.task(line)
        running = asyncio.create_task(self.run(task))
        while not self.said(task).endswith("\n"):
            assert not running.done(), running.result()
            await asyncio.sleep(0.01)
        return task, running, [int(pid) for pid in self.said(task).split()]

    def said(self, task: RunTask) -> str:
        """What a task that runs has printed so far."""
        run = self.slots._runs.get(task.attempt)
        return "" if run is None or run.process is None else run.process.printing.said("stdout")


def at_bench(
    root: Path,
    scene: Callable[[Bench], Awaitable[None]],
    *,
    read_range: Callable[[AttemptId, ReadRange], Awaitable[bytes | OpenBlock]] | None = None,
    task_user: str = "",
    spares: int = SPARES,
) -> None:
    async def play() -> None:
        told: list[ProgressMade] = []
        pieces: list[TextPrinted] = []
        slots = Slots(
            slots=2,
            on_progress=told.append,
            on_printed=pieces.append,
            read_range=read_range,
            task_user=task_user,
            look_interval_s=0.05,
            spares=spares,
        )
        await slots.start()
        try:
            await scene(Bench(root, slots, told, pieces))
        finally:
            await slots.close()

    asyncio.run(play())


@contextlib.contextmanager
def watched(*pids: int) -> Iterator[list[int]]:
    """Descriptors of these processes, as far as they live; their numbers may be used again meanwhile."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def assert_gone(descriptors: list[int]) -> None:
    """Wait until all of these processes have ended."""
    for descriptor in descriptors:
        ended, _, _ = select.select([descriptor], [], [], GONE_S_MAX)
        assert ended, "a process stayed behind"


def test_a_job_begins_in_the_spare_process_and_another_stands_ready_when_nothing_runs(tmp_path):
    async def scene(bench: Bench) -> None:
        assert len(bench.slots._spares) == 1  # the first of a worker waits for no second one
        for number in range(3):
            spare = await asyncio.shield(bench.slots._spares[0])
            shown = await bench.printed("pid", job=f"job-000001-{number}")
            assert shown.split() == [str(spare.pid)]
            assert len(bench.slots._spares) == SPARES

    at_bench(tmp_path, scene)


def test_where_no_job_follows_only_the_first_finds_a_process_ready(tmp_path):
    async def scene(bench: Bench) -> None:
        spare = await asyncio.shield(bench.slots._spares[0])
        assert (await bench.printed("pid")).split() == [str(spare.pid)]
        assert not bench.slots._spares
        shown = await bench.printed("pid", job="job-000001-2")
        assert shown.split() not in ([], [str(spare.pid)])

    at_bench(tmp_path, scene, spares=0)


def test_a_spare_process_that_has_ended_is_not_used(tmp_path):
    async def scene(bench: Bench) -> None:
        spare = await asyncio.shield(bench.slots._spares[0])
        spare.kill()
        await spare.exited
        shown = await bench.printed("pid")
        assert shown.split() not in ([], [str(spare.pid)])

    at_bench(tmp_path, scene)


def test_the_spare_process_ends_with_the_worker(tmp_path):
    found = []

    async def scene(bench: Bench) -> None:
        found.append(os.pidfd_open((await asyncio.shield(bench.slots._spares[0])).pid))

    at_bench(tmp_path, scene)
    assert_gone(found)
    os.close(found[0])


def test_a_task_leaves_its_map_output_and_its_counters(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("a", "b", "a")
        outcome = await bench.run(task)
        assert isinstance(outcome, Succeeded)
        assert len(outcome.output.partition_bytes_log2) == 2
        assert {path.name for path in Path(task.directory).iterdir()} >= {"output.data", "output.index"}
        assert [value for _, name, value in outcome.counters if name == "MAP_INPUT_RECORDS"] == [3]

    at_bench(tmp_path, scene)


COUNT_TWICE = """
from minireduce import Job, Sum, Count

def words(line):
    for word in line.split():
        yield word, 1

def by_length(word, count):
    yield len(word), count

job = Job(words, Sum()).then(by_length, Sum()).then(lambda length, count: [(length, -count)])
"""


def test_maps_reduces_and_later_steps_hand_their_files_on(tmp_path):
    """Two maps, two reduces, then a step over their parts, then a step without reduce that writes text."""

    async def scene(bench: Bench) -> None:
        async def done(step: int, kind: TaskKind, index: int, work: MapTask | ReduceTask) -> Path:
            attempt = AttemptId(TaskId("job-000001-9", step, kind, index), 0)
            directory = tmp_path / str(attempt)
            directory.mkdir()
            task = RunTask(attempt, work, str(directory), output_text=True, memory_limit_bytes=64 * MIB)
            outcome = await bench.slots.run(program(COUNT_TWICE), task, task_timeout_s=60.0)
            assert isinstance(outcome, Succeeded), outcome
            return directory

        def runs(maps: list[Path], partition: int) -> ReduceTask:
            places = [(path / "output.data", *read_index(path / "output.index")[partition]) for path in maps]
            return ReduceTask(tuple(RunFile(str(p), at, size, order) for order, (p, at, size) in enumerate(places)))

        inputs = [bench.task("a bb", "cc a").work, bench.task("bb", "ddd bb").work]
        maps = [await done(0, TaskKind.MAP, index, work) for index, work in enumerate(inputs)]
        parts = [await done(0, TaskKind.REDUCE, index, runs(maps, index)) / "part" for index in range(2)]
        maps = [await done(1, TaskKind.MAP, index, MapTask(PartFile(str(part)), 1)) for index, part in enumerate(parts)]
        part = await done(1, TaskKind.REDUCE, 0, runs(maps, 0)) / "part"
        last = await done(2, TaskKind.MAP, 0, MapTask(PartFile(str(part)), 0))
        assert (last / "part").read_text() == "1\t-2\n2\t-4\n3\t-1\n"

    at_bench(tmp_path, scene)


def test_a_task_does_not_see_the_tokens_of_its_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIREDUCE_TOKEN", "secret")
    monkeypatch.setenv("MINIREDUCE_TOKEN_FILE", "/secret")

    async def scene(bench: Bench) -> None:
        seen = json.loads(await bench.printed("environment"))
        assert seen["PYTHONHASHSEED"] == "0"
        assert [name for name in seen if "TOKEN" in name] == []

    at_bench(tmp_path, scene)


def test_a_process_serves_all_tasks_of_its_job_and_none_of_another(tmp_path):
    async def scene(bench: Bench) -> None:
        first = await bench.printed("pid")
        assert await bench.printed("pid") == first
        other = await bench.printed("pid", job="job-000001-2")
        assert other != first
        assert await bench.printed("pid") == first
        bench.slots.drop_job("job-000001-1")
        assert await bench.printed("pid") != first
        assert await bench.printed("pid", job="job-000001-2") == other

    at_bench(tmp_path, scene)


def test_a_process_is_not_used_again_after_a_failed_attempt(tmp_path):
    async def scene(bench: Bench) -> None:
        first = await bench.printed("pid")
        assert isinstance(await bench.run(bench.task("raise")), Failed)
        assert await bench.printed("pid") != first

    at_bench(tmp_path, scene)


@pytest.mark.parametrize(
    ("line", "kind", "type_name"),
    [
        ("raise", "raised", "builtins.ValueError"),
        ("exit", "exited", ""),
        ("sys.exit", "exited", "builtins.SystemExit"),
        ("segfault", "crashed", "SIGSEGV"),
        ("abort", "crashed", "SIGABRT"),
        ("grab", "memory", "builtins.MemoryError"),
        ("hang up", "crashed", ""),
        ("babble", "crashed", ""),
        ("count all", "raised", "RequestError"),
    ],
)
def test_what_user_code_does_to_its_process_fails_the_attempt(tmp_path, line, kind, type_name):
    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("a", line))
        assert isinstance(outcome, Failed)
        assert (outcome.error.kind, outcome.error.type_name) == (kind, type_name)
        assert isinstance(await bench.run(bench.task("a")), Succeeded)

    at_bench(tmp_path, scene)


@pytest.mark.parametrize("line", ["fork, forget", "fork, exit"])
def test_a_forked_child_that_comes_back_from_user_code_ends_and_says_nothing(tmp_path, line):
    async def scene(bench: Bench) -> None:
        lines = [f"{line} {number}" if line == "fork, forget" else line for number in range(20)]
        task = bench.task("a", *lines, "b")
        outcome = await bench.run(task)
        assert isinstance(outcome, Succeeded)
        assert outcome.output.records == len(lines) + 2
        assert printed_by(task).split() == ["70"] * 20

    at_bench(tmp_path, scene)


def test_an_exception_is_told_with_the_users_line_the_file_the_offset_and_the_record(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("a", "raise")
        outcome = await bench.run(task)
        assert isinstance(outcome, Failed)
        error = outcome.error
        assert isinstance(task.work, MapTask)
        assert isinstance(task.work.input, LocalFiles)
        assert (error.path, error.offset, error.record) == (task.work.input.ranges[0].path, 2, "'raise'")
        assert 'raise ValueError("no such word")' in error.traceback
        assert "/engine/" not in error.traceback

    at_bench(tmp_path, scene)


def test_an_exit_names_its_status_and_the_record_at_hand(tmp_path):
    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("a", "bb", "exit"))
        assert isinstance(outcome, Failed)
        assert "with status 3" in outcome.error.message
        assert outcome.error.offset == 5

    at_bench(tmp_path, scene)


def test_a_crash_names_the_record_at_hand_where_places_are_exact(tmp_path):
    async def scene(bench: Bench) -> None:
        rough = bench.task("a", "bb", "segfault")
        assert isinstance(rough.work, MapTask)
        outcome = await bench.run(bench.task_over(rough.work.input, is_place_exact=True))
        assert isinstance(outcome, Failed)
        assert (outcome.error.type_name, outcome.error.offset) == ("SIGSEGV", 5)
        assert re.search(r'"/jobs/misbehaving\.py", line \d+ in obey', outcome.error.traceback)
        assert "/engine/" not in outcome.error.traceback

    at_bench(tmp_path, scene)


def test_a_record_over_the_limit_fails_the_attempt_and_says_how_to_let_it_pass(tmp_path):
    async def scene(bench: Bench) -> None:
        long = bench.task("a" * 5000)
        assert isinstance(long.work, MapTask)
        outcome = await bench.run(bench.task_over(long.work.input, record_bytes_max=4096))
        assert isinstance(outcome, Failed)
        assert "longer than 4096 bytes" in outcome.error.message

    at_bench(tmp_path, scene)


def test_memory_beyond_the_limit_ends_the_attempt_and_says_how_much_it_was(tmp_path):
    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("fill", limit_bytes=64 * MIB))
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "memory"
        told = re.search(r"it used (\d+) MiB, and its limit is 64 MiB: .* raise memory_limit", outcome.error.message)
        assert told, outcome.error.message
        assert 64 < int(told[1]) < 4096

    at_bench(tmp_path, scene)


def test_memory_of_what_a_task_starts_counts_with_its_own(tmp_path):
    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("fill in children, each", limit_bytes=100 * MIB))
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "memory"
        told = re.search(r"it and ([23]) processes that it started used (\d+) MiB", outcome.error.message)
        assert told, outcome.error.message
        assert 100 < int(told[2]) <= 40 * (1 + int(told[1])) + 40

    at_bench(tmp_path, scene)


def test_memory_that_children_share_with_their_task_counts_once(tmp_path, monkeypatch):
    looks: list[int] = []

    def count(pid: int) -> int:
        looks.append(pid)
        if len({*looks}) == 4 and looks.count(pid) > 3:
            (tmp_path / "looked").touch()
        return anonymous_share_bytes(pid)

    monkeypatch.setattr("minireduce.attempt.linux.anonymous_share_bytes", count)

    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("fill in children", limit_bytes=64 * MIB))
        assert isinstance(outcome, Succeeded), outcome

    at_bench(tmp_path, scene)
    assert len({*looks}) == 4  # the plain sum was beyond the limit


def test_memory_that_the_system_refuses_fails_the_attempt_and_says_what_to_do(tmp_path):
    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("grab", limit_bytes=64 * MIB))
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "memory"
        assert "its limit is 64 MiB: keep less in memory at once, or raise memory_limit" in outcome.error.message

    at_bench(tmp_path, scene)


def test_a_record_that_does_not_end_ends_the_attempt(tmp_path):
    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("a", "hang"), task_timeout_s=0.5)
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "timeout"
        assert "0.5 s" in outcome.error.message

    at_bench(tmp_path, scene)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGBUS"])
def test_a_kill_from_outside_or_a_damaged_mapping_loses_the_attempt_and_fails_nobody(tmp_path, name):
    async def scene(bench: Bench) -> None:
        _, running, pids = await bench.started("hang")
        os.kill(pids[0], signal.Signals[name])
        outcome = await running
        assert isinstance(outcome, Lost)
        assert name in outcome.reason

    at_bench(tmp_path, scene)


def test_dropping_a_job_ends_its_attempts(tmp_path):
    async def scene(bench: Bench) -> None:
        _, running, pids = await bench.started("hang")
        with watched(*pids) as processes:
            bench.slots.drop_job("job-000001-1")
            assert await running == Killed()
            assert_gone(processes)

    at_bench(tmp_path, scene)


def test_closing_ends_attempts_warm_processes_and_the_zygote(tmp_path):
    async def scene(bench: Bench) -> None:
        warm = int(await bench.printed("pid", job="job-000001-2"))
        _, running, pids = await bench.started("family")
        zygote = bench.slots.zygote_pid
        assert zygote is not None
        with watched(zygote, warm, *pids) as processes:
            await bench.slots.close()
            assert await running == Killed()
            assert_gone(processes)

    at_bench(tmp_path, scene)


def test_a_zygote_that_dies_loses_its_attempts_and_another_takes_its_place(tmp_path):
    async def scene(bench: Bench) -> None:
        _, running, pids = await bench.started("hang")
        first = bench.slots.zygote_pid
        assert first is not None
        with watched(*pids) as processes:
            os.kill(first, signal.SIGKILL)
            outcome = await running
            assert isinstance(outcome, Lost)
            assert "zygote" in outcome.reason
            assert_gone(processes)
        assert isinstance(await bench.run(bench.task("a")), Succeeded)
        assert bench.slots.zygote_pid != first

    at_bench(tmp_path, scene)


def test_a_caller_that_gives_up_leaves_no_process(tmp_path):
    async def scene(bench: Bench) -> None:
        _, running, pids = await bench.started("hang")
        with watched(*pids) as processes:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.to_thread(assert_gone, processes)

    at_bench(tmp_path, scene)


def test_a_caller_that_gives_up_while_its_process_is_made_leaves_none(tmp_path):
    async def scene(bench: Bench) -> None:
        await bench.printed("a", job="job-000001-2")
        zygote = bench.slots.zygote_pid
        assert zygote is not None
        kept = set(children(zygote))
        for turns in range(6):  # each turn of the loop takes the launch one step further
            running = asyncio.create_task(bench.run(bench.task("hang")))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        # What the zygote is asked it does in order, so the processes given up are gone when this one has run.
        await bench.printed("a", job="job-000001-3")
        ready = {(await asyncio.shield(spare)).pid for spare in bench.slots._spares}
        with watched(*(set(children(zygote)) - kept - ready)) as processes:
            bench.slots.drop_job("job-000001-3")
            await asyncio.to_thread(assert_gone, processes)

    at_bench(tmp_path, scene)


WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_attempt_processes as tests

async def scene(bench):
    _, running, pids = await bench.started("family")
    _, other, more = await bench.started("daemon")
    print(bench.slots.zygote_pid, *pids, *more, flush=True)
    await running

tests.at_bench(Path(sys.argv[2]), scene)
"""


def test_nothing_survives_a_worker_that_is_killed(tmp_path):
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        with watched(*map(int, worker.stdout.readline().split())) as processes:
            assert len(processes) == 6
            worker.kill()
            worker.wait()
            assert_gone(processes)


def test_a_program_too_long_to_hand_over_fails_its_attempt(tmp_path, monkeypatch):
    monkeypatch.setattr("minireduce.attempt.framing.FRAME_BYTES_MAX", 1000)

    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task("a"))
        assert isinstance(outcome, Failed)
        assert "over the limit" in outcome.error.message

    at_bench(tmp_path, scene)


def test_of_what_a_task_prints_the_beginning_and_the_end_are_kept(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("first words", "chatter", "last words")
        assert isinstance(await bench.run(task), Succeeded)
        text = printed_by(task)
        assert text.startswith("first words\n")
        assert text.endswith("x\nlast words\n")
        kept = len(text.encode()) - len(left_out_note(40 * 65537 + 23 - MIB).encode())
        assert left_out_note(40 * 65537 + 23 - MIB) in text
        assert kept == MIB

    at_bench(tmp_path, scene)


def test_a_task_that_prints_nothing_leaves_no_file(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("a")
        assert isinstance(await bench.run(task), Succeeded)
        assert {path.name for path in Path(task.directory).iterdir()} & {"stdout", "stderr"} == set()

    at_bench(tmp_path, scene)


@pytest.mark.parametrize(
    ("way", "end"),
    [
        *itertools.product(["print", "stderr", "descriptor", "c", "child"], ["exit", "segfault", "raise", "abort"]),
        ("half a line", "exit"),
        ("half a line", "raise"),
    ],
)
def test_what_was_printed_before_the_end_is_there_however_it_was_printed_and_however_it_ended(tmp_path, way, end):
    async def scene(bench: Bench) -> None:
        task = bench.task(f"say by {way}", end)
        assert isinstance(await bench.run(task), Failed)
        assert f"said by {way}" in printed_by(task, "stderr" if way == "stderr" else "stdout")

    at_bench(tmp_path, scene)


def test_each_attempt_in_a_process_has_its_own_text(tmp_path):
    async def scene(bench: Bench) -> None:
        tasks = [bench.task(f"say by {way}") for way in ("print", "half a line", "c", "descriptor")]
        for task in tasks:
            assert isinstance(await bench.run(task), Succeeded)
        assert [printed_by(task).strip() for task in tasks] == [
            f"said by {way}" for way in ("print", "half a line", "c", "descriptor")
        ]

    at_bench(tmp_path, scene)


def test_a_task_that_closed_its_streams_does_not_silence_the_next(tmp_path):
    async def scene(bench: Bench) -> None:
        assert isinstance(await bench.run(bench.task("close streams")), Succeeded)
        assert await bench.printed("say by descriptor") == "said by descriptor\n"

    at_bench(tmp_path, scene)


def test_the_text_of_an_attempt_is_handed_on_while_it_runs(tmp_path):
    async def scene(bench: Bench) -> None:
        task, running, pids = await bench.started("hang")
        while not bench.pieces:  # noqa: ASYNC110 - what is waited for is told to no event
            await asyncio.sleep(0.01)
        assert bench.pieces == [TextPrinted(task.attempt, "stdout", 0, f"{pids[0]}\n".encode())]
        bench.slots.stop(task.attempt)
        assert await running == Killed()
        assert len(bench.pieces) == 1, "nothing of it is new"

    at_bench(tmp_path, scene)


def test_the_text_of_a_failed_attempt_is_handed_on_whole_before_its_outcome(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("first words", "segfault")
        assert isinstance(await bench.run(task), Failed)
        assert bench.pieces[0] == TextPrinted(task.attempt, "stdout", 0, b"first words\n", is_of_failure=True)
        assert [piece.stream for piece in bench.pieces] == ["stdout", "stderr"]
        assert bench.pieces[1].data.startswith(b"Fatal Python error: Segmentation fault")

    at_bench(tmp_path, scene)


def test_what_is_kept_of_a_text_is_not_written_through_a_link_of_the_task(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("first words")
        (tmp_path / "other").write_text("precious")
        Path(task.directory, "stdout").symlink_to(tmp_path / "other")
        assert isinstance(await bench.run(task), Succeeded)
        assert (tmp_path / "other").read_text() == "precious"
        assert printed_by(task) == "first words\n"

    at_bench(tmp_path, scene)


CHANCE = """
import random
import numpy as np
from minireduce import Job

at_load = random.random(), float(np.random.rand())

def draw(line):
    yield at_load, (random.random(), float(np.random.rand()), random.randbytes(8), list({"a", "b", line}))

job = Job(draw, list)
"""


def test_attempts_of_a_task_draw_the_same_in_whichever_process_and_agree_on_the_digest(tmp_path):
    async def scene(bench: Bench) -> None:
        async def digest(index: int, job: str) -> bytes:
            task = bench.task("c", "d", index=index, job=job)
            outcome = await bench.slots.run(program(CHANCE), task, task_timeout_s=60.0)
            assert isinstance(outcome, Succeeded), outcome
            return outcome.output.digest

        first = await digest(1, "job-000001-1")
        assert await digest(2, "job-000001-1") != first, "another task"
        assert await digest(1, "job-000001-1") == first, "the same process, warm"
        bench.slots.drop_job("job-000001-1")
        assert await digest(1, "job-000001-1") == first, "another process"
        assert await digest(1, "job-000001-2") == first, "another run of the job"

    at_bench(tmp_path, scene)


@pytest.mark.parametrize("line", ["family", "daemon"])
def test_all_that_an_attempt_started_ends_when_it_is_stopped(tmp_path, line):
    async def scene(bench: Bench) -> None:
        task, running, pids = await bench.started(line)
        with watched(*pids) as processes:
            assert len(processes) == len(pids)
            bench.slots.stop(task.attempt)
            assert await running == Killed()
            await asyncio.to_thread(assert_gone, processes)

    at_bench(tmp_path, scene)


def test_what_an_attempt_left_in_the_background_ends_with_it(tmp_path):
    async def scene(bench: Bench) -> None:
        pids = [int(pid) for pid in (await bench.printed("leave daemon")).split()]
        with watched(*pids) as processes:
            await asyncio.to_thread(assert_gone, processes)
        assert int((await bench.printed("pid")).strip()) != pids[0], "and its process is not used again"

    at_bench(tmp_path, scene)


def test_the_end_of_one_attempt_leaves_the_background_of_another_alone(tmp_path):
    async def scene(bench: Bench) -> None:
        task, running, pids = await bench.started("daemon")
        with watched(*pids) as processes:
            assert isinstance(await bench.run(bench.task("exit")), Failed)
            assert isinstance(await bench.run(bench.task("leave daemon")), Succeeded)
            ended, _, _ = select.select(processes, [], [], 0)
            assert ended == []
            bench.slots.stop(task.attempt)
            await running
            await asyncio.to_thread(assert_gone, processes)

    at_bench(tmp_path, scene)


def test_progress_and_the_users_words_reach_the_worker(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("a", "tell")
        assert isinstance(await bench.run(task), Succeeded)
        assert [(made.attempt, made.records, made.status) for made in bench.told][-1:] == [(task.attempt, 2, "telling")]

    at_bench(tmp_path, scene)


def test_an_input_that_changed_loses_the_attempt(tmp_path):
    async def scene(bench: Bench) -> None:
        task = bench.task("a")
        assert isinstance(task.work, MapTask)
        assert isinstance(task.work.input, LocalFiles)
        Path(task.work.input.ranges[0].path).write_text("other\n")
        outcome = await bench.run(task)
        assert isinstance(outcome, Lost)
        assert "changed after the job was submitted" in outcome.reason

    at_bench(tmp_path, scene)


def test_stored_input_is_read_through_the_worker(tmp_path):
    content = b"a\nb\nc\n"
    asked: list[str] = []

    async def read_range(attempt: AttemptId, wanted: ReadRange) -> bytes:
        asked.append(wanted.path)
        if wanted.path == "/lost":
            raise Unavailable("no replica answers")
        return content[wanted.offset : wanted.offset + wanted.length]

    async def scene(bench: Bench) -> None:
        outcome = await bench.run(bench.task_over(StoredFile("/stored", 0, len(content), len(content))))
        assert isinstance(outcome, Succeeded), outcome
        assert [value for _, name, value in outcome.counters if name == "MAP_INPUT_RECORDS"] == [3]
        outcome = await bench.run(bench.task_over(StoredFile("/lost", 0, 5, 5)))
        assert isinstance(outcome, Lost)
        assert "no replica answers" in outcome.reason

    at_bench(tmp_path, scene, read_range=read_range)
    assert set(asked) == {"/stored", "/lost"}


def test_a_stored_block_that_the_worker_opens_is_read_in_the_task(tmp_path):
    content = b"".join(b"%d\n" % number for number in range(50_000))
    crcs = b"".join(crc_of(content[at : at + PACKET_BYTES]) for at in range(0, len(content), PACKET_BYTES))
    (tmp_path / "good").write_bytes(content)
    (tmp_path / "damaged").write_bytes(content[:-2] + b"x\n")
    asked: list[ReadRange] = []

    async def read_range(attempt: AttemptId, wanted: ReadRange) -> bytes | OpenBlock:
        asked.append(wanted)
        if not wanted.in_place:
            return content[wanted.offset : wanted.offset + wanted.length]
        return OpenBlock(BlockHere(0, len(content), crcs), (tmp_path / wanted.path[1:]).open("rb"))

    async def scene(bench: Bench) -> None:
        for path in ("/good", "/damaged"):
            outcome = await bench.run(bench.task_over(StoredFile(path, 0, len(content), len(content))))
            assert isinstance(outcome, Succeeded), outcome
            assert [value for _, name, value in outcome.counters if name == "MAP_INPUT_RECORDS"] == [50_000]

    at_bench(tmp_path, scene, read_range=read_range)
    assert [(each.path, each.in_place) for each in asked] == [("/good", True), ("/damaged", True), ("/damaged", False)]


def test_the_zygote_keeps_one_thread_and_never_saw_grpc(tmp_path):
    async def scene(bench: Bench) -> None:
        await bench.printed("a")
        folder = Path(f"/proc/{bench.slots.zygote_pid}")
        assert "Threads:\t1\n" in (folder / "status").read_text()
        mapped = (folder / "maps").read_text()
        assert "numpy" in mapped
        assert "grpc" not in mapped

    at_bench(tmp_path, scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_tasks_of_a_worker_that_runs_as_root_run_as_another_account():
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the account must be able to come here

        async def scene(bench: Bench) -> None:
            task = bench.task("a")
            os.chown(task.directory, nobody.pw_uid, nobody.pw_gid)  # as `Outputs` does
            outcome = await bench.slots.run(program(ACCOUNT), task, task_timeout_s=60.0)
            assert isinstance(outcome, Succeeded), outcome
            assert printed_by(task) == f"{nobody.pw_uid} {nobody.pw_gid}\n"

        at_bench(Path(folder), scene, task_user="nobody")


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def run_batch(bench: Bench, *tasks: RunTask) -> tuple[dict[int, AttemptOutcome], list[int]]:
    """How each task of a batch ended, and which were given back, by their places."""
    places = {task.attempt: place for place, task in enumerate(tasks)}
    ended: dict[int, AttemptOutcome] = {}
    back: list[int] = []
    async for told in bench.slots.run_batch(program(), tasks, task_timeout_s=60.0):
        if isinstance(told, AttemptsGivenBack):
            back.extend(places[attempt] for attempt in told.attempts)
        else:
            for each in told.ends:
                assert places[each.attempt] not in ended
                ended[places[each.attempt]] = each.outcome
    assert sorted([*ended, *back]) == list(range(len(tasks)))
    return ended, back


def test_a_batch_leaves_what_its_tasks_would_leave_alone_and_the_process_is_kept(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        alone = await bench.run(bench.task("one", "two", index=7))
        tasks = [bench.task("one", "two", index=7), *(bench.task(f"line {n}") for n in range(20))]
        ended, back = await run_batch(bench, *tasks)
        assert back == []
        assert isinstance(alone, Succeeded)
        for place, outcome in ended.items():
            assert isinstance(outcome, Succeeded), outcome
            assert outcome.busy_s > 0
            assert outcome.output.records == (2 if place == 0 else 1)
            assert {path.name for path in Path(tasks[place].directory).iterdir()} >= {"output.data", "output.index"}
        assert ended[0].output == alone.output
        assert len(bench.slots._warm) == 1

    at_bench(tmp_path, scene)


@pytest.mark.parametrize("is_batch", [False, True])
def test_a_process_whose_task_freed_its_memory_is_kept_and_one_that_holds_it_is_not(
    tmp_path: Path, is_batch: bool
) -> None:
    async def scene(bench: Bench) -> None:
        for line, kept in (("take and free", 1), ("take and hold", 0)):
            task = bench.task(line, limit_bytes=64 * MIB)
            if is_batch:
                (outcome,) = (await run_batch(bench, task))[0].values()
            else:
                outcome = await bench.run(task)
            assert isinstance(outcome, Succeeded), outcome
            assert len(bench.slots._warm) == kept, line

    at_bench(tmp_path, scene)


@pytest.mark.parametrize(
    ("line", "kind"), [("raise", "raised"), ("exit", "exited"), ("segfault", "crashed"), ("fill", "memory")]
)
def test_a_task_that_ends_its_process_fails_alone_of_its_batch(tmp_path: Path, line: str, kind: str) -> None:
    async def scene(bench: Bench) -> None:
        tasks = [bench.task("fine"), bench.task("fine"), bench.task(line, limit_bytes=64 * MIB), bench.task("fine")]
        ended, back = await run_batch(bench, *tasks)
        failed = {place: each.error.kind for place, each in ended.items() if isinstance(each, Failed)}
        assert failed == {2: kind}
        assert 3 in back
        assert all(isinstance(each, Succeeded) for place, each in ended.items() if place != 2)
        assert bench.slots._warm == []

    at_bench(tmp_path, scene)


def test_tasks_behind_one_that_takes_long_are_given_back_while_it_runs(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        tasks = tuple(bench.task(line) for line in ("fine", "hang", "fine", "fine"))
        running = bench.slots.run_batch(program(), tasks, task_timeout_s=60.0)
        told = [await anext(running), await anext(running)]
        assert [[each.attempt for each in ended.ends] for ended in told[:1]] == [[tasks[0].attempt]]
        assert told[1] == AttemptsGivenBack((tasks[2].attempt, tasks[3].attempt))
        bench.slots.stop(tasks[1].attempt)
        assert await anext(running) == AttemptsEnded((AttemptEnded(tasks[1].attempt, Killed()),))
        with pytest.raises(StopAsyncIteration):
            await anext(running)

    at_bench(tmp_path, scene)


def test_what_a_batch_prints_is_kept_and_told(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        tasks = [bench.task("fine"), bench.task("say by print"), bench.task("fine")]
        places = [Path(task.directory, "stdout") for task in tasks]
        told = [event async for event in bench.slots.run_batch(program(), tuple(tasks), task_timeout_s=60.0)]
        assert any(event.has_printed for event in told if isinstance(event, AttemptsEnded))
        assert "".join(place.read_text() for place in places if place.exists()) == "said by print\n"

    at_bench(tmp_path, scene)
