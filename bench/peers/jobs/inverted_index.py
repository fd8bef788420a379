"""For each word the names of the files that it occurs in, ascending."""

from collections.abc import Iterator
from functools import cache
from pathlib import PurePath

from minireduce import Distinct, Job, task


@cache
def name_of(path: str) -> str:
    return PurePath(path).name


def words(line: str) -> Iterator[tuple[str, str]]:
    name = name_of(task.input_path or "")
    for word in set(line.split()):
        yield word, name


job = Job(words, Distinct())
