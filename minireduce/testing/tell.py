"""What machines do, as sentences for golden traces: one line a thing, without what repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minireduce.core import cluster, messages, session
from minireduce.core import worker as worker_machine
from minireduce.core.attempts import AttemptEnded, Failed, Killed, Lost, Succeeded
from minireduce.core.fetches import FetchEnded, Gone, StartFetch, Unreachable
from minireduce.core.requests import ConfirmPublished, SubmitJob
from minireduce.errors import MinireduceError
from minireduce.ids import AttemptId, TaskId


def task(of: TaskId) -> str:
    """A task as people say it: "map 3", or with its step, "map 1.3", from the second step on."""
    step = f"{of.step}." if of.step else ""
    return f"{of.kind} {step}{of.index}"


def attempt(of: AttemptId) -> str:
    """An attempt as people say it: "map 3 (attempt 0)"."""
    return f"{task(of.task)} (attempt {of.number})"


# ── the master ──────────────────────────────────────────────────────────────────────────────────────────────────────


def master(event: cluster.Event, actions: Sequence[cluster.Action]) -> Iterator[str]:
    """What the master took in and what it does about it."""
    match event:
        case cluster.HelloReceived():
            profile = event.hello.profile
            yield f"hears hello from {profile.worker}, incarnation {profile.incarnation}{_lists(event.hello)}"
        case cluster.RequestReceived(body=SubmitJob() as body):
            yield f"is asked to run {body.key!r}"
        case cluster.RequestReceived(body=ConfirmPublished() as body):
            yield f"hears that {body.job} is published"
        case cluster.UpReceived():
            for report in event.up.reports:
                yield from _report(report)
    for action in actions:
        yield from _master_action(action)


def _lists(hello: messages.Hello) -> str:
    if hello.session:
        return f", session {hello.session}"
    running = [attempt(each) for each in hello.running]
    outputs = [attempt(each.attempt) for each in hello.outputs]
    return "".join(
        f", {word} {'; '.join(each)}" for word, each in (("running", running), ("with outputs of", outputs)) if each
    )


def _report(report: messages.Report) -> Iterator[str]:
    match report:
        case messages.AttemptSucceeded():
            yield f"hears: {attempt(report.attempt)} succeeded"
        case messages.AttemptFailed():
            yield f"hears: {attempt(report.attempt)} failed: {report.error.type_name}: {report.error.message}"
        case messages.AttemptLost():
            yield f"hears: {attempt(report.attempt)} is lost: {report.reason}"
        case messages.AttemptKilled():
            yield f"hears: {attempt(report.attempt)} is killed"
        case messages.FetchFailed():
            how = "is gone" if report.is_gone else "cannot be reached"
            yield f"hears: for {attempt(report.attempt)} the output of {attempt(report.source)} {how}"


def _master_action(action: cluster.Action) -> Iterator[str]:
    match action:
        case cluster.Persist():
            for row in action.rows:
                yield from _row(row.table, row.key, row.values)
        case cluster.SendWelcome():
            how = "resumes" if action.welcome.resumed else "opens"
            yield f"{how} session {action.welcome.session}"
        case cluster.SendDown():
            for command in action.down.commands:
                yield from _command(command)
        case cluster.Reply():
            yield f"answers {_value(action.value)}"
        case cluster.Refuse():
            yield f"refuses: {action.error.message}"
        case cluster.CloseStream():
            yield f"ends a stream: {action.error.message}"


def _value(value: Any) -> str:
    return str(value)


def _row(table: str, key: tuple[Any, ...], values: tuple[Any, ...] | None) -> Iterator[str]:
    if table == "jobs" and values is not None:
        yield f"writes: {key[0]} is {values[1]}"
    if table == "winners" and values is not None:
        name = f"{key[2]} {f'{key[1]}.' if key[1] else ''}{key[3]}"
        where = f"counts, on {values[1]}" if values[1] else "is gone"
        yield f"writes: the output of {name} (attempt {values[0]}) {where}"
    if table == "failures" and values is not None:
        yield f"writes: {key[2]} {f'{key[1]}.' if key[1] else ''}{key[3]} (attempt {key[4]}) failed"


def _command(command: messages.Command) -> Iterator[str]:
    match command:
        case messages.LaunchAttempt():
            yield f"launches {attempt(command.attempt)}"
        case messages.MapOutputsReady():
            maps = ", ".join(str(source.attempt.task.index) for source in command.sources)
            yield f"announces the outputs of maps {maps}"
        case messages.MapOutputsLost():
            yield f"takes back the outputs of {', '.join(attempt(each) for each in command.attempts)}"
        case messages.KillAttempt():
            yield f"kills {attempt(command.attempt)}: {command.reason}"
        case messages.DropOutputs():
            yield f"has the outputs of {', '.join(attempt(each) for each in command.attempts)} dropped"
        case messages.DropJob():
            yield f"has {command.job} dropped"


# ── a worker ────────────────────────────────────────────────────────────────────────────────────────────────────────


def worker(event: worker_machine.Event, actions: Sequence[worker_machine.Action]) -> Iterator[str]:
    """What a worker took in and what it does about it. What it runs is told where it runs."""
    match event:
        case AttemptEnded():
            yield f"{attempt(event.attempt)} {_outcome(event.outcome)}"
        case FetchEnded(outcome=Gone(reason)):
            yield f"cannot fetch: {reason}"
        case FetchEnded(outcome=Unreachable(reason)):
            yield f"cannot fetch: {reason}"
        case session.StreamClosed():
            yield f"loses its stream: {_error(event.error)}"
    for action in actions:
        match action:
            case StartFetch():
                yield f"fetches the output of {attempt(action.source.attempt)} from {action.source.worker}"
            case session.CloseStream():
                yield "gives up its stream"


def _outcome(outcome: Succeeded | Failed | Lost | Killed) -> str:
    match outcome:
        case Succeeded():
            return f"succeeds: {outcome.output.records} records"
        case Failed():
            return f"fails: {outcome.error.message}"
        case Lost():
            return f"is lost: {outcome.reason}"
        case Killed():
            return "is killed"


def _error(error: MinireduceError | None) -> str:
    return error.message if error is not None else "ended by the master"
