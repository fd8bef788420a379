"""What the cluster shows of itself: views of jobs, tasks, results and workers, made from the state at one moment.

Reads only. The shell releases a view, like every answer, once all that led to it is durable.
"""

from __future__ import annotations

from minireduce.core.compute.show import show_job, show_result, show_task
from minireduce.core.compute.state import ComputeState
from minireduce.core.draining import show_drain
from minireduce.core.membership import Member, Membership
from minireduce.core.storage.state import StorageState
from minireduce.core.views import ClusterView, JobState, JobView, ResultView, SkippedView, TaskView, WorkerView
from minireduce.errors import NotFound, RequestError
from minireduce.ids import JobId, TaskId, WorkerId


class ClusterViews:
    """The views of one master's machine; `now` is its monotonic time in seconds."""

    def __init__(
        self,
        compute: ComputeState,
        membership: Membership,
        storage: StorageState,
        *,
        cluster_id: str,
        epoch: int,
        software_version: str,
    ) -> None:
        self._compute = compute
        self._membership = membership
        self._storage = storage
        self._cluster_id = cluster_id
        self._epoch = epoch
        self._software_version = software_version

    def jobs(self, now: float) -> list[JobView]:
        """All jobs that are remembered, the earliest first."""
        compute = self._compute
        ended = [job.view for job in compute.ended.values()]
        views = ended + [
            show_job(job, now, compute.settings, compute.waiting_for(job, now)) for job in compute.jobs.values()
        ]
        return sorted(views, key=lambda view: int(view.job.rpartition("-")[2]))

    def job(self, job: JobId, now: float) -> JobView:
        """One job. Raises NotFound."""
        if job in self._compute.ended:
            return self._compute.ended[job].view
        found = self._compute.jobs.get(job)
        if found is None:
            raise NotFound(f"there is no job {job}", hint="`minireduce jobs` lists those that this cluster remembers")
        return show_job(found, now, self._compute.settings, self._compute.waiting_for(found, now))

    def tasks(self, job: JobId, now: float) -> list[TaskView]:
        """The tasks of a job, maps before reduces, step by step; none once the job is over. Raises NotFound."""
        self.job(job, now)
        found = self._compute.jobs.get(job)
        return [show_task(found, task, now) for task in found.tasks()] if found is not None else []

    def is_over(self, job: JobId, now: float) -> bool:
        """Whether only its history is left of a job. Raises NotFound."""
        self.job(job, now)
        return job not in self._compute.jobs

    def printed_left_out(self, job: JobId, now: float) -> int:
        """How many pieces of what a job printed found no room. Raises NotFound."""
        self.job(job, now)
        return self._compute.printed.left_out(job)

    def has_history(self, job: JobId, now: float) -> bool:
        """Whether attempts of a job are written down. Raises NotFound."""
        self.job(job, now)
        return self._compute.history.has(job)

    def attempts_left_out(self, job: JobId, now: float) -> int:
        """How many attempts of an ended job are not kept. Raises NotFound."""
        self.job(job, now)
        return self._compute.history.left_out(job)

    def task(self, task: TaskId, now: float) -> TaskView:
        """One task of a job that is not over. Raises NotFound."""
        job = self._compute.jobs.get(task.job)
        found = job.task(task) if job is not None else None
        if job is None or found is None:
            raise NotFound(
                f"there is no task {task}, or its job is over", hint="`minireduce jobs` lists the jobs that run"
            )
        return show_task(job, found, now)

    def skipped(self, job: JobId, now: float) -> tuple[SkippedView, ...]:
        """The bad records of a job. Raises NotFound."""
        self.job(job, now)
        found = self._compute.jobs.get(job)
        return found.skipped() if found is not None else self._compute.ended[job].skipped

    def result(self, job: JobId, now: float) -> ResultView:
        """Where the parts of a complete job are. Raises NotFound, RequestError, Unavailable."""
        view = self.job(job, now)
        found = self._compute.jobs.get(job)
        if found is None:
            why = f": {view.reason}" if view.state is JobState.SUCCEEDED and view.reason else ""
            raise RequestError(f"{job} is {view.state}, and the cluster keeps nothing of its result{why}")
        addresses = {member.id: member.profile.data_address for member in self._membership.live()}
        return show_result(found, addresses, self._compute.make_read_token(job))

    def worker(self, worker: WorkerId, now: float) -> WorkerView:
        """One worker. Raises NotFound."""
        member = self._membership.get(worker)
        if member is None:
            raise NotFound(f"there is no worker {worker}", hint="`minireduce cluster workers` lists them")
        return self._view_worker(member, now)

    def read_token(self, job: JobId, now: float) -> str:
        """What opens the doors of workers to what belongs to a job. Raises NotFound."""
        self.job(job, now)
        return self._compute.make_read_token(job)

    def workers(self, now: float) -> list[WorkerView]:
        """All workers in the order in which they came."""
        return [self._view_worker(member, now) for member in self._membership]

    def _view_worker(self, member: Member, now: float) -> WorkerView:
        load = self._compute.loads.get(member.id)
        profile = member.profile
        return WorkerView(
            worker=member.id,
            state=str(member.state),
            host=profile.host,
            rack=profile.rack,
            slots=profile.slots,
            slots_used=load.slots_used if load is not None else 0,
            memory_bytes=profile.memory_bytes,
            data_address=profile.data_address,
            machine_id=profile.machine_id,
            last_heard_s=max(0.0, now - member.heard_at_s),
            software_version=profile.software_version,
            capacity_bytes=profile.capacity_bytes,
            free_bytes=member.free_bytes,
            blocks=self._storage.blocks_on(member.id),
            is_slow=load.is_slow if load is not None else False,
            is_stopping=member.is_stopping,
            drain=show_drain(member, load, self._compute, self._storage) if member.is_draining else None,
            directories=member.directories,
            weight=profile.weight,
        )

    def cluster(self) -> ClusterView:
        """What a client must know to submit."""
        live = [member.profile for member in self._membership.live()]
        return ClusterView(
            cluster_id=self._cluster_id,
            epoch=self._epoch,
            software_version=self._software_version,
            workers_live=len(live),
            slots=sum(profile.slots for profile in live),
            memory_bytes_per_slot=min((profile.memory_bytes // max(profile.slots, 1) for profile in live), default=0),
            machine_ids=tuple(dict.fromkeys(profile.machine_id for profile in live)),
        )
