"""Read the modules that a job file imports, so that they go along with it.

Only Python source goes, no data beside it and no compiled extensions. Tracebacks name the files that the modules were
read from, and show their lines. None may hide a module of Python itself.

Elsewhere: how they are imported where tasks run (attempt/modules.py).
"""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from minireduce.core.spec import Module
from minireduce.errors import RequestError

_SUFFIX = ".py"
_PACKAGE = "__init__"


def read_modules(paths: Iterable[Path]) -> tuple[Module, ...]:
    """The modules of Python files, of packages (directories with `__init__.py`) and of zip archives of such.

    Raises RequestError for what is none, cannot be read, or comes twice.
    """
    found: dict[str, Module] = {}
    for path in paths:
        for module in _read(path):
            if module.name in found:
                raise RequestError(
                    f"the module {module.name} comes from {found[module.name].origin} and from {module.origin}",
                    hint="leave one of them out",
                )
            _check(module)
            found[module.name] = module
    return tuple(found.values())


def _read(path: Path) -> Iterator[Module]:
    try:
        if path.is_dir():
            yield from _of_package(path)
        elif path.suffix == _SUFFIX:
            yield _module(PurePosixPath(path.name), path.read_bytes(), str(path.resolve()))
        elif zipfile.is_zipfile(path):
            yield from _of_archive(path)
        else:
            path.stat()
            raise RequestError(f"{path} is no module", hint="name Python files, packages or zip archives of them")
    except OSError as cause:
        raise RequestError(
            f"{path} cannot be read: {cause.strerror}", hint="see --py-files, or py_files= of the job"
        ) from cause


def _of_package(folder: Path) -> Iterator[Module]:
    if not (folder / f"{_PACKAGE}{_SUFFIX}").is_file():
        raise RequestError(f"{folder} is no package: it has no {_PACKAGE}{_SUFFIX}", hint="name the files in it")
    top = folder.resolve()
    for path in sorted(top.rglob(f"*{_SUFFIX}")):
        yield _module(PurePosixPath(path.relative_to(top.parent).as_posix()), path.read_bytes(), str(path))


def _of_archive(path: Path) -> Iterator[Module]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(_SUFFIX):
                yield _module(PurePosixPath(name), archive.read(name), str(path.resolve() / name))


def _module(place: PurePosixPath, source: bytes, origin: str) -> Module:
    parts = place.with_suffix("").parts
    is_package = parts[-1] == _PACKAGE
    return Module(".".join(parts[:-1] if is_package else parts), source, origin, is_package)


def _check(module: Module) -> None:
    if not all(part.isidentifier() for part in module.name.split(".")):
        raise RequestError(f"{module.origin} has no name that can be imported", hint="take letters, digits and _")
    top = module.name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "minireduce":
        raise RequestError(f"{module.origin} would hide the module {top} that others import", hint="rename it")
    try:
        compile(importlib.util.decode_source(module.source), module.origin, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as cause:
        raise RequestError(f"{module.origin} is no Python: {cause}", hint="mend it") from cause
