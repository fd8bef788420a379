"""Say once, in the zygote, what every task process and its worker say to each other.

The first message of a class costs a hundred times the second, since its fields' types are looked up. A task process
would pay that before the first task of every job, with somebody waiting; what its parent has done it finds done. Only
the common messages are said here, since a worker that starts waits for its zygote.

What memory a task process writes to it has to itself from then on, and the system copies each page at the first time:
most of the 1.9 ms that a first task took. So a task process that waits for its job loads one and maps a line with it
(`rehearse_task`), and the first task finds that done, too.

Nothing here reads or writes a file, or touches user code.
"""

from __future__ import annotations

import hashlib
import io

from minireduce.api.formats import Text
from minireduce.api.job import Job
from minireduce.attempt.conversation import (
    Finished,
    FromTask,
    LoadProgram,
    MapTask,
    Ready,
    ReduceTask,
    RunFile,
    RunTask,
    ToTask,
)
from minireduce.attempt.framing import decode, encode
from minireduce.attempt.load import load_job, python_version
from minireduce.attempt.places import PART_NAME
from minireduce.core.spec import LocalFiles, LocalRange, Program
from minireduce.core.task_data import TaskOutput
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.map import run_map_only
from minireduce.engine.read import open_records
from minireduce.engine.workplace import Workplace
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind

_MAP = AttemptId(TaskId(JobId("job-0"), 0, TaskKind.MAP, 0), 0)
_FILE = LocalFiles("", (LocalRange("", 0, 0, ""),))
_COUNTED = (("", "", 0),)

TO_TASK = (
    LoadProgram(Program("", b"", "")),
    RunTask(_MAP, MapTask(_FILE, 0), "", output_text=False, memory_limit_bytes=0),
    RunTask(_MAP, ReduceTask((RunFile("", 0, 0, 0),)), "", output_text=False, memory_limit_bytes=0),
)
FROM_TASK = (Ready(0), Finished(TaskOutput(b"", 0, 0), _COUNTED))


def rehearse() -> None:
    """Go through the messages of a map and a reduce, in both directions."""
    for kind, messages in ((ToTask, TO_TASK), (FromTask, FROM_TASK)):
        for message in messages:
            assert decode(kind, encode(message)) == message


def make_program() -> Program:
    """The program of a job that gives nothing, as one that a session submits."""
    import cloudpickle

    body = cloudpickle.dumps(Job(lambda _: []))
    return Program("pickle", body, hashlib.sha256(body).hexdigest(), python_version=python_version())


def rehearse_task(program: Program) -> None:
    """Load that job and map a line with it, which leaves nothing."""
    context = TaskContext()
    step = load_job(program).steps[0]
    records = open_records(io.BytesIO(b"line\n"), offset=0, length=5, input_format=Text(), context=context)
    run_map_only(step, records, Workplace("", PART_NAME, "pairs", 0, context, RealDisk()))
