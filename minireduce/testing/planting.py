"""Plant a bug, and hunt for it with seeds.

A bug is planted by replacing a function or a method while seeds run; production code knows nothing of it. It counts as
caught when a checker or a machine's own invariant says so: an error of Python catches nothing, since a change that
makes the simulator crash would look like a find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass
from minireduce.testing import sim, sim_storage
from minireduce.testing.wrong import Wrong

_CAUGHT = (Wrong.__name__, InvariantViolation.__name__)

Plant = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Catch:
    """The seed that a planted bug made fail, and what it said."""

    seed: int
    error: str


def error_of_cluster(seed: int) -> str:
    """What a seed of the whole cluster says; "" when it holds."""
    return sim.run_seed(seed).error


def error_of_storage(seed: int) -> str:
    """What a seed of the block store says; "" when it holds."""
    try:
        sim_storage.run_seed(seed)
    except (Wrong, InvariantViolation) as found:
        return f"{type(found).__name__}: {found}"
    return ""


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """One safeguard taken away."""

    name: str
    plant: Plant
    first_seed: int = 0  # where the ordinary tests begin to look: the seeds before are known to find nothing
    every: int = 1  # only one in so many seeds can find it
    error_of: Callable[[int], str] = error_of_cluster

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While this lasts, the bug is there."""
        with ExitStack() as stack:
            self.plant(stack)
            yield

    def hunt(self, seeds: range) -> Catch | None:
        """The first of `seeds` that is caught; None when none is."""
        tried = (seed for seed in seeds if seed % self.every == 0)
        with self.planted():
            caught = ((seed, self.error_of(seed)) for seed in tried)
            return next((Catch(seed, error) for seed, error in caught if error.startswith(_CAUGHT)), None)


def replace_in(owner: Any, name: str, replacement: Callable[..., Any]) -> Plant:
    """Plant by putting `replacement` in the place of what `owner` has under this name."""

    def plant(stack: ExitStack) -> None:
        stack.enter_context(patch.object(owner, name, replacement))

    return plant
