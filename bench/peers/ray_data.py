"""Ray Data on a local Ray."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray
from common import NEEDLE, run
from ray.data.aggregate import Sum


def start(slots: int) -> None:
    if not ray.is_initialized():
        ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="error")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.default_hash_shuffle_parallelism = slots


def write(data: ray.data.Dataset, output: Path) -> None:
    rows = data.to_arrow_refs()
    with (output / "part-00000").open("w", encoding="utf-8", newline="") as out:
        for reference in rows:
            columns = [column.to_pylist() for column in ray.get(reference).columns]
            out.writelines("\t".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def count_words(batch: pa.Table) -> pa.Table:
    counts: Counter[str] = Counter()
    for line in batch["text"].to_pylist():
        counts.update(line.split())
    return pa.table({"word": list(counts), "n": list(counts.values())})


def wordcount(source: Path, output: Path, slots: int) -> None:
    start(slots)
    lines = ray.data.read_text(str(source), drop_empty_lines=True)
    counts = lines.map_batches(count_words, batch_format="pyarrow", batch_size=None)
    write(counts.groupby("word").aggregate(Sum("n")), output)


def has_needle(batch: pa.Table) -> pa.Table:
    return batch.filter(pc.match_substring(batch["text"], NEEDLE))


def grep(source: Path, output: Path, slots: int) -> None:
    start(slots)
    write(ray.data.read_text(str(source)).map_batches(has_needle, batch_format="pyarrow", batch_size=None), output)


def split_pairs(batch: pa.Table) -> pa.Table:
    pairs = [line.partition(" ") for line in batch["text"].to_pylist()]
    return pa.table({"k": [pair[0] for pair in pairs], "n": [int(pair[2]) for pair in pairs]})


def group_by(source: Path, output: Path, slots: int) -> None:
    start(slots)
    pairs = ray.data.read_text(str(source)).map_batches(split_pairs, batch_format="pyarrow", batch_size=None)
    write(pairs.groupby("k").aggregate(Sum("n")), output)


if __name__ == "__main__":
    run({"wordcount": wordcount, "grep": grep, "group_by": group_by})
