"""Turn a job's program into its `Job`: the one place where code that came from outside begins to run.

A program of kind "source" is the text of a job file. It is compiled under the path that it had at its author's
(`origin`) and its lines are given to `linecache`, so that tracebacks show them on machines that never had the file.
Where the file's folder exists here, modules beside the file can be imported, as with `python FILE`; those that travel
with the program can be imported everywhere (modules.py). A program of kind "pickle" is cloudpickle of a `Job`, as a
notebook sends it; only a task process loads one, and only made by the same Python.

The command line loads a job file with the same function, so what is refused here is refused before anything is
submitted.

Invariants: the SHA-256 that stands in the job is checked before anything of the program runs; errors are RequestErrors
that name file and line, or carry a traceback of the user's own frames.
"""

from __future__ import annotations

import hashlib
import linecache
import platform
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

from minireduce.api.job import Job
from minireduce.attempt.parameters import convert_parameters
from minireduce.core.spec import Module, Program
from minireduce.engine.errors import UserCodeError
from minireduce.engine.faults import in_one_line, user_traceback
from minireduce.engine.parameters import parted, with_chosen
from minireduce.errors import Corruption, RequestError, hint_on

SOURCE = "source"
PICKLE = "pickle"

MODULE_NAME = "minireduce_job"
"""What a job file is called as a module, in every process: values of its classes are pickled by this name."""


def python_version() -> str:
    """The version that a pickled program is tied to."""
    return ".".join(platform.python_version_tuple()[:2])


def source_program(
    path: Path, parameters: tuple[tuple[str, str], ...] = (), modules: tuple[Module, ...] = ()
) -> Program:
    """The program that a job file holds. Raises RequestError when it cannot be read."""
    try:
        body = path.read_bytes()
    except OSError as cause:
        raise RequestError(
            f"the job file {path} cannot be read: {cause.strerror}", hint="see the path after `submit`"
        ) from cause
    return Program(
        kind=SOURCE,
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        origin=str(path.resolve()),
        python_version=python_version(),
        parameters=parameters,
        modules=modules,
    )


def load_job(program: Program) -> Job[Any, Any]:
    """The job of `program`, with what was chosen for it at its submission.

    Raises RequestError, UserCodeError where its code raised, Corruption where it is damaged.
    """
    parameters, chosen = parted(program.parameters)
    return with_chosen(_loaded(replace(program, parameters=parameters)), chosen)


def _loaded(program: Program) -> Job[Any, Any]:
    if hashlib.sha256(program.body).hexdigest() != program.sha256:
        raise Corruption(f"the program of {program.origin or 'this job'} is not the one that was submitted")
    if program.modules:
        from minireduce.attempt.modules import install  # most programs have none

        install(program.modules)
    if program.files:
        from minireduce.attempt.shipped_files import check_files

        check_files(program.files)
    if program.kind == SOURCE:
        return _job_of(_run_source(program), program)
    if program.kind == PICKLE:
        return _unpickle(program)
    raise RequestError(f"a program of kind {program.kind!r} is unknown to this version")


def _run_source(program: Program) -> types.ModuleType:
    origin = program.origin or "<job>"
    module = types.ModuleType(MODULE_NAME)
    module.__file__ = origin
    code = _compile(program.body, origin)
    folder = str(Path(origin).parent)
    if folder not in sys.path and Path(folder).is_dir():
        sys.path.insert(0, folder)
    sys.modules[MODULE_NAME] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - running this very code is what the job was submitted for
    except (Exception, SystemExit) as error:
        raise _user_code_error(error, f"{origin} cannot be loaded") from error
    return module


def _compile(body: bytes, origin: str) -> types.CodeType:
    try:
        text = body.decode().removeprefix("\ufeff")
        # No modification time: linecache then keeps the lines even if another file has this path here.
        linecache.cache[origin] = (len(text), None, text.splitlines(keepends=True), origin)
        return compile(text, origin, "exec", dont_inherit=True)
    except SyntaxError as cause:
        line = f"\n    {cause.text.strip()}" if cause.text else ""
        raise RequestError(f"{origin}, line {cause.lineno}: {cause.msg}{line}", hint="mend the job file") from cause
    except (UnicodeDecodeError, ValueError) as cause:
        raise RequestError(f"{origin} is no Python text: {cause}", hint="job files are UTF-8") from cause


def _job_of(module: types.ModuleType, program: Program) -> Job[Any, Any]:
    """What the file calls `job`: a Job, or what the function of that name makes of the parameters."""
    found = getattr(module, "job", None)
    if found is None:
        raise RequestError(f"{program.origin} defines no `job`", hint="end the file with: job = Job(map, reduce)")
    if isinstance(found, Job):
        if program.parameters:
            raise RequestError(
                f"{program.origin} takes no parameters",
                hint="leave -p out, or write a function: def job(name: int = 1) -> Job",
            )
        return found
    if not callable(found):
        raise RequestError(
            f"`job` in {program.origin} is a {type(found).__name__}",
            hint="it must be a Job, or a function that gives one",
        )
    arguments = convert_parameters(found, program.parameters)
    try:
        made = found(**arguments)
    except RequestError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_code_error(error, f"the function `job` of {program.origin} raised") from error
    return _checked(made, f"the function `job` of {program.origin}")


def _unpickle(program: Program) -> Job[Any, Any]:
    if program.python_version != python_version():
        raise RequestError(
            f"the program was made by Python {program.python_version}, this worker runs {python_version()}",
            hint="use the same Python minor version on both sides, or submit a job file",
        )
    import cloudpickle

    try:
        made = cloudpickle.loads(program.body)
    except (Exception, SystemExit) as error:
        raise _user_code_error(error, "the pickled program cannot be loaded") from error
    return _checked(made, "the pickled program")


def _checked(made: object, whose: str) -> Job[Any, Any]:
    if not isinstance(made, Job):
        raise RequestError(f"{whose} gives a {type(made).__name__}", hint="it must give a Job")
    return made


def _user_code_error(error: BaseException, what: str) -> UserCodeError:
    exception_type = f"{type(error).__module__}.{type(error).__qualname__}"
    return UserCodeError(
        f"{what}: {in_one_line(error)}",
        hint=hint_on(exception_type),
        traceback_text=user_traceback(error),
        exception_type=exception_type,
    )
