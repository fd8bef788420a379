"""Read what goes along with a job: files for its tasks, and modules that it imports (modules.py).

It travels with the program, within the limit of that, so it is for what a task looks things up in, not for input. Every
attempt that asks for its working directory gets files of its own to do with as it likes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from minireduce.api.job import Job
from minireduce.core.spec import Module, Program, ShippedFile
from minireduce.errors import RequestError
from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Shipped:
    """What goes along with a job."""

    files: tuple[ShippedFile, ...] = ()
    modules: tuple[Module, ...] = ()

    def beside(self, program: Program) -> Program:
        """The program with all of this; of two modules of one name, the one that was named goes."""
        named = {module.name for module in self.modules}
        others = tuple(module for module in program.modules if module.name not in named)
        return replace(program, files=self.files, modules=self.modules + others)


def shipped(job: Job[Any, Any], files: Iterable[str] = (), py_files: Iterable[str] = ()) -> Shipped:
    """What was named where the job is submitted, and what it names itself.

    Raises RequestError for what cannot be read, is no module, or would have the name of another.
    """
    modules = _each_once((*py_files, *job.py_files))
    return Shipped(read_files(_each_once((*files, *job.files))), _read_modules(modules) if modules else ())


def _read_modules(paths: list[Path]) -> tuple[Module, ...]:
    from minireduce.client.modules import read_modules  # which opens archives; most jobs bring none along

    return read_modules(paths)


def read_files(paths: Iterable[Path]) -> tuple[ShippedFile, ...]:
    """These files, whole. Raises RequestError for what cannot be read, is no file, or has the name of another."""
    found: dict[str, ShippedFile] = {}
    for path in paths:
        file = _read(path)
        if file.name in found:
            raise RequestError(
                f"the file {file.name} comes from {found[file.name].origin} and from {file.origin}",
                hint="tasks find files by their names alone: rename one of them",
            )
        found[file.name] = file
    return tuple(found.values())


def _read(path: Path) -> ShippedFile:
    if path.is_dir():
        raise RequestError(f"{path} is a directory", hint="name the files in it, or one archive of them")
    if path.exists() and not path.is_file():  # to read a pipe might never end
        raise RequestError(f"{path} is no regular file", hint="write what it gives to a file, and name that")
    try:
        data = path.read_bytes()
        is_executable = os.access(path, os.X_OK)
    except OSError as cause:
        raise RequestError(
            f"{path} cannot be read: {cause.strerror}", hint="see --files, or files= of the job"
        ) from cause
    return ShippedFile(path.name, data, hashlib.sha256(data).hexdigest(), str(path.resolve()), is_executable)


def _each_once(paths: Iterable[str]) -> list[Path]:
    """The paths, one for each place: the job file and the command may name the same."""
    return list({os.path.realpath(path): Path(path) for path in paths}.values())
