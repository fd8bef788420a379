"""Look for stragglers and slow workers, now and then, and order the backups that were chosen.

Looked at is every live attempt that is old enough, beside what tasks of its step and kind have usually taken: the
youngest are passed over without a look, since there may be many thousands of short ones. A backup takes a slot that no
ordinary task wants, so none is ordered where anything waits that the worker could run. A reduce counts from when it
has its input and a slot; one that gathers is late only once all maps are done.

Not chased: a task whose partition is one hot key, which is as long wherever it runs, unless its worker is slow.
Elsewhere: who deserves a backup and where (speculation.py), how fast workers are (speeds.py), ending the loser
(outputs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from minireduce.core.compute.hot_keys import has_hot_key
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.scheduler import Assignment
from minireduce.core.compute.speculation import (
    FreeWorker,
    Straggler,
    backups_max,
    choose_backups,
    is_straggler,
    remaining_s,
)
from minireduce.core.compute.speeds import underway
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Attempt, Task
from minireduce.core.effects import Effects
from minireduce.core.membership import Member
from minireduce.ids import AttemptId, TaskKind, WorkerId


class Stragglers:
    """When running attempts were looked at, and the backups that were ordered since the master began."""

    def __init__(self, state: ComputeState) -> None:
        self._state = state
        self._settings = state.settings
        self._backups: dict[AttemptId, Attempt] = {}
        self._look_at_s = 0.0

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, now: float, effects: Effects) -> None:
        """Judge workers and order backups, unless that was done just now."""
        if now < self._look_at_s:
            return
        self._look_at_s = now + self._settings.backup_check_interval_s
        overdue: dict[WorkerId, list[float]] = {}
        stragglers: list[tuple[Straggler, Job, Step, Task]] = []
        has_place = bool(self._places({member.id: member for member in self._state.workers_that_take()}))
        for job in self._state.jobs.values():
            for step in job.steps:
                if step.running:
                    stragglers.extend(self._look_at(job, step, overdue, now, has_place=has_place))
        self._judge_workers(overdue, now)
        if stragglers:
            self._order(stragglers, now, effects)

    def _look_at(
        self, job: Job, step: Step, overdue: dict[WorkerId, list[float]], now: float, *, has_place: bool
    ) -> Iterator[tuple[Straggler, Job, Step, Task]]:
        """The stragglers of a step. Where none has a place, only those say something that tell of slow workers."""
        are_maps_done = step.maps_done == len(step.maps)
        step.maps_done_s = (now if step.maps_done_s is None else step.maps_done_s) if are_maps_done else None
        for pace in (*step.paces.values(), *step.gather_paces.values()):
            pace.refresh()
        for task in step.running.values():
            if now - task.running_since_s < self._settings.backup_age_s_min:
                break  # and so are all that follow
            pace = step.paces[task.id.kind]
            if pace.is_known:
                expected_s = pace.expected_s(self._state.inputs.bytes_of(step, task))
                if not has_place and expected_s < self._settings.slow_worker_task_s_min:
                    continue
                live = task.live_attempts
                for attempt in live:
                    straggler = self._look_at_attempt(job, step, task, attempt, expected_s, overdue, now)
                    if straggler is not None and len(live) == 1:
                        yield straggler, job, step, task

    def _look_at_attempt(
        self,
        job: Job,
        step: Step,
        task: Task,
        attempt: Attempt,
        expected_s: float,
        overdue: dict[WorkerId, list[float]],
        now: float,
    ) -> Straggler | None:
        since_s = _since_s(step, attempt, self._state.load_of(attempt.worker).freed_s)
        if since_s is None or now - since_s < self._settings.backup_age_s_min:
            return None
        age_s = now - since_s
        reached = underway(attempt, now, since_s)
        if attempt.started_s is None and task.id.kind is TaskKind.REDUCE:
            gathering = step.gather_paces[attempt.launched_s > (step.maps_done_s or 0.0)]
            if not gathering.is_known or self._state.load_of(attempt.worker).slots_free <= 0:
                return None  # others wait as well, or it waits for a slot, and its worker gets on
            reached = replace(reached, still_s=max(reached.still_s, gathering.expected_s(task.input_bytes) - age_s))
        left_s = remaining_s(reached, expected_s)
        if attempt.started_s is not None and age_s > expected_s >= self._settings.slow_worker_task_s_min:
            overdue.setdefault(attempt.worker, []).append(expected_s / (age_s + left_s))
        fresh_s = expected_s + self._gathering_s(step, task)
        if not job.spec.speculation or task.is_used_up or self._state.queues.of(job).is_full:
            return None
        if not is_straggler(left_s, fresh_s, age_s, self._settings) or not self._state.inputs.is_there(step, task):
            return None
        if has_hot_key(step, task, self._settings) and not self._state.load_of(attempt.worker).is_slow:
            return None
        return self._straggler(job, step, task, attempt, left_s, fresh_s)

    def _gathering_s(self, step: Step, task: Task) -> float:
        """How long a backup would need for its input: as long as reduces that were placed late, if any were."""
        if task.id.kind is TaskKind.MAP:
            return 0.0
        pace = step.gather_paces[True]
        least_s = task.input_bytes / self._settings.backup_fetch_bytes_per_s
        return max(least_s, pace.expected_s(task.input_bytes)) if pace.is_known else least_s

    def _straggler(
        self, job: Job, step: Step, task: Task, attempt: Attempt, left_s: float, fresh_s: float
    ) -> Straggler:
        is_map = task.id.kind is TaskKind.MAP
        return Straggler(
            attempt=attempt.id,
            remaining_s=left_s,
            fresh_s=fresh_s,
            memory_bytes=task.memory_limit_bytes,
            avoided=task.avoided.union((attempt.worker, *job.excluded)),
            node=self._state.load_of(attempt.worker).spot.node,
            homes=task.homes.nodes if is_map else (),
            required_node=job.required_machine_id if is_map and step.index == 0 else "",
        )

    # ── slow workers ────────────────────────────────────────────────────────────────────────────────────────────────

    def _judge_workers(self, overdue: dict[WorkerId, list[float]], now: float) -> None:
        for worker, speed in self._state.speeds.judge(overdue, now):
            self._state.load_of(worker).is_slow = speed.is_slow
            member = self._state.membership.get(worker)
            if member is not None:
                self._state.load_of(worker).slots = speed.slots_of(member.profile.slots)
            self._state.ask_everybody()

    # ── backups ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, found: list[tuple[Straggler, Job, Step, Task]], now: float, effects: Effects) -> None:
        self._backups = {key: attempt for key, attempt in self._backups.items() if attempt.state.is_live}
        members = {member.id: member for member in self._state.workers_that_take()}
        slots = sum(member.profile.slots for member in members.values())
        count_max = backups_max(slots, self._settings) - len(self._backups)
        places = self._places(members)
        if count_max <= 0 or not places:
            return
        tasks = {straggler.attempt: (job, step, task) for straggler, job, step, task in found}
        for straggler, worker in choose_backups((straggler for straggler, *_ in found), places, count_max):
            job, step, task = tasks[straggler.attempt]
            if self._state.queues.of(job).is_full:  # by a backup just ordered
                continue
            spot = self._state.load_of(worker).spot
            level = task.homes.level_of(spot) if straggler.homes else None
            choice = Assignment(job, step, task, members[worker], level, is_backup=True)
            attempt = self._state.launch(choice, now, effects)
            if attempt is not None:
                self._backups[attempt.id] = attempt

    def _places(self, members: dict[WorkerId, Member]) -> list[FreeWorker]:
        """The workers with slots that nothing else wants."""
        places = []
        for worker, member in members.items():
            load = self._state.loads[worker]
            if load.slots_free > 0 and not load.is_slow and not self._state.is_wanted(member):
                memory_bytes = load.memory_bytes - load.memory_used_bytes
                claimed = sum(load.gathering.values())
                places.append(FreeWorker(worker, load.spot.node, load.slots_free, memory_bytes, claimed))
        return places


def _since_s(step: Step, attempt: Attempt, freed_s: float) -> float | None:
    """Since when an attempt could have got on; None while it rightly waits. A reduce that gathers may have waited for
    the slot that came free on its worker at `freed_s`.
    """
    if attempt.started_s is not None:
        return attempt.started_s
    if attempt.id.task.kind is TaskKind.MAP:
        return attempt.launched_s
    return max(step.maps_done_s, attempt.launched_s, freed_s) if step.maps_done_s is not None else None
