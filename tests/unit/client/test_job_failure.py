"""How a job that failed is told to the program that submitted it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minireduce.client.jobs import failure, raise_for_state
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import TaskError
from minireduce.core.views import AttemptError, JobState, JobView
from minireduce.errors import JobFailed, JobKilled
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind

JOB = "job-3f9a01-1"
ATTEMPT = AttemptId(TaskId(JobId(JOB), 0, TaskKind.MAP, 0), 0)


class OutOfLuck(Exception):
    """A user's own."""


def shown(state: JobState, *type_names: str) -> JobView:
    errors = tuple(
        AttemptError(AttemptId(TaskId(JOB, 0, TaskKind.MAP, 0), number), "worker-1", TaskError("raised", name, "boom"))
        for number, name in enumerate(type_names)
    )
    return JobView(JOB, "words", state, OutputKind.RESULT, "", 0.0, 1.0, 0.5, (), (), errors, "user code raised")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ValueError", ValueError), ("builtins.KeyError", KeyError), (f"{__name__}.OutOfLuck", OutOfLuck)],
)
def test_a_failed_job_is_also_an_instance_of_what_user_code_raised(name: str, kind: type[Exception]) -> None:
    error = failure(shown(JobState.FAILED, name))
    assert isinstance(error, JobFailed)
    assert isinstance(error, kind)
    assert error.errors[0].error.message == "boom"


@pytest.mark.parametrize(
    "name", ["UnicodeDecodeError", "nowhere.Odd", "os.path", "SystemExit", "minireduce.errors.JobFailed"]
)
def test_a_class_that_is_not_here_or_does_not_fit_is_left_out(name: str) -> None:
    assert type(failure(shown(JobState.FAILED, name))) is JobFailed


def test_a_failure_without_errors_of_user_code_has_its_reason() -> None:
    with pytest.raises(JobFailed, match=f"{JOB} failed: user code raised"):
        raise_for_state(shown(JobState.FAILED))


def test_the_hint_of_the_error_itself_comes_first() -> None:
    error = AttemptError(
        ATTEMPT, "worker-1", TaskError("raised", "RequestError", "no such column\n  hint: it has a, b")
    )
    view = replace(shown(JobState.FAILED), errors=(error,))
    assert failure(view).hint == f"it has a, b; minireduce logs {JOB} shows what was printed"
    assert failure(view).message.endswith("user code raised: no such column")
    assert failure(shown(JobState.FAILED, "ValueError")).hint == f"minireduce logs {JOB}"


def test_a_killed_job_is_told_from_a_failed_one() -> None:
    with pytest.raises(JobKilled):
        raise_for_state(shown(JobState.KILLED))


def test_a_job_that_succeeded_raises_nothing() -> None:
    raise_for_state(shown(JobState.SUCCEEDED))


def test_the_message_says_in_one_line_what_went_wrong() -> None:
    error = failure(shown(JobState.FAILED, "ValueError"))
    assert str(error).splitlines()[0] == f"{JOB} failed: user code raised: boom"
