"""The user's own modules: which of them a job needs where its tasks run, and their source.

A script or a notebook imports modules that lie beside it, which no worker has installed. What the job's functions call
from them is pickled by the name of its module, so the module goes along, and so do those of the user's own that it
imports in turn: tasks import them from memory (attempt/modules.py), as they stand in their files.

Not here: the modules of the job's own functions, which travel by value with what they hold now (program.py), and those
that are installed, which every worker must have. A module that is imported only where a task runs must be named:
`py_files`.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Container, Iterator
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

from minireduce.core.spec import Module

_STANDARD = sys.stdlib_module_names
_SHORT_TEXT = b"\x8c"
_SHORT_BYTES_MAX = 255
"""In a pickle a text of so many bytes stands behind this mark and its length."""


def is_own(module: ModuleType) -> bool:
    """Whether the user wrote it: it has a file, which belongs to no installed package."""
    file = vars(module).get("__file__")
    is_ours = _top_of(module.__name__) in ("minireduce", "__main__")
    return isinstance(file, str) and not is_ours and not _is_installed(file)


def modules_named_in(pickled: bytes, by_value: Container[str] = ()) -> tuple[Module, ...]:
    """The user's own modules that a pickle names, and those that they import, each with the packages it lies in.

    What is in `by_value` is named there, too, and not needed for that.
    """
    own = _own_modules()
    named = [name for name in own if name not in by_value]
    waiting = [name for name in named if _SHORT_TEXT + bytes((len(name.encode()),)) + name.encode() in pickled]
    found: dict[str, Module] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        module = _read(name, own[name])
        if module is not None:
            found[name] = module
            waiting += [each for each in _imported(module) if each in own]
    return tuple(found[name] for name in sorted(found))


def _own_modules() -> dict[str, ModuleType]:
    """Those that this process has imported from source, and the packages of these, by name."""
    own = {}
    for name in sys.modules.keys() - _known_as_others:
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and _can_travel(name, module):
            own[name] = module
        else:
            _known_as_others.add(name)
    for name in tuple(own):
        for package in _packages_of(name):
            if package in sys.modules:
                own.setdefault(package, sys.modules[package])
    return own


_known_as_others: set[str] = set()
"""Modules that were looked at before: most of them, and at each job."""


def _can_travel(name: str, module: ModuleType) -> bool:
    is_short = len(name.encode()) <= _SHORT_BYTES_MAX
    return is_short and is_own(module) and str(module.__file__).endswith(".py") and _top_of(name) not in _STANDARD


def _top_of(name: str) -> str:
    return name.partition(".")[0]


def _packages_of(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def _read(name: str, module: ModuleType) -> Module | None:
    is_package = hasattr(module, "__path__")
    file = vars(module).get("__file__")
    if file is None:  # a package without a file of its own
        return Module(name, b"", "", is_package=True)
    try:
        return Module(name, Path(file).read_bytes(), str(Path(file).resolve()), is_package)
    except OSError:  # it is gone; where it is needed its import will tell
        return None


@lru_cache(maxsize=1000)
def _imported(module: Module) -> tuple[str, ...]:
    return tuple(_found_imported(module))


def _found_imported(module: Module) -> Iterator[str]:
    """What a module imports anywhere in it, as far as that can be told from its text, and the packages of all."""
    import ast  # most jobs need none of this

    yield from _packages_of(module.name)
    try:
        tree = ast.parse(module.source)
    except (SyntaxError, ValueError):  # it has changed since it was imported
        return
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from (*_packages_of(alias.name), alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            yield from (*_packages_of(base), base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def _is_installed(file: str) -> bool:
    if file.startswith(_places()):
        return True
    path = Path(file).resolve()
    if any(path.is_relative_to(Path(place).resolve()) for place in _places()):
        return True
    return any(entry and path.is_relative_to(entry) and _holds_packages(entry) for entry in sys.path)


@cache
def _places() -> tuple[str, ...]:
    """Where installed packages lie, and Python's own."""
    return (*site.getsitepackages(), site.getusersitepackages(), str(Path(os.__file__).parent))


@cache
def _holds_packages(folder: str) -> bool:
    """Whether packages were installed into this folder, as by `pip install --target`."""
    return next(Path(folder).glob("*.dist-info"), None) is not None
