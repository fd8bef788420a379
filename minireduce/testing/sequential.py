"""What a job means, in plain Python: the run that every other run is judged by. It imports nothing of the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minireduce.api.aggregations import Aggregation
from minireduce.api.job import Job


def _order(key: Any) -> Any:
    """None first, at each position of a tuple."""
    if isinstance(key, tuple):
        return (1, tuple(map(_order, key)))
    return (0, 0) if key is None else (1, key)


def run_sequentially(job: Job[Any, Any], records: Iterable[Any]) -> list[tuple[Any, Any]]:
    """All pairs of the job by ascending key (map-only steps: in input order)."""
    pairs: list[tuple[Any, Any]] = list(records)
    for step in job.steps:
        if step.map_records is not None:
            pairs = list(step.map_records(iter(pairs)))
        if step.map is not None:
            results = (step.map(*record) if step.takes_pairs else step.map(record) for record in pairs)
            pairs = [pair for result in results for pair in result]
        assert step.reduce_batch is None, "only functions of single groups are run here"
        if step.reduce is None:
            continue
        groups: dict[Any, list[Any]] = {}
        for key, value in pairs:
            groups.setdefault(key, []).append(value)
        pairs = []
        for key in sorted(groups, key=_order):
            values = groups[key]
            if step.sort_values:
                values.sort(key=None if step.sort_values is True else step.sort_values)
            if isinstance(step.reduce, Aggregation):
                pairs.append((key, step.reduce.finish(step.reduce.add_all(step.reduce.start(), values))))
            else:
                pairs.extend(step.reduce(key, iter(values)))
    return pairs
