"""Let chance fall the same way in every attempt of a task.

A mapper that draws random numbers would give another output each time it is tried, and which try wins is chance too.
So the generators that modules share, Python's and numpy's legacy one, are seeded by the task's place in its job: all
attempts of a task draw the same numbers, tasks draw different ones, and another run of the job over the same splits
draws them again. The order of a set of strings, which the hash seed decides, is fixed where task processes begin; a run
inline has the order of the process that it runs in.

Not reached: generators that user code makes for itself without a seed, `os.urandom`, `uuid`, clocks.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_NUMPY_RANDOM = "numpy.random"
PROGRAM = "program"
"""What stands for a task while a job's program is loaded: every process that loads it draws the same."""


def seed_text(step: int, kind: str, index: int) -> str:
    """What names a task within its job."""
    return f"{step} {kind} {index}"


def seed(text: str) -> None:
    """Seed the shared generators; numpy's when they are imported, if that has not been yet: it does so at their first
    use, takes 10 ms for it, and few tasks have any.
    """
    number = zlib.crc32(text.encode())
    random.seed(number)
    numpy_random = sys.modules.get(_NUMPY_RANDOM)
    if numpy_random is not None:
        numpy_random.seed(number)
        return
    _when_imported.number = number
    if _when_imported not in sys.meta_path:
        sys.meta_path.insert(0, _when_imported)


@contextmanager
def seeded(text: str) -> Iterator[None]:
    """Seed for the time of a block, in a process that has other things to do as well."""
    state = random.getstate()
    numpy_random = sys.modules.get(_NUMPY_RANDOM)
    numpy_state = None if numpy_random is None else numpy_random.get_state()
    seed(text)
    try:
        yield
    finally:
        random.setstate(state)
        numpy_random = sys.modules.get(_NUMPY_RANDOM)
        if numpy_state is not None:
            sys.modules[_NUMPY_RANDOM].set_state(numpy_state)
        elif numpy_random is not None:
            numpy_random.seed()  # as if it had been imported outside: by chance
        else:
            sys.meta_path.remove(_when_imported)


class _WhenImported(MetaPathFinder, Loader):
    """Finds `numpy.random` as others do, once, and seeds it when it has been loaded."""

    def __init__(self) -> None:
        self.number = 0
        self._loader: Loader | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NUMPY_RANDOM:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        assert self._loader is not None
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        module.seed(self.number)


_when_imported = _WhenImported()
