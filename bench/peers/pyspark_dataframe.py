"""Spark's DataFrames, local mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common import KEY_CHARACTERS, NEEDLE, run
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f


def spark_work(body: Callable[[SparkSession, Path], DataFrame]):
    def do(source: Path, output: Path, slots: int) -> None:
        builder = SparkSession.builder.master(f"local[{slots}]").config("spark.ui.enabled", "false")
        spark = builder.config("spark.sql.shuffle.partitions", slots).getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        body(spark, source).write.text(str(output / "text"))

    return do


def wordcount(spark: SparkSession, source: Path) -> DataFrame:
    words = spark.read.text(str(source)).select(f.explode(f.split("value", r"\s+")).alias("word")).where("word <> ''")
    return words.groupBy("word").count().select(f.concat_ws("\t", "word", "count"))


def grep(spark: SparkSession, source: Path) -> DataFrame:
    return spark.read.text(str(source)).where(f.contains("value", f.lit(NEEDLE)))


def inverted_index(spark: SparkSession, source: Path) -> DataFrame:
    name = f.element_at(f.split(f.input_file_name(), "/"), -1)
    lines = spark.read.text(str(source)).select("value", name.alias("name"))
    words = lines.select(f.explode(f.split("value", r"\s+")).alias("word"), "name").where("word <> ''")
    index = words.groupBy("word").agg(f.array_sort(f.collect_set("name")).alias("names"))
    names = f.concat(f.lit('["'), f.concat_ws('", "', "names"), f.lit('"]'))
    return index.select(f.concat_ws("\t", "word", names))


def group_by(spark: SparkSession, source: Path) -> DataFrame:
    pairs = spark.read.csv(str(source), schema="k string, n long", sep=" ")
    return pairs.groupBy("k").agg(f.sum("n").alias("n")).select(f.concat_ws("\t", "k", "n"))


def terasort(spark: SparkSession, source: Path) -> DataFrame:
    records = spark.read.text(str(source)).orderBy(f.substring("value", 1, KEY_CHARACTERS))
    return records.select(f.concat("value", f.lit("\r")))


def join(spark: SparkSession, source: Path) -> DataFrame:
    users = spark.read.csv(str(source / "users.txt"), schema="k string, name string", sep=" ")
    orders = spark.read.csv(str(source / "orders.txt"), schema="k string, amount string", sep=" ")
    return orders.join(users, "k").select(f.concat_ws("\t", "name", "amount"))


if __name__ == "__main__":
    works = (wordcount, grep, inverted_index, group_by, terasort, join)
    run({body.__name__: spark_work(body) for body in works})
