"""Hadoop's own MapReduce: its examples jar on the local runner, two map and two reduce threads, combiners on.

The classes of Hadoop come with pyspark, the examples from Maven Central by `mvn`, once for each bench folder. Each run
is a JVM of its own, as on the command line, so there is no warm time.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from common import run

VERSION = "3.4.2"
ARTIFACT = f"org.apache.hadoop:hadoop-mapreduce-examples:{VERSION}"
FOLDER = "BENCH_HADOOP"
"""The folder in which the examples jar lies."""

FETCH_S_MAX = 180


def fetch(folder: Path) -> str:
    """Have the examples jar in `folder`; what stands in the way, or nothing."""
    missing = [command for command in ("java", "mvn") if shutil.which(command) is None]
    if missing:
        return f"there is no {missing[0]}"
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark, which brings its classes, is not installed"
    if jar(folder).exists():
        return ""
    command = ["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=FETCH_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        return f"Maven did not answer within {FETCH_S_MAX} s"
    return "" if done.returncode == 0 and jar(folder).exists() else f"Maven could not fetch {ARTIFACT}"


def jar(folder: Path) -> Path:
    return folder / f"hadoop-mapreduce-examples-{VERSION}.jar"


def work(name: str, *settings: str):
    def do(source: Path, output: Path, slots: int) -> None:
        spark = importlib.util.find_spec("pyspark")
        assert spark is not None
        assert spark.origin is not None
        classes = f"{jar(Path(os.environ[FOLDER]))}{os.pathsep}{Path(spark.origin).parent / 'jars'}/*"
        chosen = (
            "mapreduce.framework.name=local",
            f"mapreduce.local.map.tasks.maximum={slots}",
            f"mapreduce.local.reduce.tasks.maximum={slots}",
            f"mapreduce.job.reduces={slots}",
            f"mapreduce.input.fileinputformat.split.maxsize={64 << 20}",
            *settings,
        )
        flags = [argument for setting in chosen for argument in ("-D", setting)]
        output.rmdir()
        command = ["java", "-Xmx3g", "-cp", classes, "org.apache.hadoop.examples.ExampleDriver", name, *flags]
        done = subprocess.run([*command, str(source), str(output)], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"Hadoop ended with {done.returncode}: {done.stderr[-2000:]}")

    return do


if __name__ == "__main__":
    run({"wordcount": work("wordcount"), "terasort": work("terasort")})
