"""PySpark's RDD interface, local mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import add
from pathlib import Path

from common import CENTRES, KEY_CHARACTERS, NEEDLE, ONE, ROUNDS, rank_of, run
from pyspark import RDD, SparkConf, SparkContext

Body = Callable[[SparkContext, Path, int], RDD]


def spark_work(body: Body):
    def do(source: Path, output: Path, slots: int) -> None:
        conf = SparkConf().setMaster(f"local[{slots}]").setAppName(body.__name__).set("spark.ui.enabled", "false")
        context = SparkContext.getOrCreate(conf)  # the second, warm run finds it running
        context.addPyFile(str(Path(__file__).with_name("common.py")))  # its workers find it nowhere else
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


def terasort(context: SparkContext, source: Path, slots: int) -> RDD:
    records = context.textFile(str(source), minPartitions=2 * slots)  # without their `\\r\\n`
    by_key = records.keyBy(lambda record: record[:KEY_CHARACTERS]).sortByKey(numPartitions=slots)
    return by_key.map(lambda pair: pair[1] + "\r")


def join(context: SparkContext, source: Path, slots: int) -> RDD:
    users, orders = (
        context.textFile(str(source / name), minPartitions=2 * slots).map(lambda line: tuple(line.split()))
        for name in ("users.txt", "orders.txt")
    )
    return users.join(orders, numPartitions=slots).map(lambda pair: f"{pair[1][0]}\t{pair[1][1]}")


def kmeans(context: SparkContext, source: Path, slots: int) -> RDD:
    lines = context.textFile(str(source), minPartitions=2 * slots)
    points = lines.map(lambda line: tuple(map(int, line.split()))).cache()
    centres: list[tuple[float, ...]] = points.take(CENTRES)
    for _ in range(ROUNDS):
        near = points.map(lambda point, centres=tuple(centres): (nearest(point, centres), (1, *point)))
        sums = near.reduceByKey(lambda one, other: tuple(map(add, one, other)), numPartitions=slots).collect()
        for number, (count, *coordinates) in sums:
            centres[number] = tuple(coordinate / count for coordinate in coordinates)
    rows = [
        f"{number}\t{' '.join(f'{coordinate:.3f}' for coordinate in centre)}" for number, centre in enumerate(centres)
    ]
    return context.parallelize(rows, 1)


def nearest(point: tuple[int, ...], centres: tuple[tuple[float, ...], ...]) -> int:
    best, best_distance = 0, float("inf")
    for number, centre in enumerate(centres):
        distance = 0.0
        for here, there in zip(point, centre, strict=True):
            distance += (here - there) * (here - there)
        if distance < best_distance:
            best, best_distance = number, distance
    return best


def pagerank(context: SparkContext, source: Path, slots: int) -> RDD:
    def shares(entry: tuple[str, tuple[list[str] | None, int]]) -> list[tuple[str, int]]:
        page, (targets, rank) = entry
        given = [(target, rank // len(targets)) for target in targets] if targets else []
        return [(page, 0), *given]

    edges = context.textFile(str(source), minPartitions=2 * slots).map(lambda line: tuple(line.split()))
    links = edges.groupByKey(slots).mapValues(list).cache()
    ranks = links.mapValues(lambda _: ONE)
    for _ in range(ROUNDS):
        joined = links.rightOuterJoin(ranks, numPartitions=slots)
        ranks = joined.flatMap(shares).reduceByKey(add, numPartitions=slots).mapValues(rank_of)
    return ranks.map(lambda pair: f"{pair[0]}\t{pair[1]}")


if __name__ == "__main__":
    works = (wordcount, grep, inverted_index, group_by, terasort, join, kmeans, pagerank)
    run({body.__name__: spark_work(body) for body in works})
