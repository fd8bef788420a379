"""The bounds of `Range()` as they travel: with the program of a job, as a parameter that no user can have named.

Elsewhere: how they are chosen from a sample, and the partition of a key among them (ranges.py, which imports arrays;
this module imports nothing heavy, since whoever loads a job file asks here).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minireduce.api.job import Job
from minireduce.api.partitioners import Range

_PARAMETER = "Range()"  # which no parameter of a user can be called


def with_bounds(job: Job[Any, Any], bounds: tuple[bytes, ...]) -> Job[Any, Any]:
    """The job with these bounds in its first step."""
    return job.with_steps((replace(job.steps[0], partition=Range(bounds)), *job.steps[1:]))


def bounds_parameter(bounds: tuple[bytes, ...]) -> tuple[str, str]:
    """Bounds as they travel with a program, beside the parameters of its user."""
    return _PARAMETER, ",".join(bound.hex() for bound in bounds)


def parted_bounds(
    parameters: tuple[tuple[str, str], ...],
) -> tuple[tuple[bytes, ...] | None, tuple[tuple[str, str], ...]]:
    """The bounds that came with these parameters, if any did, and the parameters of the user."""
    given = [text for name, text in parameters if name == _PARAMETER]
    bounds = tuple(map(bytes.fromhex, filter(None, given[-1].split(",")))) if given else None
    return bounds, tuple(each for each in parameters if each[0] != _PARAMETER)
