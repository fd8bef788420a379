"""mrjob's local runner: one process a task, sorting by GNU sort."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from common import NEEDLE, files_of, run
from mrjob.compat import jobconf_from_env
from mrjob.job import MRJob
from mrjob.protocol import RawValueProtocol, TextProtocol


class Words(MRJob):
    OUTPUT_PROTOCOL = TextProtocol
    INTERNAL_PROTOCOL = TextProtocol

    def mapper(self, _, line):
        for word in line.split():
            yield word, "1"

    def combiner(self, word, counts):
        yield word, str(sum(map(int, counts)))

    reducer = combiner


class Lines(MRJob):
    OUTPUT_PROTOCOL = RawValueProtocol

    def mapper(self, _, line):
        if NEEDLE in line:
            yield None, line


class Sums(MRJob):
    OUTPUT_PROTOCOL = TextProtocol
    INTERNAL_PROTOCOL = TextProtocol

    def mapper(self, _, line):
        key, _, number = line.partition(" ")
        yield key, number

    def combiner(self, key, numbers):
        yield key, str(sum(map(int, numbers)))

    reducer = combiner


class Names(MRJob):
    OUTPUT_PROTOCOL = TextProtocol
    INTERNAL_PROTOCOL = TextProtocol

    def mapper(self, _, line):
        key, text = line.split(" ")
        is_user = jobconf_from_env("mapreduce.map.input.file").endswith("users.txt")
        yield key, f"{'u' if is_user else 'o'}{text}"

    def reducer(self, _, entries):
        names, amounts = [], []
        for entry in entries:
            (names if entry[0] == "u" else amounts).append(entry[1:])
        for name in names:
            for amount in amounts:
                yield name, amount


JOB_NAME = "BENCH_MRJOB"  # mrjob starts this file again for each task, with arguments of its own
JOBS = {"wordcount": Words, "grep": Lines, "group_by": Sums, "join": Names}


def work(name: str):
    def do(source: Path, output: Path, slots: int) -> None:
        command = [sys.executable, __file__, "-r", "local", "--num-cores", str(slots), "-q"]
        command += ["--output-dir", str(output), "--no-cat-output", *map(str, files_of(source))]
        shutil.rmtree(output)
        subprocess.run(
            command, check=True, env={**os.environ, JOB_NAME: name, "PYTHONPATH": str(Path(__file__).resolve().parent)}
        )

    return do


if __name__ == "__main__":
    if JOB_NAME in os.environ:
        JOBS[os.environ[JOB_NAME]].run()
    else:
        run({name: work(name) for name in JOBS})
