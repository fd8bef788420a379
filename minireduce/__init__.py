"""minireduce: MapReduce for Python, from one file on a laptop to a cluster of machines that fail.

Names load when they are first used, so that `import minireduce` and `minireduce --help` stay instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minireduce.api import hooks as _hooks

if TYPE_CHECKING:
    from minireduce.api import columns, task
    from minireduce.api.aggregations import (
        Agg,
        Aggregation,
        Collect,
        Count,
        Distinct,
        First,
        Max,
        Mean,
        Min,
        Sum,
        TopK,
    )
    from minireduce.api.formats import Bytes, Csv, FixedWidth, Json, KeyValue, Numbers, Pairs, Parquet, Text
    from minireduce.api.identity import Identity
    from minireduce.api.job import Job
    from minireduce.api.partitioners import Hash, Range
    from minireduce.client.connection import connect
    from minireduce.client.result import JobResult
    from minireduce.errors import JobFailed
    from minireduce.launch.local_cluster import LocalCluster

__version__ = "0.1.0"
__all__ = [
    "Agg",
    "Aggregation",
    "Bytes",
    "Collect",
    "Count",
    "Csv",
    "Distinct",
    "First",
    "FixedWidth",
    "Hash",
    "Identity",
    "Job",
    "JobFailed",
    "JobResult",
    "Json",
    "KeyValue",
    "LocalCluster",
    "Max",
    "Mean",
    "Min",
    "Numbers",
    "Pairs",
    "Parquet",
    "Range",
    "Sum",
    "Text",
    "TopK",
    "columns",
    "connect",
    "task",
]

_AGGREGATIONS = "Agg Aggregation Collect Count Distinct First Max Mean Min Sum TopK"
_HOMES: dict[str, str] = {
    **dict.fromkeys(_AGGREGATIONS.split(), "minireduce.api.aggregations"),
    **dict.fromkeys(("Bytes", "Numbers", "Pairs", "Text"), "minireduce.api.formats"),
    "Csv": "minireduce.api.formats",
    "FixedWidth": "minireduce.api.formats",
    "Json": "minireduce.api.formats",
    "KeyValue": "minireduce.api.formats",
    "Parquet": "minireduce.api.formats",
    "Hash": "minireduce.api.partitioners",
    "Identity": "minireduce.api.identity",
    "Range": "minireduce.api.partitioners",
    "Job": "minireduce.api.job",
    "JobFailed": "minireduce.errors",
    "JobResult": "minireduce.client.result",
    "LocalCluster": "minireduce.launch.local_cluster",
    "connect": "minireduce.client.connection",
}

_hooks.register("run", "minireduce.launch.submission", "run")
_hooks.register("submit", "minireduce.launch.submission", "submit")
_hooks.register("test", "minireduce.engine.trial", "run_trial")


def __getattr__(name: str) -> Any:
    if name in ("columns", "task"):
        return importlib.import_module(f"minireduce.api.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'minireduce' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
