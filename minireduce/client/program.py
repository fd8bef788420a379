"""A job object as a program that task processes can load: cloudpickle, for jobs made in a session or script.

Functions of `__main__`, of a notebook and of the user's own modules travel by value, since no worker has them; those of
installed packages travel by name, since every worker must have those anyway. A job file travels as its source instead
(`attempt.load`), which asks for no equal Python versions.
"""

from __future__ import annotations

import hashlib
import io
import platform
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from minireduce.api.job import Job
from minireduce.core.spec import Program
from minireduce.errors import RequestError

_NAMELESS = "<dynamic-code>"
_ROLES = ("mapper", "reduce", "reduce_batch", "combine", "partition", "sort_values")


def pickle_program(job: Job[Any, Any]) -> Program:
    """The program that is this job. Raises RequestError naming what cannot travel."""
    try:
        with _by_value(job):
            body = _dumps(job)
    except Exception as cause:  # whatever a user's object raises when it is asked for its state
        raise RequestError(
            f"the job {job.name} cannot be sent to other processes: {type(cause).__name__}: {cause}",
            hint="open files, locks and connections inside the map, not outside it",
        ) from cause
    return Program(
        kind="pickle",
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        origin=job.name,
        python_version=".".join(platform.python_version_tuple()[:2]),
    )


def _dumps(job: Job[Any, Any]) -> bytes:
    """Cloudpickle's bytes, in which functions keep the name of their file: a traceback from a task names it, and shows
    the line where the file is at hand. From 3.1.3 on cloudpickle itself puts a constant in its place.
    """
    import cloudpickle

    reduce_code = cloudpickle.Pickler.dispatch_table[CodeType]

    def named(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
        make, parts = reduce_code(code)
        return make, tuple(code.co_filename if isinstance(part, str) and part == _NAMELESS else part for part in parts)

    table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: named})
    pickler = type("WithFileNames", (cloudpickle.Pickler,), {"dispatch_table": table})
    with io.BytesIO() as body:
        pickler(body).dump(job)
        return body.getvalue()


@contextmanager
def _by_value(job: Job[Any, Any]) -> Iterator[None]:
    """Have the user's own modules travel with the job while it is pickled."""
    import cloudpickle

    with ExitStack() as undo:
        for module in _own_modules(job):
            cloudpickle.register_pickle_by_value(module)
            undo.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _own_modules(job: Job[Any, Any]) -> list[ModuleType]:
    """The modules of the job's functions that are not installed, each once."""
    found: dict[str, ModuleType] = {}
    for step in job.steps:
        for given in (*(getattr(step, role) for role in _ROLES), *(each.mapper for each in step.inputs)):
            name = getattr(given, "__module__", None) or type(given).__module__
            module = sys.modules.get(name)
            if module is not None and name != "__main__" and not _is_installed(module):
                found[name] = module
    return [found[name] for name in sorted(found)]


def _is_installed(module: ModuleType) -> bool:
    if module.__name__.partition(".")[0] == "minireduce" or getattr(module, "__file__", None) is None:
        return True
    assert module.__file__ is not None
    places = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("stdlib")]
    path = Path(module.__file__).resolve()
    return any(path.is_relative_to(Path(place).resolve()) for place in places)
