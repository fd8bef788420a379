"""Find reduces that take long because one key has most of their records.

A hot key is as long wherever it is reduced, so a backup of its task would only burn a slot; what helps is known to who
wrote the job: another key, a combine, a declared aggregation. So it is told, with the key and its share, where it
matters: the key has a large share of its partition, and the partition is much larger than the others.

Elsewhere: what a task finds to be its largest key (engine), who tells people (cli, web).
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.task import Task
from minireduce.core.settings import ClusterSettings
from minireduce.ids import TaskKind


def notes(job: Job, settings: ClusterSettings) -> Iterator[str]:
    """The hot keys of a job as far as its reduces have met them, for people."""
    for step in job.steps:
        for task in step.reduces:
            largest = task.largest_key
            if largest is not None and has_hot_key(step, task, settings):
                times = task.input_bytes / max(_usual_bytes(step, task), 1)
                yield (
                    f"a hot key: {largest.key} has {largest.share:.0%} of partition {task.id.index} of step "
                    f"{step.index}, {largest.records:,} values; the partition is {times:.1f} times as large as others"
                )


def has_hot_key(step: Step, task: Task, settings: ClusterSettings) -> bool:
    """Whether one key makes this reduce long."""
    largest = task.largest_key
    if largest is None or largest.share < settings.hot_key_share_min or task.id.kind is TaskKind.MAP:
        return False
    usual_bytes = _usual_bytes(step, task)
    return 0 < usual_bytes * settings.hot_partition_ratio_min <= task.input_bytes


def _usual_bytes(step: Step, task: Task) -> float:
    """The size of a usual partition among the others; 0 while none is known."""
    return median([other.input_bytes for other in step.reduces if other.input_bytes and other is not task] or [0])
