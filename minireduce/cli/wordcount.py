"""Count words."""

from collections.abc import Iterator

from minireduce import Job, Sum


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


job = Job(words, Sum())
