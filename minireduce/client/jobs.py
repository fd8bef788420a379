"""Jobs from a client's side: submit, follow to the end, kill, and say why one failed.

A submission carries a random key, so that repeating it, by the retry policy or because an answer was lost, starts
nothing twice. Following is a chain of waits that name the state last seen: no change is missed between two of them, and
each that runs out brings fresh progress.
"""

from __future__ import annotations

import builtins
import contextlib
import secrets
import sys
from collections.abc import Callable, Sequence

from minireduce.client.connection import CALL_TIMEOUT_S, Connection
from minireduce.core.requests import KillJob, SubmitJob
from minireduce.core.spec import JobSpec
from minireduce.core.views import AttemptError, JobState, JobView
from minireduce.errors import HINT_MARK, JobFailed, JobKilled, hint_on
from minireduce.ids import JobId
from minireduce.wire import methods
from minireduce.wire.questions import GetJob, WaitJob

LATEST = "@"
WAIT_S = 60.0
SAID_CHARACTERS_MAX = 300


def new_key() -> str:
    """The key of a submission to come."""
    return secrets.token_hex(16)


def submit(connection: Connection, spec: JobSpec, key: str = "") -> JobId:
    """The id of the job that now runs. `key`: what its input was uploaded under."""
    return connection.call(methods.SUBMIT_JOB, SubmitJob(key or new_key(), spec))


def view(connection: Connection, job: str) -> JobView:
    """The job; `@` is the latest one."""
    return connection.call(methods.GET_JOB, GetJob(job))


def follow(
    connection: Connection,
    job: JobId,
    *,
    on_view: Callable[[JobView], None] | None = None,
    interval_s: float = WAIT_S,
    seen: JobState | None = None,
) -> JobView:
    """The job once it runs no more: ended, or waiting for its parts to be published.

    `on_view` sees each change of state, and else a fresh view every `interval_s`; the first one at once, unless the
    caller knows the state, which is `seen`.
    """
    shown = view(connection, job) if seen is None else await_change(connection, job, seen, interval_s)
    while True:
        if on_view is not None:
            on_view(shown)
        if shown.state is not JobState.RUNNING:
            return shown
        shown = await_change(connection, shown.job, shown.state, interval_s)


def await_change(connection: Connection, job: JobId, seen: JobState, timeout_s: float) -> JobView:
    """The job when its state is no longer the one `seen`, or when that has taken `timeout_s`."""
    request = WaitJob(job, seen, timeout_s)
    return connection.call(methods.WAIT_JOB, request, timeout_s=timeout_s + CALL_TIMEOUT_S)


def kill(connection: Connection, job: JobId, reason: str, *, wait_s: float | None = None) -> JobState:
    """End the job; its state then, which may be that it had ended before. `wait_s` as in `Connection.call`."""
    return connection.call(methods.KILL_JOB, KillJob(job, reason), wait_s=wait_s)


def raise_for_state(shown: JobView) -> None:
    """Raise JobFailed or JobKilled for a job that ended so."""
    if shown.state is JobState.KILLED:
        raise JobKilled(f"{shown.job} was killed: {shown.reason}", errors=shown.errors)
    if shown.state is JobState.FAILED:
        raise failure(shown)


def failure(shown: JobView) -> JobFailed:
    """The error of a failed job."""
    type_name = shown.errors[0].error.type_name if shown.errors else ""
    message = f"{shown.job} failed: {shown.reason}"
    own = own_hint(shown.errors)
    if shown.errors:  # a program sees nothing but this message: what went wrong belongs into it
        said = shown.errors[0].error.message.split("\n", 1)[0]
        message += f": {said[:SAID_CHARACTERS_MAX]}" if said else ""
    logs = f"minireduce logs {shown.job}"
    hint = f"{own}; {logs} shows what was printed" if own else logs
    return job_failed(message, type_name, hint=hint, errors=shown.errors)


def own_hint(errors: Sequence[AttemptError]) -> str:
    """What the error that ended a job says to do, if it says anything."""
    if not errors:
        return ""
    error = errors[0].error
    return error.message.partition(HINT_MARK)[2].partition("\n")[0] or hint_on(error.type_name) or ""


def job_failed(message: str, type_name: str, *, hint: str | None, errors: tuple[object, ...]) -> JobFailed:
    """A JobFailed that is also an instance of the exception class that user code raised, if that is here."""
    raised = _class_here(type_name)
    if raised is not None:
        # A class whose constructor or layout does not go with ours is left out.
        with contextlib.suppress(TypeError):
            both = type("JobFailed", (JobFailed, raised), {"__module__": JobFailed.__module__})
            made: JobFailed = both(message, hint=hint, errors=errors)
            return made
    return JobFailed(message, hint=hint, errors=errors)


def _class_here(type_name: str) -> type[Exception] | None:
    """The class of this name, if this process has it already. Nothing is imported for the sake of a name."""
    module, _, name = type_name.rpartition(".")
    home = builtins if module in {"", "builtins"} else sys.modules.get(module)
    found = getattr(home, name, None)
    is_plain = isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, JobFailed)
    return found if is_plain else None
