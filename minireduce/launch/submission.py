"""Submit a job: what `Job.run`, `Job.submit` and `minireduce submit` have in common."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from minireduce import config
from minireduce.api.partitioners import Range
from minireduce.api.shipped import Paths, paths_of
from minireduce.api.skipping import parse_skip_limit
from minireduce.api.step import check_reducers
from minireduce.core.spec import JobSpec, OutputKind, Program
from minireduce.errors import RequestError, Unavailable
from minireduce.launch.job_handle import JobHandle
from minireduce.launch.session import Session

if TYPE_CHECKING:
    from minireduce.api.job import Job
    from minireduce.client.inputs import Inputs, Named
    from minireduce.client.job_spec import Wishes
    from minireduce.client.result import JobResult
    from minireduce.client.staging import OnUpload
    from minireduce.ids import JobId
    from minireduce.launch.embedded import EmbeddedCluster

K = TypeVar("K")
V = TypeVar("V")


def run(
    job: Job[K, V],
    *inputs: Named,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    inline: bool = False,
    master: str | EmbeddedCluster | None = None,
    slots: int | None = None,
    reducers: int | None = None,
    name: str | None = None,
    speculation: bool = True,
    skip_bad_records: int | str | None = None,
    files: Paths = (),
    py_files: Paths = (),
    **options: Any,
) -> JobResult[K, V]:
    """Run `job` over `inputs` and wait for its end; see `Job.run`. Inline, nobody sees the name, and nothing is tried
    twice.
    """
    if not inline:
        handle = submit(
            job,
            *inputs,
            output=output,
            overwrite=overwrite,
            master=master,
            slots=slots,
            reducers=reducers,
            name=name,
            speculation=speculation,
            skip_bad_records=skip_bad_records,
            files=files,
            py_files=py_files,
            **options,
        )
        return handle.wait()
    from minireduce.attempt.modules import importable
    from minireduce.client.inputs import find_inputs, resolve
    from minireduce.client.outputs import find_output
    from minireduce.client.shipping import shipped
    from minireduce.launch.here import run_here

    if master is not None or slots is not None:
        raise RequestError("inline runs here and now, one task at a time", hint="leave master and slots out")
    check_reducers(reducers)
    configuration = config.load(options)
    target = None if output is None else find_output(output, None)
    if target is not None:
        target.check(overwrite=overwrite)
    found = find_inputs(job, inputs, resolve)
    along = shipped(job, paths_of("files", files), paths_of("py_files", py_files))
    with importable(along.modules):
        return run_here(
            job,
            found,
            configuration.settings,
            target=target,
            overwrite=overwrite,
            reducers=reducers,
            skip_limit=None if skip_bad_records is None else parse_skip_limit(skip_bad_records),
            files=along.files,
        )


def submit(
    job: Job[K, V],
    *inputs: Named,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    master: str | EmbeddedCluster | None = None,
    slots: int | None = None,
    reducers: int | None = None,
    name: str | None = None,
    speculation: bool = True,
    skip_bad_records: int | str | None = None,
    files: Paths = (),
    py_files: Paths = (),
    **settings: object,
) -> JobHandle[K, V]:
    """Start `job` over `inputs`; see `Job.submit`. `settings` are settings by name, such as `memory_limit`."""
    from minireduce.client.inputs import find_inputs
    from minireduce.client.job_spec import Wishes
    from minireduce.client.program import pickle_program
    from minireduce.client.shipping import shipped

    check_reducers(reducers)
    along = shipped(job, paths_of("files", files), paths_of("py_files", py_files))
    cluster = None if isinstance(master, str) else master
    configuration = config.load({"master": master if cluster is None else None, **settings})
    session = Session(configuration, slots=slots, cluster=cluster)
    try:
        target = None if output is None else session.find_output(output)
        found = find_inputs(job, inputs, session.resolve)
        if target is not None:
            target.check(overwrite=overwrite)
            target.check_apart(found)
        wishes = Wishes(
            output=OutputKind.RESULT if target is None else OutputKind.TEXT,
            destination=target,
            overwrite=overwrite,
            reducers=reducers,
            name=name,
            speculation=speculation,
            skip_limit=None if skip_bad_records is None else parse_skip_limit(skip_bad_records),
        )
        return submit_program(session, job, along.beside(pickle_program(job)), found, wishes, owns_session=True)
    except BaseException:
        session.close()
        raise


def submit_program(
    session: Session,
    job: Job[K, V],
    program: Program,
    inputs: Inputs,
    wishes: Wishes,
    *,
    owns_session: bool = False,
    on_upload: OnUpload | None = None,
    reads_in_place: bool = True,
) -> JobHandle[K, V]:
    """Submit the job, once its local input is where workers can read it; `on_upload` hears of that.

    `reads_in_place`: whether workers that see the files of this machine may also open those of the input.

    Raises RequestError where this cluster cannot run the job.
    """
    from minireduce.client import jobs, parts, publish  # noqa: F401 - imported while the cluster starts
    from minireduce.client.job_spec import make_spec, must_be_uploaded
    from minireduce.machine import machine_id

    sample = _sample(session, job, program, inputs)
    connection, cluster, here, key = (
        session.connection,
        session.describe(),
        machine_id() if reads_in_place and (session.is_embedded or not inputs.fetched) else "",
        jobs.new_key(),
    )
    readable = inputs
    is_uploaded = must_be_uploaded(inputs, cluster, here)
    if is_uploaded:
        from minireduce.client.staging import remove, upload

        copies = min(session.settings.staging_replication, cluster.workers_live)
        readable = upload(connection.fs, inputs, key, replication=copies, on_upload=on_upload)
    try:
        spec = make_spec(job, program, readable, wishes, cluster=cluster, settings=session.settings, machine_id=here)
        if sample is not None:
            from minireduce.client.sampling import bound

            spec = replace(spec, program=bound(spec.program, sample, spec.steps[0].reducers))
        submitted = send(session, spec, key)
    except RequestError:  # after any other the job may run all the same
        if is_uploaded:
            remove(connection.fs, key)
        raise
    return JobHandle(
        session,
        submitted,
        wishes,
        owns_session=owns_session,
        reads=(*inputs.results, *inputs.fetched),
        may_skip=spec.skips_bad_records,
        spec=spec,
        outputs=job.outputs,
    )


def _sample(session: Session, job: Job[Any, Any], program: Program, inputs: Inputs) -> list[bytes] | None:
    """Keys to choose the bounds of `Range()` from, if the job needs any: taken while a cluster of its own starts."""
    if not isinstance(job.steps[0].partition, Range):
        return None
    from minireduce.attempt.modules import importable
    from minireduce.attempt.shipped_files import lay_out
    from minireduce.client.sampling import needs_bounds, take_sample

    if not needs_bounds(job):
        return None
    with importable(program.modules):
        return take_sample(job, inputs, session.open_input, partial(lay_out, program.files))


def send(session: Session, spec: JobSpec, key: str) -> JobId:
    """Submit a job, and say of one whose submission had no answer that it may run all the same."""
    from minireduce.client import jobs

    try:
        return jobs.submit(session.connection, spec, key)
    except Unavailable as error:
        if session.is_embedded:
            raise
        raise Unavailable(
            f"nobody knows whether {spec.name!r} was submitted: {error.message}",
            hint=f"once the master is back, `minireduce jobs --master {session.connection.address}` shows it if so",
        ) from error
