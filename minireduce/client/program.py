"""A job object as a program that task processes can load: cloudpickle, for jobs made in a session or script.

Functions of `__main__`, of a notebook and of the modules of the job's own functions travel by value, since no worker
has them. Those of installed packages travel by name, since every worker must have those anyway, and so do those of
other modules of the user's, which go along (own_modules.py). A job file travels as its source instead
(`attempt.load`), which asks for no equal Python versions.
"""

from __future__ import annotations

import functools
import hashlib
import io
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import CodeType, ModuleType
from typing import Any

from minireduce.api.job import Job
from minireduce.client.own_modules import is_own, modules_named_in
from minireduce.core.spec import Program
from minireduce.errors import RequestError

_NAMELESS = "<dynamic-code>"
_CACHED = type(functools.cache(len))
_ROLES = ("mapper", "reduce", "reduce_batch", "combine", "partition", "sort_values")


def pickle_program(job: Job[Any, Any]) -> Program:
    """The program that is this job. Raises RequestError naming what cannot travel."""
    try:
        sent_whole = _modules_of(job)
        names = {module.__name__ for module in sent_whole}
        with _by_value(sent_whole):
            body = _dumps(job, names)
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
        modules=modules_named_in(body, names),
    )


def _dumps(job: Job[Any, Any], by_value: set[str]) -> bytes:
    """Cloudpickle's bytes, in which functions keep the name of their file: a traceback from a task names it, and shows
    the line where the file is at hand. From 3.1.3 on cloudpickle itself puts a constant in its place.

    What `functools.cache` has made of a function travels as that function does, and begins with an empty cache;
    cloudpickle sends its name alone.
    """
    import cloudpickle

    reduce_code = cloudpickle.Pickler.dispatch_table[CodeType]

    def named(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
        make, parts = reduce_code(code)
        return make, tuple(code.co_filename if isinstance(part, str) and part == _NAMELESS else part for part in parts)

    def cached(wrapper: Any) -> str | tuple[Any, tuple[Any, ...]]:
        if wrapper.__module__ in by_value or wrapper.__module__ == "__main__" or "<locals>" in wrapper.__qualname__:
            return _cached_again, (wrapper.__wrapped__, wrapper.cache_parameters())
        name: str = wrapper.__reduce__()
        return name

    table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: named, _CACHED: cached})
    pickler = type("WithFileNames", (cloudpickle.Pickler,), {"dispatch_table": table})
    with io.BytesIO() as body:
        pickler(body).dump(job)
        return body.getvalue()


def _cached_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    """Have these modules travel with the job while it is pickled."""
    import cloudpickle

    with ExitStack() as undo:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            undo.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _modules_of(job: Job[Any, Any]) -> list[ModuleType]:
    """The modules of the job's functions that are not installed, each once."""
    found: dict[str, ModuleType] = {}
    for step in job.steps:
        for given in (*(getattr(step, role) for role in _ROLES), *(each.mapper for each in step.inputs)):
            name = getattr(given, "__module__", None) or type(given).__module__
            module = sys.modules.get(name)
            if module is not None and is_own(module):
                found[name] = module
    return [found[name] for name in sorted(found)]
