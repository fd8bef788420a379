"""For each word the names of the files that it occurs in, ascending."""

from collections.abc import Iterator

from minireduce import Distinct, Job, task


def words(line: str) -> Iterator[tuple[str, str]]:
    name = (task.input_path or "").rpartition("/")[2]
    for word in set(line.split()):
        yield word, name


job = Job(words, Distinct())
