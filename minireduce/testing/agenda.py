"""What happens next in a simulated cluster: a heap of (time, sequence, node, event), so that nothing is left to chance.

Everything is entered here: messages that arrive, ticks, work that ends, faults. An entry belongs to one life of a node,
that is, one run of its process: when the process ends, what it had entered vanishes with it. The entries of a paused
node (SIGSTOP) wait and happen, in their order, when it goes on.

Invariants: entries happen in order of time, those of one moment in the order in which they were entered; time stands
still within an entry.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import field

from minireduce.frozen import dataclass
from minireduce.testing.clock import ManualClock

Act = Callable[[], None]


@dataclass(eq=False, slots=True)
class Node:
    """A process of the simulated cluster. `life` counts its starts; 0: never started."""

    name: str
    life: int = 0
    is_up: bool = False
    is_paused: bool = False
    missed: list[Act] = field(default_factory=list)  # what happens as soon as a paused process goes on

    def start(self) -> None:
        """The process starts anew."""
        self.life += 1
        self.is_up = True

    def end(self) -> None:
        """The process is gone, with all it had entered."""
        self.is_up = False
        self.is_paused = False
        self.missed.clear()


class Agenda:
    """The heap, and the clock that follows it. `happened` counts the entries that came to pass."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.happened = 0
        self._heap: list[tuple[float, int, Node | None, int, Act]] = []
        self._sequence = 0

    def after(self, seconds: float, node: Node | None, act: Act) -> None:
        """Let `act` happen in `seconds`, if this life of `node` lasts that long; None: whatever happens to nodes."""
        self._sequence += 1
        life = 0 if node is None else node.life
        heapq.heappush(self._heap, (self.clock.now() + seconds, self._sequence, node, life, act))

    def next_time(self) -> float | None:
        """When the next entry is due; None when nothing is left to happen."""
        return self._heap[0][0] if self._heap else None

    def happen(self) -> None:
        """Let the next entry happen."""
        time, _, node, life, act = heapq.heappop(self._heap)
        self.clock.advance_to(time)
        if node is not None:
            if not node.is_up or node.life != life:
                return
            if node.is_paused:
                node.missed.append(act)
                return
        self.happened += 1
        act()

    def pause(self, node: Node) -> None:
        """Stop a process where it stands."""
        node.is_paused = True

    def resume(self, node: Node) -> None:
        """A paused process goes on: all that it has missed happens now, in its order."""
        node.is_paused = False
        missed, node.missed = node.missed, []
        for act in missed:
            self.after(0.0, node, act)
