"""Empty tasks on PySpark: COUNT partitions on WORKERS cores, each mapped by a Python worker."""

import sys
import time

import pyspark
from pyspark.sql import SparkSession


def nothing(_number: int) -> list[int]:
    return []


count, workers = int(sys.argv[1]), int(sys.argv[2])
session = SparkSession.builder.master(f"local[{workers}]").config("spark.ui.enabled", "false").getOrCreate()
session.sparkContext.setLogLevel("ERROR")
numbers = session.sparkContext.range(0, count, numSlices=count)
session.sparkContext.range(0, 20, numSlices=20).flatMap(nothing).count()
began_s = time.perf_counter()
numbers.flatMap(nothing).count()
print(f"PySpark {pyspark.__version__}: {count / (time.perf_counter() - began_s):,.0f} tasks/s")
session.stop()
