"""Run a job inline for `Job.run(inline=True)` and `submit --inline`, so that neither can tell it from a cluster's run.

The work is `launch.inline`; here its error becomes the JobFailed that a cluster would give, and its parts go where
parts go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from minireduce.api.skipping import SkipLimit
from minireduce.client.jobs import job_failed
from minireduce.client.outputs import Destination
from minireduce.client.publish import publish_stream
from minireduce.client.result import CounterGroups, Counts, JobResult
from minireduce.config import Settings
from minireduce.core.spec import ShippedFile
from minireduce.core.task_data import UNREADABLE, TaskError
from minireduce.engine.errors import UnreadableFile, UserCodeError
from minireduce.errors import JobFailed, hint_on
from minireduce.launch.inline import MEMORY_LIMIT_BYTES, run_inline

if TYPE_CHECKING:
    from minireduce.api.job import Job
    from minireduce.client.inputs import Inputs

K = TypeVar("K")
V = TypeVar("V")


@contextmanager
def told_as_by_a_cluster() -> Iterator[None]:
    """Raise the JobFailed that a cluster gives in place of what user code raised here, with that as its cause, and of
    a file that is not what its name or its format says.
    """
    try:
        yield
    except UserCodeError as error:
        offset = -1 if error.offset is None else error.offset
        told = TaskError("raised", error.exception_type, error.message, error.traceback_text, error.path, offset)
        hint = error.hint or hint_on(error.exception_type)
        raise job_failed(error.message, error.exception_type, hint=hint, errors=(told,)) from error.__cause__
    except UnreadableFile as error:
        raise JobFailed(error.message, hint=error.hint, errors=(TaskError(UNREADABLE, "", str(error)),)) from error


def run_here(
    job: Job[K, V],
    inputs: Inputs,
    settings: Settings,
    *,
    target: Destination | None = None,
    stream: BinaryIO | None = None,
    overwrite: bool = False,
    reducers: int | None = None,
    skip_limit: SkipLimit | None = None,
    files: tuple[ShippedFile, ...] = (),
) -> JobResult[K, V]:
    """Run `job` in this process; text goes to `target` or to `stream`, if there is one of them.

    Raises JobFailed where user code raised, with the original exception as its cause.
    """
    if target is not None:
        target.check_apart(inputs)
    is_text = target is not None or stream is not None
    with told_as_by_a_cluster():
        made = run_inline(
            job,
            inputs,
            output="text" if is_text else "pairs",
            reducers=reducers,
            usual_reducers=settings.reducers,
            split_size_bytes=settings.split_size,
            memory_limit_bytes=settings.memory_limit or MEMORY_LIMIT_BYTES,
            record_bytes_max=settings.record_bytes_max,
            skip_limit=skip_limit,
            files=files,
        )
    if target is not None:
        target.publish(made, made.id, overwrite=overwrite, skipped=made.skipped, outputs=job.outputs)
    elif stream is not None:
        publish_stream(made, stream)
    counters = CounterGroups({group: Counts(names) for group, names in made.counters.items()})
    return JobResult(
        made.id,
        counters,
        None if is_text else made,
        allow_pickle=True,
        on_close=made.close,
        skipped=made.skipped,
        outputs=job.outputs,
    )
