"""Say many short tasks in one: what follows one another in a message and is alike travels as columns.

Thousands of short tasks a second are launched, and end, in much the same words. To read and write each by itself costs
as much as the task. So the codec says such commands or reports together, in one message, and takes them apart where
they arrive: nobody else knows of it.

    LaunchAttempt of maps of one step over ranges of numbers       -> AttemptsLaunched
    AttemptSucceeded of one step with the same output and counters -> AttemptsSucceeded

Invariant: what comes out is what went in, in the same order; what is alone, or unlike its neighbours, travels as it is.
Not here: how messages become bytes (codec.py), what a batch is to a process (attempt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minireduce.core.messages import AttemptSucceeded, LaunchAttempt
from minireduce.core.spec import NumberRange
from minireduce.core.task_data import Counters, TaskOutput
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, TaskId


@dataclass(frozen=True, slots=True)
class AttemptsLaunched:
    """Launches of tasks of the step of `first`, which is among them: each with its index, number and range."""

    first: TaskId
    indexes: tuple[int, ...]
    numbers: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AttemptsSucceeded:
    """Ends of tasks of the step of `first`, which is among them, all with this output and these counters."""

    first: TaskId
    indexes: tuple[int, ...]
    numbers: tuple[int, ...]
    busy_s: tuple[float, ...]
    output: TaskOutput
    counters: Counters
    input_bytes: int


@dataclass(frozen=True, slots=True)
class Together:
    """How values of one class, `each`, are joined to one of another, `whole`, and come apart again."""

    each: type
    whole: type
    may_begin: Callable[[Any], bool]
    are_alike: Callable[[Any, Any], bool]
    join: Callable[[list[Any]], Any]
    split: Callable[[Any], Iterable[Any]]

    def fold(self, values: Iterable[Any]) -> Iterator[Any]:
        """The same, those that are alike and follow one another as one."""
        alike: list[Any] = []
        for value in values:
            fits = type(value) is self.each and self.may_begin(value)
            if alike and not (fits and self.are_alike(alike[0], value)):
                yield self.join(alike) if len(alike) > 1 else alike[0]
                alike = []
            if fits:
                alike.append(value)
            else:
                yield value
        if alike:
            yield self.join(alike) if len(alike) > 1 else alike[0]

    def unfold(self, values: Iterable[Any]) -> Iterator[Any]:
        """What `fold` was given."""
        for value in values:
            if type(value) is self.whole:
                yield from self.split(value)
            else:
                yield value


def _are_of_one_step(one: TaskId, other: TaskId) -> bool:
    return one.step == other.step and one.job == other.job and one.kind is other.kind


def _attempts(whole: AttemptsLaunched | AttemptsSucceeded) -> list[AttemptId]:
    job, step, kind = whole.first.job, whole.first.step, whole.first.kind
    pairs = zip(whole.indexes, whole.numbers, strict=True)
    return [AttemptId(TaskId(job, step, kind, index), number) for index, number in pairs]


# ── launches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_of_numbers(launch: LaunchAttempt) -> bool:
    return type(launch.input) is NumberRange and not launch.is_retry and not launch.skips


def _are_launched_alike(one: LaunchAttempt, other: LaunchAttempt) -> bool:
    return _are_of_one_step(one.attempt.task, other.attempt.task)


def _join_launches(alike: list[LaunchAttempt]) -> AttemptsLaunched:
    return AttemptsLaunched(
        alike[0].attempt.task,
        tuple([each.attempt.task.index for each in alike]),
        tuple([each.attempt.number for each in alike]),
        tuple([each.input.begin for each in alike if isinstance(each.input, NumberRange)]),
        tuple([each.input.end for each in alike if isinstance(each.input, NumberRange)]),
    )


def _split_launches(whole: AttemptsLaunched) -> list[LaunchAttempt]:
    inputs = map(NumberRange, whole.begins, whole.ends)
    return [LaunchAttempt(attempt, each) for attempt, each in zip(_attempts(whole), inputs, strict=True)]


# ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _has_no_largest_key(end: AttemptSucceeded) -> bool:
    return end.largest_key is None


def _have_ended_alike(one: AttemptSucceeded, other: AttemptSucceeded) -> bool:
    return (
        (one.output is other.output or one.output == other.output)
        and one.counters == other.counters
        and one.input_bytes == other.input_bytes
        and _are_of_one_step(one.attempt.task, other.attempt.task)
    )


def _join_ends(alike: list[AttemptSucceeded]) -> AttemptsSucceeded:
    return AttemptsSucceeded(
        alike[0].attempt.task,
        tuple([each.attempt.task.index for each in alike]),
        tuple([each.attempt.number for each in alike]),
        tuple([each.busy_s for each in alike]),
        alike[0].output,
        alike[0].counters,
        alike[0].input_bytes,
    )


def _split_ends(whole: AttemptsSucceeded) -> list[AttemptSucceeded]:
    output, counters, input_bytes = whole.output, whole.counters, whole.input_bytes
    ends = zip(_attempts(whole), whole.busy_s, strict=True)
    return [AttemptSucceeded(attempt, output, counters, input_bytes, None, busy_s) for attempt, busy_s in ends]


TOGETHER = {
    "Command": Together(
        LaunchAttempt, AttemptsLaunched, _is_of_numbers, _are_launched_alike, _join_launches, _split_launches
    ),
    "Report": Together(
        AttemptSucceeded, AttemptsSucceeded, _has_no_largest_key, _have_ended_alike, _join_ends, _split_ends
    ),
}
"""By the name of the message that may hold many at once, where that is repeated."""
