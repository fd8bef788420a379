"""PySpark's RDD interface, local mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import add
from pathlib import Path

from common import NEEDLE, run
from pyspark import RDD, SparkConf, SparkContext

Body = Callable[[SparkContext, Path, int], RDD]


def spark_work(body: Body):
    def do(source: Path, output: Path, slots: int) -> None:
        conf = SparkConf().setMaster(f"local[{slots}]").setAppName(body.__name__).set("spark.ui.enabled", "false")
        context = SparkContext.getOrCreate(conf)  # the second, warm run finds it running
        context.setLogLevel("ERROR")
        body(context, source, slots).saveAsTextFile(str(output / "text"))

    return do


def wordcount(context: SparkContext, source: Path, slots: int) -> RDD:
    lines = context.textFile(str(source), minPartitions=2 * slots)
    pairs = lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add, numPartitions=slots)
    return pairs.map(lambda pair: f"{pair[0]}\t{pair[1]}")


def grep(context: SparkContext, source: Path, slots: int) -> RDD:
    needle = NEEDLE
    return context.textFile(str(source), minPartitions=2 * slots).filter(lambda line: needle in line)


def inverted_index(context: SparkContext, source: Path, slots: int) -> RDD:
    def words(entry: tuple[str, str]) -> list[tuple[str, str]]:
        path, text = entry
        name = path.rpartition("/")[2]
        return [(word, name) for word in set(text.split())]

    pairs = context.wholeTextFiles(str(source), minPartitions=2 * slots).flatMap(words).groupByKey(slots)
    return pairs.map(lambda pair: f"{pair[0]}\t{json.dumps(sorted(set(pair[1])))}")


def group_by(context: SparkContext, source: Path, slots: int) -> RDD:
    def pair(line: str) -> tuple[str, int]:
        key, _, number = line.partition(" ")
        return key, int(number)

    sums = context.textFile(str(source), minPartitions=2 * slots).map(pair).reduceByKey(add, numPartitions=slots)
    return sums.map(lambda pair: f"{pair[0]}\t{pair[1]}")


if __name__ == "__main__":
    run({body.__name__: spark_work(body) for body in (wordcount, grep, inverted_index, group_by)})
