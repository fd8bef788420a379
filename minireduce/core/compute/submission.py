"""What clients ask about jobs: submit, kill, confirm that text parts are in place, give a result up."""

from __future__ import annotations

import math

from minireduce.core.compute.ending import end_job
from minireduce.core.compute.job import Job, make_steps
from minireduce.core.compute.records import persist_job
from minireduce.core.compute.state import ComputeState
from minireduce.core.effects import Effects
from minireduce.core.requests import CloseResult, ComputeRequest, ConfirmPublished, KillJob, SubmitJob
from minireduce.core.spec import NAME_CHARACTERS_MAX, PRIORITY_MAX, JobSpec, OutputKind
from minireduce.core.views import JobState
from minireduce.errors import MinireduceError, NotFound, RequestError
from minireduce.ids import JobId

SPLITS_MAX = 1_000_000
REDUCERS_MAX = 100_000
STEPS_MAX = 100


class Submissions:
    """Answers requests about jobs. `jobs_seen` numbers them across restarts."""

    def __init__(self, state: ComputeState, cluster_id: str, epoch: int, jobs_seen: int) -> None:
        self._state = state
        self._cluster_id = cluster_id
        self._epoch = epoch
        self._jobs_seen = jobs_seen
        state.by_key = {ended.key: job for job, ended in state.ended.items()}
        state.by_key |= {job.key: job.id for job in state.jobs.values()}

    def take_request(self, request: int, body: ComputeRequest, now: float, wall: float, effects: Effects) -> None:
        """Carry one request out and answer it."""
        try:
            match body:
                case SubmitJob():
                    effects.reply(request, self._submit(body, now, wall, effects))
                case KillJob():
                    effects.reply(request, self._kill(body, now, effects))
                case ConfirmPublished():
                    effects.reply(request, self._confirm(body.job, now, effects))
                case CloseResult():
                    self._close(body.job, now, effects)
                    effects.reply(request, None)
        except MinireduceError as error:
            effects.refuse(request, error)

    def _submit(self, body: SubmitJob, now: float, wall: float, effects: Effects) -> JobId:
        if body.key in self._state.by_key:
            return self._state.by_key[body.key]
        _check(body.key, body.spec)
        self._check_queue(body.spec)
        self._check_room()
        self._jobs_seen += 1
        job_id = f"job-{self._cluster_id[:6]}-{self._jobs_seen}"
        steps = make_steps(job_id, body.spec, self._epoch)
        job = Job(job_id, body.key, body.spec, self._jobs_seen, wall, now, steps, served_s=now)
        state = self._state
        state.jobs[job_id] = job
        state.by_key[body.key] = job_id
        effects.persist("settings", ("jobs_seen",), (str(self._jobs_seen),))
        persist_job(job, effects)
        state.requeue(job)
        return job_id

    def _check_queue(self, spec: JobSpec) -> None:
        names = self._state.queues.configured
        if spec.queue not in names:
            raise RequestError(
                f"there is no queue {spec.queue!r}", hint=f"the master's settings name {', '.join(names)}"
            )

    def _check_room(self) -> None:
        """Refuse a job too many: each that has not ended holds memory here and disk space on workers."""
        most = self._state.settings.jobs_unended_max
        if len(self._state.jobs) >= most:
            raise RequestError(
                f"{len(self._state.jobs)} jobs have not ended or have a result that is kept, and {most} is the limit "
                "(jobs_unended_max)",
                hint="wait for some to end, close results that nobody needs, or start the master with a higher limit",
            )

    def _find(self, job: JobId) -> Job | JobState:
        if job in self._state.jobs:
            return self._state.jobs[job]
        if job in self._state.ended:
            return self._state.ended[job].view.state
        raise NotFound(f"there is no job {job}", hint="`minireduce jobs` lists those that this cluster remembers")

    def _kill(self, body: KillJob, now: float, effects: Effects) -> JobState:
        job = self._find(body.job)
        if isinstance(job, JobState):
            return job
        if job.state is not JobState.SUCCEEDED:
            end_job(self._state, job, JobState.KILLED, body.reason, now, effects)
        return job.state

    def _confirm(self, job_id: JobId, now: float, effects: Effects) -> JobState:
        job = self._find(job_id)
        if isinstance(job, JobState):
            return job
        if job.state is not JobState.PUBLISHING:
            raise RequestError(f"{job_id} is {job.state}: there is nothing to confirm")
        end_job(self._state, job, JobState.SUCCEEDED, "", now, effects)
        return JobState.SUCCEEDED

    def _close(self, job_id: JobId, now: float, effects: Effects) -> None:
        job = self._find(job_id)
        if isinstance(job, JobState):
            return  # closed before
        if job.state is not JobState.SUCCEEDED:
            raise RequestError(f"{job_id} is {job.state}: it has no result to close", hint="kill it instead")
        end_job(self._state, job, JobState.SUCCEEDED, "", now, effects)


def _check(key: str, spec: JobSpec) -> None:
    if not key:
        raise RequestError("a submission needs a key, so that it can be repeated safely")
    limits = (
        (len(spec.steps), 1, STEPS_MAX, "steps"),
        (len(spec.splits), 0, SPLITS_MAX, "splits"),
        *((step.reducers, 0, REDUCERS_MAX, "reducers") for step in spec.steps),
        (spec.attempts_max, 1, 100, "attempts"),
        (spec.losses_max, 0, 100, "losses"),
        (spec.priority, -PRIORITY_MAX, PRIORITY_MAX, "as priority"),
    )
    if len(spec.name) > NAME_CHARACTERS_MAX or not spec.name.isprintable():
        raise RequestError(
            f"the job's name {spec.name[:20]!r}… cannot be shown in listings",
            hint=f"give it at most {NAME_CHARACTERS_MAX} characters on one line, such as --name words",
        )
    if not 0 < spec.weight < math.inf:
        raise RequestError(f"a weight of {spec.weight:g}: must be above 0")
    if not 0 <= spec.time_limit_s < math.inf:
        raise RequestError(f"a time limit of {spec.time_limit_s:g} s: must be above 0, or 0 for none")
    for value, least, most, name in limits:
        if not least <= value <= most:
            raise RequestError(f"{value} {name}: must be {least} to {most}")
    if spec.output is not OutputKind.RESULT and not spec.output_path:
        raise RequestError("the output has no path")
