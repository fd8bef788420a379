"""`minireduce submit`: the flags, what is shown meanwhile, and where the pairs go."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minireduce.api.bad_record import BadRecord
from minireduce.api.skipping import SkipLimit, parse_skip_limit
from minireduce.cli.failures import found_bad
from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.standard_input import spooled
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

if TYPE_CHECKING:
    from minireduce.api.job import Job
    from minireduce.cli.progress import Progress
    from minireduce.client.inputs import Inputs, Resolve
    from minireduce.client.result import CounterGroups, JobResult
    from minireduce.core.spec import Module, Program
    from minireduce.core.views import JobView
    from minireduce.launch.job_handle import JobHandle

KILL_WAIT_S = 5.0
EPILOG = "Example:  minireduce submit wordcount.py books/*.txt -o counts"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed."""

    job_file: Path
    inputs: tuple[str, ...]
    output: str | None
    overwrite: bool
    slots: int | None
    inline: bool
    parameters: tuple[str, ...]
    files: tuple[str, ...]
    py_files: tuple[str, ...]
    reducers: int | None
    speculation: bool
    queue: str | None
    priority: int | None
    job_weight: float | None
    time_limit: float | None
    skip_bad_records: SkipLimit | None
    name: str | None
    detach: bool
    quiet: bool
    is_json: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job went, as it is told."""

    job: str
    name: str
    state: str
    elapsed_s: float
    counters: CounterGroups
    output: str | None
    skipped: int = 0


@click.command(epilog=EPILOG)
@click.argument("job_file", metavar="JOB.py", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="[INPUT | NAME=INPUT]...", nargs=-1)
@click.option("-o", "--output", metavar="OUTPUT", help="Directory for the output, here or mr:///PATH; must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace the output directory, at the end and at once.")
@click.option("--slots", type=click.IntRange(min=1), help="Attempts at once in an embedded cluster.")
@click.option("--inline", is_flag=True, help="Run in this process, without any cluster: for debuggers.")
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter of the job file's `job`.")
@click.option("--files", metavar="F", multiple=True, help="A file for tasks to find in their working directory.")
@click.option(
    "--py-files",
    metavar="F",
    multiple=True,
    help="A module, package or zip archive that the job imports, to go with it.",
)
@click.option("--reducers", type=click.IntRange(min=1), help="Parts of the output.")
@click.option(
    "--no-speculation", "speculation", is_flag=True, flag_value=False, default=True, help="No backup attempts."
)
@click.option(
    "--skip-bad-records",
    metavar="N|P%",
    callback=lambda _context, _option, given: None if given is None else parse_skip_limit(given),
    help="Leave out up to N records, or P% of those read, that cannot be computed.",
)
@click.option("--name", help="What the job is called in listings.")
@click.option("--queue", help="The queue of the cluster to wait in.")
@click.option("--priority", type=int, help="Within its queue the job with the higher number goes first; default 0.")
@click.option("--job-weight", type=float, help="Its share beside jobs of the same queue and priority; default 1.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="End the job when it is not done by then.")
@click.option("--detach", is_flag=True, help="Return once the job is submitted.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
@common_options
def submit(common: Common, **options: Any) -> None:
    """Run the job that JOB.py defines over files, directories or globs.

    For a job with several inputs each is named: users=PATH orders=PATH.

    Without a cluster (--master, MINIREDUCE_MASTER or the settings) one is started here and ends with the command.
    Without -o the pairs go to standard output.
    """
    from minireduce.cli.progress import Progress

    wanted = Wanted(**options)
    progress = Progress(is_quiet=wanted.quiet or wanted.is_json)
    _check(wanted)
    with spooled(wanted.inputs) as inputs:
        is_spooled = inputs != tuple(wanted.inputs)
        wanted = replace(wanted, inputs=inputs)
        if wanted.inline:
            _run_inline(wanted, common, progress)
        else:
            _run(wanted, common, progress, is_spooled=is_spooled)


def _check(wanted: Wanted) -> None:
    """Refuse what can be seen to be wrong before anything starts."""
    from minireduce.client.outputs import find_output
    from minireduce.client.store_paths import is_store_path

    if not wanted.job_file.is_file():
        raise RequestError(f"the job file {wanted.job_file} does not exist", hint="see the path after `submit`")
    if wanted.detach and wanted.output is not None:
        raise RequestError(
            "an output is put in place by this command, which --detach would end",
            hint="leave -o out: the result stays in the cluster; or leave --detach out",
        )
    if wanted.inline and (wanted.detach or wanted.slots is not None):
        raise RequestError("--inline runs here and now, one task at a time", hint="leave --detach and --slots out")
    if wanted.overwrite and wanted.output is None:
        raise RequestError("--overwrite replaces an output directory", hint="name it with -o")
    if wanted.output is not None and (wanted.inline or not is_store_path(wanted.output)):
        find_output(wanted.output, None).check(overwrite=wanted.overwrite)


def _run(wanted: Wanted, common: Common, progress: Progress, *, is_spooled: bool) -> None:
    from minireduce.client.job_spec import Wishes
    from minireduce.core.spec import OutputKind
    from minireduce.launch.session import Session

    configuration = common.configuration(
        queue=wanted.queue, priority=wanted.priority, job_weight=wanted.job_weight, time_limit_s=wanted.time_limit
    )
    if wanted.detach and configuration.settings.master is None:
        raise RequestError("--detach needs a cluster that stays", hint="name it with --master")
    is_typed = wanted.detach or (wanted.is_json and wanted.output is None)
    with Session(configuration, slots=wanted.slots) as session:
        from minireduce.launch.submission import submit_program  # while the cluster starts

        job, program, inputs = _load(wanted, progress, session.resolve)
        target = None if wanted.output is None else session.find_output(wanted.output)
        if target is not None:
            target.check(overwrite=wanted.overwrite)
            target.check_apart(inputs)
        wishes = Wishes(
            output=OutputKind.RESULT if is_typed else OutputKind.TEXT,
            destination=target,
            overwrite=wanted.overwrite,
            reducers=wanted.reducers,
            name=wanted.name,
            speculation=wanted.speculation,
            skip_limit=wanted.skip_bad_records,
        )
        handle = submit_program(
            session,
            job,
            program,
            inputs,
            wishes,
            on_upload=progress.upload,
            reads_in_place=session.is_embedded or not is_spooled,
        )
        if wanted.detach:
            _tell_detached(handle, is_json=wanted.is_json)
            return
        session.connection.on_wait = progress.wait
        progress.say(f"{handle.id} runs {wishes.name or job.name}")
        with _killed_unless_done(handle), _offering_replay(handle):
            handle.follow(progress, interval_s=progress.interval_s)
            _deliver(handle, wanted, progress)


def _load(wanted: Wanted, progress: Progress, resolve: Resolve) -> tuple[Job[Any, Any], Program, Inputs]:
    """The job and its input files, checked here since a mistake in them should cost no job."""
    from minireduce.attempt.load import load_job, source_program
    from minireduce.cli.show import plural, size
    from minireduce.client.inputs import find_inputs, name_inputs

    parameters = tuple(_parameter(text) for text in wanted.parameters)
    program = source_program(wanted.job_file, parameters, _modules(wanted.py_files))
    job = load_job(program)
    if wanted.files or job.files or job.py_files:
        from minireduce.client.shipping import shipped  # most jobs bring nothing along

        program = shipped(job, wanted.files, wanted.py_files).beside(program)
    _check_outputs(job, wanted)
    inputs = find_inputs(job, name_inputs(job, wanted.inputs), resolve)
    if inputs.numbers is not None:
        progress.say(f"input: {inputs.numbers.count:,} numbers")
        return job, program, inputs
    passed = f", {plural(inputs.passed_over, 'name')} passed over" if inputs.passed_over else ""
    progress.say(f"input: {plural(len(inputs.files), 'file')}, {size(inputs.bytes_total)}{passed}")
    return job, program, inputs


def _check_outputs(job: Job[Any, Any], wanted: Wanted) -> None:
    """Refuse a job whose outputs would have no place."""
    if job.outputs and wanted.output is None and not (wanted.is_json or wanted.detach):
        raise RequestError(
            f"{job.name} has outputs beside its pairs: {', '.join(job.outputs)}",
            hint="name an OUTPUT directory with -o: they are put into directories of their names in it",
        )


def _print_as_json(result: JobResult[Any, Any]) -> None:
    from minireduce.cli.show import print_json

    for key, value in result:
        print_json({"key": key, "value": value})
    for name, pairs in result.outputs.items():
        for key, value in pairs:
            print_json({"output": name, "key": key, "value": value})


def _modules(paths: tuple[str, ...]) -> tuple[Module, ...]:
    if not paths:
        return ()
    from minireduce.client.modules import read_modules

    return read_modules(map(Path, paths))


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise RequestError(f"-p {text} is no parameter", hint="write -p NAME=VALUE")
    return name, value


@contextmanager
def _killed_unless_done(handle: JobHandle[Any, Any]) -> Iterator[None]:
    """Kill the job when the command ends early: nobody would fetch its output."""
    from minireduce.errors import JobFailed, MinireduceError, Unavailable

    try:
        yield
    except JobFailed:
        raise
    except BaseException as error:
        if not isinstance(error, Unavailable):
            with suppress(MinireduceError):  # what ended the command is what gets told
                handle.kill(f"its submitter ended: {type(error).__name__}", wait_s=KILL_WAIT_S)
        raise


@contextmanager
def _offering_replay(handle: JobHandle[Any, Any]) -> Iterator[None]:
    """Keep what failed maps read, and say how to run one of them again."""
    from minireduce.errors import JobFailed

    try:
        yield
    except JobFailed as error:
        from minireduce.launch.replaying import keep

        failed = [each.attempt.task for each in error.errors if hasattr(each, "attempt")]
        task = None if handle.spec is None else keep(handle.id, handle.spec, failed)
        if task is not None:
            error.hint = f"{error.hint}; minireduce replay {task} runs that task again in one process"
        raise


def _deliver(handle: JobHandle[Any, Any], wanted: Wanted, progress: Progress) -> None:
    """Bring the pairs to where they were wanted, and say how the job went."""
    from minireduce.client.result import read_counters
    from minireduce.core.texts import RECORDS_LEFT_OUT

    if wanted.is_json and wanted.output is None:
        shown = _print_pairs_as_json(handle)
    else:
        shown = handle.publish(None if wanted.output is not None else sys.stdout.buffer)
    for note in (note for note in shown.notes if RECORDS_LEFT_OUT not in note):  # that is the last line's to say
        progress.say(f"note: {note}")
    skipped = handle.skipped()
    ended = Ended(
        shown.job,
        shown.name,
        str(shown.state),
        shown.elapsed_s,
        read_counters(shown.counters),
        wanted.output,
        len(skipped),
    )
    _tell(ended, skipped, progress, is_json=wanted.is_json)


def _print_pairs_as_json(handle: JobHandle[Any, Any]) -> JobView:
    result = handle.wait()
    _print_as_json(result)
    shown = handle.view()
    result.close()
    return shown


def _tell(ended: Ended, skipped: Sequence[BadRecord], progress: Progress, *, is_json: bool) -> None:
    """The last words: an object on standard output, or lines on standard error."""
    from minireduce.cli.show import duration, plural, print_json
    from minireduce.client.quarantine import QUARANTINE_NAME

    if is_json:
        print_json(ended)
        return
    counters = ended.counters["minireduce"]
    records_out = counters["REDUCE_OUTPUT_RECORDS"] or counters["MAP_OUTPUT_RECORDS"]
    progress.say(
        f"{ended.job} {ended.state} in {duration(ended.elapsed_s)}: "
        f"{counters['MAP_INPUT_RECORDS']:,} records in, {records_out:,} out"
    )
    for line in found_bad(skipped) if ended.output is None else ():
        progress.say(line)
    if skipped:
        where = f", see {ended.output}/{QUARANTINE_NAME}" if ended.output is not None else ""
        progress.say(f"{plural(len(skipped), 'record')} that could not be computed left out{where}")
    if ended.output is not None:
        progress.say(f"output: {ended.output}")


def _tell_detached(handle: JobHandle[Any, Any], *, is_json: bool) -> None:
    from minireduce.cli.show import print_json

    if is_json:
        print_json({"job": handle.id})
    else:
        print(handle.id)


def _run_inline(wanted: Wanted, common: Common, progress: Progress) -> None:
    """Run in this process; what is shown and where pairs go is the same."""
    from minireduce.attempt.modules import importable
    from minireduce.client.inputs import resolve
    from minireduce.client.outputs import find_output
    from minireduce.launch.here import run_here

    began_s = time.monotonic()
    settings = common.configuration().settings
    job, program, inputs = _load(wanted, progress, resolve)
    is_typed = wanted.is_json and wanted.output is None
    with importable(program.modules):
        result = run_here(
            job,
            inputs,
            settings,
            target=None if wanted.output is None else find_output(wanted.output, None),
            stream=None if is_typed or wanted.output is not None else sys.stdout.buffer,
            overwrite=wanted.overwrite,
            reducers=wanted.reducers,
            skip_limit=wanted.skip_bad_records,
            files=program.files,
        )
    if is_typed:
        _print_as_json(result)
    ended = Ended(
        result.id,
        wanted.name or job.name,
        "succeeded",
        time.monotonic() - began_s,
        result.counters,
        wanted.output,
        len(result.skipped),
    )
    result.close()
    _tell(ended, result.skipped, progress, is_json=wanted.is_json)
