"""What machines do, as sentences for golden traces: one line a thing, without what repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minireduce.core import cluster, messages
from minireduce.core import worker as worker_machine
from minireduce.core.requests import ConfirmPublished, DrainWorker, KillJob, SubmitJob
from minireduce.core.views import WorkerView
from minireduce.core.work import session
from minireduce.core.work.attempts import AttemptEnded, Failed, Killed, Lost, Succeeded
from minireduce.core.work.bad_records import NO_PROBE, Care
from minireduce.core.work.fetches import FetchesEnded, Gone, Unreachable
from minireduce.core.work.requests import StartFetches
from minireduce.errors import MinireduceError
from minireduce.ids import AttemptId, TaskId, TaskKind, WorkerId


def task(of: TaskId) -> str:
    """A task as people say it: "map 3"; from the second step on with its step, "map 1.3"; from the second job on with
    its job, "map 3 of job 2".
    """
    step = f"{of.step}." if of.step else ""
    number = of.job.rpartition("-")[2]
    return f"{of.kind} {step}{of.index}" + (f" of job {number}" if number != "1" else "")


def attempt(of: AttemptId) -> str:
    """An attempt as people say it: "map 3", or with its number, "map 3 (attempt 1)", from the second on."""
    return task(of.task) + (f" (attempt {of.number})" if of.number else "")


def care(of: Care) -> str:
    """How a run of an attempt treats its records, where that is not as usual."""
    without = f" without record {', '.join(str(place.position) for place in of.skips)}" if of.skips else ""
    if of.probe != NO_PROBE:
        return f": record {of.probe} alone"
    return f"{without}, carefully" if of.is_careful else without


# ── the master ──────────────────────────────────────────────────────────────────────────────────────────────────────


def master(
    event: cluster.Event, actions: Sequence[cluster.Action], worker_of: Callable[[int], WorkerId]
) -> Iterator[str]:
    """What the master took in and what it does about it. `worker_of` names the worker at the end of a stream."""
    committed = {row.key for action in actions if isinstance(action, cluster.Persist) for row in action.rows}
    dropped = {
        attempt
        for action in actions
        if isinstance(action, cluster.SendDown)
        for command in action.down.commands
        if isinstance(command, messages.DropOutputs)
        for attempt in command.attempts
    }
    match event:
        case cluster.HelloReceived():
            profile = event.hello.profile
            yield f"hears hello from {profile.worker}, incarnation {profile.incarnation}{_lists(event.hello)}"
        case cluster.RequestReceived(body=SubmitJob() as body):
            yield f"is asked to run {body.key!r}"
        case cluster.RequestReceived(body=ConfirmPublished() as body):
            yield f"hears that {body.job} is published"
        case cluster.RequestReceived(body=KillJob() as body):
            yield f"is asked to kill {body.job}"
        case cluster.RequestReceived(body=DrainWorker() as body):
            yield f"is asked to {'do without' if body.is_draining else 'take back'} {body.worker}"
        case cluster.UpReceived():
            for report in event.up.reports:
                yield from _report(report, committed, dropped, worker_of(event.stream))
    for action in actions:
        yield from _master_action(action, worker_of)


def _lists(hello: messages.Hello) -> str:
    if hello.session:
        return f", session {hello.session}"
    running = [attempt(each) for each in hello.running]
    outputs = [attempt(each.attempt) for each in hello.outputs]
    return "".join(
        f", {word} {'; '.join(each)}" for word, each in (("running", running), ("with outputs of", outputs)) if each
    )


def _report(
    report: messages.Report, committed: set[tuple[Any, ...]], dropped: set[AttemptId], speaker: WorkerId
) -> Iterator[str]:
    match report:
        case messages.AttemptSucceeded():
            of = report.attempt.task
            if report.attempt in dropped:
                yield f"hears from {speaker}, too late: {attempt(report.attempt)} succeeded"
            elif (of.job, of.step, str(of.kind), of.index) not in committed:
                yield f"hears from {speaker} that it holds the output of {attempt(report.attempt)}"
        case messages.AttemptFailed():
            error = report.error
            yield f"hears from {speaker}: {attempt(report.attempt)} failed: {error.summary}"
        case messages.RecordsSkipped():
            for record in report.records:
                place = f"record {record.place.position} of {task(report.attempt.task)}"
                yield f"hears from {speaker}: {place} is bad: {record.error.message}"
        case messages.AttemptLost():
            yield f"hears from {speaker}: {attempt(report.attempt)} is lost: {report.reason}"
        case messages.AttemptKilled():
            yield f"hears from {speaker}: {attempt(report.attempt)} is killed"
        case messages.WorkerStopping():
            yield f"hears that {speaker} takes in no more"
        case messages.PartCopyFailed():
            yield f"hears from {speaker}: the output of {attempt(report.attempt)} cannot be copied: {report.reason}"
        case messages.FetchFailed():
            how = "is gone" if report.is_gone else "cannot be reached"
            yield f"hears from {speaker}: the output of {attempt(report.source)} {how}"


def _master_action(action: cluster.Action, worker_of: Callable[[int], WorkerId]) -> Iterator[str]:
    match action:
        case cluster.Persist():
            for row in action.rows:
                yield from _row(row.table, row.key, row.values)
        case cluster.SendWelcome():
            session, name = action.welcome.session, worker_of(action.stream)
            if not session:
                yield f"asks {name} to list what it has"
            else:
                yield f"{'resumes' if action.welcome.resumed else 'opens'} session {session} with {name}"
        case cluster.SendDown():
            for command in action.down.commands:
                yield from _command(command, worker_of(action.stream))
        case cluster.Reply(value=WorkerView() as value):
            yield f"answers: {value.worker} is {value.condition}"
        case cluster.Reply():
            yield f"answers: {action.value}"
        case cluster.Refuse():
            yield f"refuses: {action.error.message}"
        case cluster.CloseStream():
            yield f"ends a stream: {action.error.message}"


def _row(table: str, key: tuple[Any, ...], values: tuple[Any, ...] | None) -> Iterator[str]:
    if values is None:
        return
    if table == "jobs":
        yield f"writes: {key[0]} is {values[1]}"
    elif table == "winners":
        of = AttemptId(TaskId(key[0], key[1], TaskKind(key[2]), key[3]), values[0])
        yield f"writes: the output of {attempt(of)} {f'counts, it is on {values[1]}' if values[1] else 'is gone'}"
    elif table == "failures":
        of = AttemptId(TaskId(key[0], key[1], TaskKind(key[2]), key[3]), key[4])
        yield f"writes: {attempt(of)} failed"
    elif table == "skipped":
        yield f"writes: {task(TaskId(key[0], key[1], TaskKind(key[2]), key[3]))} leaves out record {key[4]}"


def _command(command: messages.Command, to: WorkerId) -> Iterator[str]:
    match command:
        case messages.LaunchAttempt():
            yield f"launches {attempt(command.attempt)} on {to}"
        case messages.MapOutputsReady():
            maps = ", ".join(task(source.attempt.task) for source in command.sources)
            yield f"tells {to} where to fetch the output of {maps}"
        case messages.MapOutputsLost():
            yield f"tells {to} that the output of {', '.join(attempt(each) for each in command.attempts)} is gone"
        case messages.KillAttempt():
            yield f"has {to} kill {attempt(command.attempt)}: {command.reason}"
        case messages.DropOutputs():
            yield f"has {to} drop the output of {', '.join(attempt(each) for each in command.attempts)}"
        case messages.CopyPart():
            yield f"has {to} copy the output of {attempt(command.part.attempt)} from {command.source.worker}"
        case messages.ReleaseWorker():
            yield f"lets {to} go"
        case messages.DropJob():
            yield f"has {to} drop {command.job}"


# ── a worker ────────────────────────────────────────────────────────────────────────────────────────────────────────


def worker(event: worker_machine.Event, actions: Sequence[worker_machine.Action]) -> Iterator[str]:
    """What a worker took in and what it does about it. What it runs is told where it runs."""
    match event:
        case AttemptEnded():
            yield f"{attempt(event.attempt)} {_outcome(event.outcome)}"
        case FetchesEnded(outcomes):
            for each in outcomes:
                if isinstance(each.outcome, Gone | Unreachable):
                    yield f"cannot fetch: {each.outcome.reason}"
        case worker_machine.StopRequested():
            yield "is told to stop"
        case session.StreamClosed():
            yield f"loses its stream: {_error(event.error)}"
    for action in actions:
        match action:
            case StartFetches(fetches):
                for fetch in fetches:
                    yield f"fetches the output of {attempt(fetch.source.attempt)} from {fetch.source.worker}"
            case session.CloseStream():
                yield "gives up its stream"


def _outcome(outcome: Succeeded | Failed | Lost | Killed) -> str:
    match outcome:
        case Succeeded():
            records = outcome.output.records
            return f"succeeds: {records} {'record' if records == 1 else 'records'}"
        case Failed():
            return f"fails: {outcome.error.message}"
        case Lost():
            return f"is lost: {outcome.reason}"
        case Killed():
            return "is killed"


def _error(error: MinireduceError | None) -> str:
    return error.message if error is not None else "ended by the master"
