"""Word count on PySpark's RDD interface: arguments INPUT OUTPUT THREADS."""

from __future__ import annotations

import sys
from operator import add

from pyspark import SparkConf, SparkContext


def main() -> None:
    source, output, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    conf = SparkConf().setMaster(f"local[{threads}]").setAppName("word count").set("spark.ui.enabled", "false")
    with SparkContext(conf=conf) as context:
        lines = context.textFile(source, minPartitions=2 * threads)
        pairs = lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add, numPartitions=threads)
        pairs.map(lambda pair: f"{pair[0]}\t{pair[1]}").saveAsTextFile(output)


if __name__ == "__main__":
    main()
