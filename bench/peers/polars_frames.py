"""Polars' lazy frames with the streaming engine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = sys.argv[4]  # read when polars is imported

import polars as pl
from common import CENTRES, KEY_CHARACTERS, NEEDLE, ONE, ROUNDS, files_of, run, write_centres, write_pairs


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


def terasort(source: Path, output: Path, slots: int) -> None:
    key = pl.col("line").str.slice(0, KEY_CHARACTERS)
    sink(lines(source).with_columns(pl.col("line").str.strip_suffix("\r") + "\r").sort(key), output)


def pairs_of(path: Path, first: str, second: str, of: type[pl.DataType] = pl.String) -> pl.LazyFrame:
    return pl.scan_csv(path, has_header=False, separator=" ", quote_char=None, schema={first: of, second: of})


def join(source: Path, output: Path, slots: int) -> None:
    users, orders = pairs_of(source / "users.txt", "k", "name"), pairs_of(source / "orders.txt", "k", "amount")
    sink(orders.join(users, on="k").select("name", "amount"), output)


def kmeans(source: Path, output: Path, slots: int) -> None:
    points = pairs_of(source, "x", "y", pl.Int64).collect(engine="streaming")
    centres: list[tuple[float, ...]] = list(points.head(CENTRES).iter_rows())
    for _ in range(ROUNDS):
        distances = [(pl.col("x") - x) * (pl.col("x") - x) + (pl.col("y") - y) * (pl.col("y") - y) for x, y in centres]
        numbered = points.lazy().with_columns(pl.concat_list(distances).list.arg_min().alias("centre"))
        sums = numbered.group_by("centre").agg(pl.col("x").sum(), pl.col("y").sum(), pl.len().alias("n")).collect()
        for centre, x, y, count in sums.iter_rows():
            centres[centre] = (x / count, y / count)
    write_centres(output / "part-00000", centres)


def pagerank(source: Path, output: Path, slots: int) -> None:
    edges = pairs_of(source, "page", "target").with_columns(pl.len().over("page").alias("n")).collect()
    ranks = edges.select("page").unique().with_columns(pl.lit(ONE).alias("rank"))
    for _ in range(ROUNDS):
        shares = edges.lazy().join(ranks.lazy(), on="page").select(page="target", share=pl.col("rank") // pl.col("n"))
        known = ranks.lazy().select("page", share=pl.lit(0, pl.Int64))
        sums = pl.concat([shares.cast({"share": pl.Int64}), known]).group_by("page").agg(pl.col("share").sum())
        ranks = sums.select("page", rank=150_000_000 + pl.col("share") * 85 // 100).collect()
    sink(ranks.lazy().sort("page"), output)


if __name__ == "__main__":
    works = (wordcount, grep, inverted_index, group_by, terasort, join, kmeans, pagerank)
    run({body.__name__: body for body in works})
