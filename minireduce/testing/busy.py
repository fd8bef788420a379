"""Measure how busy the slots of live workers are while tasks wait for one.

A scheduler that leaves slots idle while there is work is wrong in a way that no output shows. Looked at on each tick of
the master: whenever a map task stands in a queue, all slots of workers that the master can hear count, and of these the
ones that it has given away (`assigned`) and the ones in which a process runs (`running`); between the two lie the
messages, which weather delays.

Not counted is what nothing can be done about: a master that waits for its workers after a restart, and workers that
stop, that are cut off, or that are gone without the master knowing it yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minireduce.testing.master import SimMaster
    from minireduce.testing.worker import SimWorker

BUSY_FRACTION_MIN = 0.8
SLOT_TICKS_MIN = 40
"""Less than this measures nothing."""

SILENCE_S_MAX = 2.0
"""Of a worker that still counts as live: it should be heard every second."""


@dataclass(slots=True)
class SlotUse:
    """Sums over ticks of the master in which tasks waited. `is_stormy`: launches and reports take seconds, since many
    messages are lost and those behind them must wait.
    """

    is_stormy: bool = False
    slots: int = 0
    assigned: int = 0
    running: int = 0

    @property
    def assigned_fraction(self) -> float:
        return self.assigned / self.slots if self.slots else 1.0

    @property
    def running_fraction(self) -> float:
        return self.running / self.slots if self.slots else 1.0

    @property
    def is_idle(self) -> bool:
        """Whether too many slots stood idle beside waiting tasks."""
        if self.slots < SLOT_TICKS_MIN:
            return False
        is_late = not self.is_stormy and self.running_fraction < BUSY_FRACTION_MIN
        return is_late or self.assigned_fraction < BUSY_FRACTION_MIN

    def add(self, other: SlotUse) -> None:
        self.slots += other.slots
        self.assigned += other.assigned
        self.running += other.running

    def look(self, master: SimMaster, workers: dict[str, SimWorker]) -> None:
        """One tick of the master."""
        membership, compute = master.state._membership, master.state._compute  # noqa: SLF001 - the truth within
        if membership.is_anyone_expected or not any(
            step.waiting_maps for job in compute.jobs.values() for step in job.steps
        ):
            return
        for member in membership.live():
            worker = workers[member.id]
            load = compute.loads.get(member.id)
            if load is None or member.is_stopping or not worker.node.is_up or worker.node.is_paused:
                continue
            if not worker.state.is_joined or master.now() - member.heard_at_s > SILENCE_S_MAX:
                continue
            self.slots += load.slots
            self.assigned += min(load.slots_used, load.slots)
            self.running += min(len(worker.running), load.slots)
