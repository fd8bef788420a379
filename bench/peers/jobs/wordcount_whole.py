"""Count words, all lines of a split in one loop."""

from collections.abc import Iterator

from minireduce import Job, Sum


def words(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    return ((word, 1) for line in lines for word in line.split())


job = Job(map_records=words, reduce=Sum())
