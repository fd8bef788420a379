"""From a loaded job, its inputs and what the cluster is like to the request that is submitted.

Here the defaults are fixed that a job keeps for good: how many reducers, how much memory an attempt may use, which
splits. Whatever was said nearest to the job wins: a flag, then the job's own option, then a setting, then the default.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minireduce.api.job import Job
from minireduce.api.skipping import SkipLimit
from minireduce.api.step import Step
from minireduce.client.inputs import Inputs
from minireduce.client.outputs import Destination
from minireduce.client.splits import fitting_split_size, plan_splits_of_each, spread_split_size
from minireduce.config import Settings
from minireduce.core.spec import JobSpec, LocalFiles, OutputKind, Program, StepSpec
from minireduce.core.views import ClusterView
from minireduce.engine.parameters import ends_parameter
from minireduce.errors import RequestError, Unavailable
from minireduce.frozen import dataclass

INPUT_BYTES_PER_REDUCER = 64 << 20
STDOUT_PATH = "-"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beside the job itself: flags of `submit`, options of `run`."""

    output: OutputKind = OutputKind.RESULT
    destination: Destination | None = None  # of text; None: the standard output of the client
    overwrite: bool = False
    reducers: int | None = None
    name: str | None = None
    speculation: bool = True
    skip_limit: SkipLimit | None = None  # None: what the job says

    @property
    def output_path(self) -> str:
        """Where the output goes, as people read it."""
        if self.output is OutputKind.RESULT:
            return ""
        return STDOUT_PATH if self.destination is None else str(self.destination)


def must_be_uploaded(inputs: Inputs, cluster: ClusterView, machine_id: str) -> bool:
    """Whether there are local files to read, and no worker that sees the files of this machine."""
    return cluster.workers_live > 0 and machine_id not in cluster.machine_ids and bool(inputs.local_files)


def make_spec(
    job: Job[Any, Any],
    program: Program,
    inputs: Inputs,
    wishes: Wishes,
    *,
    cluster: ClusterView,
    settings: Settings,
    machine_id: str,
) -> JobSpec:
    """The job as it will be submitted. Raises RequestError or Unavailable where this cluster cannot run it."""
    if cluster.workers_live == 0:
        raise Unavailable("the cluster has no live worker", hint="minireduce cluster workers")
    spread = spread_split_size(settings.split_size, inputs.bytes_total, cluster.slots)
    split_size = fitting_split_size(job.steps[0], spread, _memory_limit(job.steps[0], settings, cluster))
    splits, input_ends = plan_splits_of_each(inputs, split_size, machine_id)
    local = next((split for split in splits if isinstance(split, LocalFiles)), None)
    if local is not None and machine_id not in cluster.machine_ids:
        raise RequestError(
            f"no worker runs on this machine, so none can read {local.ranges[0].path}",
            hint="store the input first: minireduce fs put FILE /FILE, and name it as mr:///FILE",
        )
    skip_limit = wishes.skip_limit or job.skip_limit
    return JobSpec(
        name=wishes.name or job.name,
        program=with_input_ends(program, input_ends),
        steps=tuple(
            StepSpec(
                reducers=choose_reducers(step, wishes.reducers, settings.reducers, inputs.bytes_total, cluster.slots),
                memory_limit_bytes=_memory_limit(step, settings, cluster),
                task_timeout_s=step.task_timeout_s or settings.task_timeout_s,
                record_bytes_max=settings.record_bytes_max,
                skips_bad_records=skip_limit.is_open,
            )
            for step in job.steps
        ),
        splits=splits,
        output=wishes.output,
        output_path=wishes.output_path,
        attempts_max=job.attempts_max or settings.attempts_max,
        losses_max=settings.losses_max,
        queue=settings.queue,
        priority=settings.priority,
        weight=settings.job_weight,
        time_limit_s=settings.time_limit_s,
        speculation=job.speculation and wishes.speculation,
        skipped_max=skip_limit.records_max,
        skipped_fraction_max=skip_limit.fraction_max,
    )


def with_input_ends(program: Program, ends: tuple[int, ...]) -> Program:
    """The program, told which splits are of which of several inputs."""
    return replace(program, parameters=(*program.parameters, ends_parameter(ends))) if ends else program


def default_reducers(input_bytes: int, slots: int) -> int:
    """One reducer for each 64 MiB of input, at least one, at most the slots."""
    return max(1, min(-(-input_bytes // INPUT_BYTES_PER_REDUCER), slots))


def choose_reducers(step: Step, wished: int | None, usual: int | None, input_bytes: int, slots: int) -> int:
    """How many reducers a step has: as its submitter wished, else as it says itself, else as is usual by the settings,
    else by the size of the input.
    """
    if step.is_map_only:
        return 0
    return wished or step.reducers or usual or default_reducers(input_bytes, slots)


def _memory_limit(step: Step, settings: Settings, cluster: ClusterView) -> int:
    # What a worker calls its memory is the share of its machine's that attempts may have together.
    return step.memory_limit_bytes or settings.memory_limit or cluster.memory_bytes_per_slot
