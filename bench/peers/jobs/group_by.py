"""Sum numbers by a key of which there is one for every three records."""

from collections.abc import Iterator

from minireduce import Job, Sum


def pairs(line: str) -> Iterator[tuple[str, int]]:
    key, _, number = line.partition(" ")
    yield key, int(number)


job = Job(pairs, Sum())
