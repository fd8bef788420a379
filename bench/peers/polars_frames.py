"""Polars' lazy frames with the streaming engine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = sys.argv[4]  # read when polars is imported

import polars as pl
from common import NEEDLE, files_of, run, write_pairs


def lines(source: Path, names: str | None = None) -> pl.LazyFrame:
    return pl.scan_csv(
        files_of(source),
        has_header=False,
        separator="\x01",
        quote_char=None,
        schema={"line": pl.String},
        include_file_paths=names,
    )


def words(frame: pl.LazyFrame, *columns: str) -> pl.LazyFrame:
    split = pl.col("line").str.extract_all(r"\S+").alias("word")
    return frame.select(split, *columns).explode("word").filter(pl.col("word").is_not_null())


def sink(frame: pl.LazyFrame, output: Path) -> None:
    frame.sink_csv(output / "part-00000", include_header=False, separator="\t", quote_style="never")


def wordcount(source: Path, output: Path, slots: int) -> None:
    sink(words(lines(source)).group_by("word").agg(pl.len()).sort("word"), output)


def grep(source: Path, output: Path, slots: int) -> None:
    sink(lines(source).filter(pl.col("line").str.contains(NEEDLE, literal=True)), output)


def inverted_index(source: Path, output: Path, slots: int) -> None:
    frame = (
        words(lines(source, "path"), "path")
        .unique()
        .group_by("word")
        .agg("path")
        .sort("word")
        .collect(engine="streaming")
    )
    rows = ((word, json.dumps(sorted(Path(path).name for path in paths))) for word, paths in frame.iter_rows())
    write_pairs(output / "part-00000", rows)


def group_by(source: Path, output: Path, slots: int) -> None:
    frame = pl.scan_csv(
        files_of(source), has_header=False, separator=" ", quote_char=None, schema={"k": pl.String, "n": pl.Int64}
    )
    sink(frame.group_by("k").agg(pl.col("n").sum()).sort("k"), output)


if __name__ == "__main__":
    run({"wordcount": wordcount, "grep": grep, "inverted_index": inverted_index, "group_by": group_by})
