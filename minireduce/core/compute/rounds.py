"""What follows from every event, and from the passing of time: work is given out, stragglers are looked for, jobs end.

After each event comes one `schedule`: what was lost is queued again, free workers get something to do, copies are
ordered, and jobs whose parts are all there are completed. `tick` comes when the shell says that time has passed.

Elsewhere: what the events themselves change (reports.py, arrivals.py, submission.py).
"""

from __future__ import annotations

from minireduce.core.compute import homes
from minireduce.core.compute.completing import complete_copied, complete_if_done
from minireduce.core.compute.ending import end_job, end_overdue
from minireduce.core.compute.job import Job
from minireduce.core.compute.preemption import Preemption
from minireduce.core.compute.records import persist_progress
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.stragglers import Stragglers
from minireduce.core.compute.task import ATTEMPTS_PER_EPOCH_MAX
from minireduce.core.effects import Effects
from minireduce.core.membership import Member
from minireduce.core.views import JobState
from minireduce.ids import WorkerId

PREEMPTED = "PREEMPTED_ATTEMPTS"


class Rounds:
    """The rounds of one master."""

    def __init__(self, state: ComputeState) -> None:
        self._state = state
        self._settings = state.settings
        self._stragglers = Stragglers(state)
        self._preemption = Preemption(state.settings, state.queues, self._could_run)
        self._are_copies_known = False  # after a restart, once all workers have listed theirs

    def schedule(self, now: float, effects: Effects) -> None:
        """Give free workers something to do. After a restart, only once all that are expected are back or lost: they
        may still run what would be launched again.
        """
        state = self._state
        self._settle(now, effects)
        self._assign(now, effects)
        self._stragglers.look(now, effects)
        if state.used_up:
            self._end_used_up(now, effects)
        if not state.membership.is_anyone_expected:
            if not self._are_copies_known:
                self._are_copies_known = True
                state.want_copies()
            state.copies.order(effects)
            if state.copying_until:
                complete_copied(state, now, effects)
        state.announcements.announce(now, effects)

    def tick(self, now: float, effects: Effects) -> None:
        """Time passed."""
        state = self._state
        end_overdue(state, now, effects)
        for job in list(state.jobs.values()):
            if now - job.looked_at_s >= self._settings.progress_interval_s:
                job.looked_at_s = now
                if job.counted != job.counted_durably:
                    persist_progress(job, now, effects)
                state.history.write_early(job, now, effects)
        self._take_back_slots(now, effects)
        homes.look_up(state)
        state.ask_everybody()
        state.copies.look_again()

    def _settle(self, now: float, effects: Effects) -> None:
        state = self._state
        for job in state.unsettled.values():
            if job.id in state.jobs:
                state.queue_wanted(job)
                complete_if_done(state, job, now, effects)
        state.unsettled.clear()

    def _assign(self, now: float, effects: Effects) -> None:
        state = self._state
        for key in [key for key, job in state.hungry.items() if key not in state.jobs or not job.has_waiting]:
            del state.hungry[key]
        if state.hungry and not state.membership.is_anyone_expected:
            asked = state.workers_that_take() if state.is_everybody_asked else self._workers_with_room()
            state.scheduler.assign(state.hungry.values(), asked, now, lambda choice: state.launch(choice, now, effects))
            state.is_everybody_asked = False
        state.with_room.clear()

    def _workers_with_room(self) -> list[Member]:
        members = [self._state.membership.get(worker) for worker in self._state.with_room]
        return [member for member in members if member is not None and member.is_live and self._state.is_taking(member)]

    def _end_used_up(self, now: float, effects: Effects) -> None:
        state = self._state
        for task in state.used_up:
            job = state.jobs.get(task.job)
            if job is not None and job.state is not JobState.SUCCEEDED:
                reason = f"{task} was begun {ATTEMPTS_PER_EPOCH_MAX} times: its workers or its outputs keep being lost"
                end_job(state, job, JobState.FAILED, reason, now, effects)
        state.used_up.clear()

    def _take_back_slots(self, now: float, effects: Effects) -> None:
        state = self._state
        jobs = [job for job in state.jobs.values() if job.state is JobState.RUNNING]
        if len(jobs) < 2:
            return
        slots = sum(state.loads[member.id].slots for member in state.workers_that_take())
        for victim in self._preemption.choose(jobs, slots, now):
            why = f"its slot is {victim.hungry.id}'s share"
            state.kill_attempt(victim.job, victim.task, victim.attempt, now, why, effects)
            victim.job.count(PREEMPTED)
            state.try_again(victim.job, victim.task)

    def _could_run(self, job: Job, worker: WorkerId, freed_bytes: int) -> bool:
        state = self._state
        member = state.membership.get(worker)
        step = next((step for step in job.steps if step.waiting_maps), None)
        if member is None or step is None or not member.is_live or not state.is_taking(member):
            return False
        return state.scheduler.may_run(job, step, member, freed_bytes)
