"""Say once, in the zygote, what every task process and its worker say to each other.

The first message of a class costs a hundred times the second, since its fields' types are looked up. A task process
would pay that before the first task of every job, with somebody waiting; what its parent has done it finds done. Only
the common messages are said here, since a worker that starts waits for its zygote.

Nothing here computes, reads a file or touches user code.
"""

from __future__ import annotations

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
from minireduce.core.spec import LocalFiles, LocalRange, Program
from minireduce.core.task_data import TaskOutput
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
