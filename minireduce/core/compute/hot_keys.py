"""Find reduces that take long because one key has most of their records.

A hot key is as long wherever it is reduced, so a backup of its task would only burn a slot; what helps is known to who
wrote the job: another key, a combine, a declared aggregation. So it is told, with the key and its share, where it
matters: the key has a large share of its partition, and the partition is much larger than the others.

Elsewhere: what a task finds to be its largest key (engine), who tells people (cli, web).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.task import Task
from minireduce.core.settings import ClusterSettings
from minireduce.ids import TaskKind


def notes(job: Job, settings: ClusterSettings) -> Iterator[str]:
    """The hot keys of a job as far as its reduces have met them, for people."""
    for step in job.steps:
        if all(task.largest_key is None for task in step.reduces):
            continue
        sizes = _sizes(step)
        for task in step.reduces:
            largest = task.largest_key
            usual_bytes = _usual_among_others(sizes, task.input_bytes)
            if largest is not None and _is_hot(task, usual_bytes, settings):
                yield (
                    f"a hot key: {largest.key} has {largest.share:.0%} of partition {task.id.index} of step "
                    f"{step.index}, {largest.records:,} values; the partition is {task.input_bytes / usual_bytes:.1f} "
                    "times as large as others"
                )


def has_hot_key(step: Step, task: Task, settings: ClusterSettings) -> bool:
    """Whether one key makes this reduce long."""
    if task.largest_key is None or task.largest_key.share < settings.hot_key_share_min:
        return False  # known without a look at the others
    return _is_hot(task, _usual_among_others(_sizes(step), task.input_bytes), settings)


def _is_hot(task: Task, usual_bytes: float, settings: ClusterSettings) -> bool:
    largest = task.largest_key
    if largest is None or largest.share < settings.hot_key_share_min or task.id.kind is TaskKind.MAP:
        return False
    return 0 < usual_bytes * settings.hot_partition_ratio_min <= task.input_bytes


def _sizes(step: Step) -> list[int]:
    """The sizes of all partitions that are known, in ascending order."""
    return sorted(task.input_bytes for task in step.reduces if task.input_bytes)


def _usual_among_others(sizes: list[int], own: int) -> float:
    """The median without one partition of this size; 0 when no other is known."""
    others = len(sizes) - 1 if own else len(sizes)
    if others < 1:
        return 0
    gap = bisect_left(sizes, own) if own else others
    middle = [sizes[at + (at >= gap)] for at in ((others - 1) // 2, others // 2)]
    return sum(middle) / 2
