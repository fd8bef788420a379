"""Import the modules of the user's that came with a program.

They are imported from memory, so a task process leaves no files of them. What came goes before what is installed here.

Elsewhere: reading them where the job is submitted, and what is refused there (client/modules.py).
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from minireduce.core.spec import Module


class ShippedModules(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds and loads the modules that came with a program."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self._modules = {module.name: module for module in modules}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - what Python asks, which is more than what is needed
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """How to load the module; None for one that did not come."""
        if fullname not in self._modules:
            return None
        spec = importlib.util.spec_from_loader(fullname, self)
        folder = Path(self._modules[fullname].origin).parent
        if spec is not None and spec.submodule_search_locations is not None and folder.is_dir():
            spec.submodule_search_locations.append(str(folder))  # compiled parts may lie there, on this machine
        return spec

    def is_package(self, fullname: str) -> bool:
        """Whether it may hold other modules."""
        return self._modules[fullname].is_package

    def get_source(self, fullname: str) -> str:
        """Its text."""
        return importlib.util.decode_source(self._modules[fullname].source)

    def get_filename(self, fullname: str) -> str:
        """The file that it was read from, wherever that was."""
        return self._modules[fullname].origin


def install(modules: Iterable[Module]) -> None:
    """Have these modules imported from memory from now on, in this process."""
    sys.meta_path.insert(0, ShippedModules(modules))


@contextmanager
def importable(modules: Iterable[Module]) -> Iterator[None]:
    """Have these modules imported from memory for the time of the block; what was imported stays."""
    finder = ShippedModules(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
