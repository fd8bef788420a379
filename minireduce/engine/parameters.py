"""What is chosen for a job when it is submitted, on its way to the tasks: as parameters beside those of the user.

Names with brackets, which no parameter of a user can have. The cluster passes parameters on and looks at none.

Elsewhere: how bounds are chosen from a sample, and the partition of a key among them (ranges.py, which imports arrays;
this module imports nothing heavy, since whoever loads a job file asks here).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minireduce.api.job import Job
from minireduce.api.partitioners import Range

Parameters = tuple[tuple[str, str], ...]

_BOUNDS = "Range()"
_ENDS = "inputs()"


def bounds_parameter(bounds: tuple[bytes, ...]) -> tuple[str, str]:
    """The bounds of `Range()`."""
    return _BOUNDS, ",".join(bound.hex() for bound in bounds)


def ends_parameter(ends: tuple[int, ...]) -> tuple[str, str]:
    """The first split after those of each of several inputs."""
    return _ENDS, ",".join(map(str, ends))


def parted(parameters: Parameters) -> tuple[Parameters, dict[str, str]]:
    """The parameters of the user, and what was chosen."""
    chosen = {name: text for name, text in parameters if name in (_BOUNDS, _ENDS)}
    return tuple(each for each in parameters if each[0] not in chosen), chosen


def with_chosen(job: Job[Any, Any], chosen: dict[str, str]) -> Job[Any, Any]:
    """The job with what was chosen for its first step."""
    if _BOUNDS in chosen:
        job = with_bounds(job, tuple(map(bytes.fromhex, filter(None, chosen[_BOUNDS].split(",")))))
    if _ENDS in chosen:
        job = with_input_ends(job, tuple(map(int, chosen[_ENDS].split(","))))
    return job


def with_bounds(job: Job[Any, Any], bounds: tuple[bytes, ...]) -> Job[Any, Any]:
    """The job with these bounds in its first step."""
    return job.with_steps((replace(job.steps[0], partition=Range(bounds)), *job.steps[1:]))


def with_input_ends(job: Job[Any, Any], ends: tuple[int, ...]) -> Job[Any, Any]:
    """The job with the splits of each of its inputs told."""
    return job.with_steps((replace(job.steps[0], input_ends=ends), *job.steps[1:]))
