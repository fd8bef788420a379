"""Lines with a word that few lines have, all lines of a split in one loop."""

from collections.abc import Iterator

from minireduce import Job

NEEDLE = "warnings.warn"


def matching(lines: Iterator[str]) -> Iterator[tuple[str, None]]:
    return ((line, None) for line in lines if NEEDLE in line)


job = Job(map_records=matching)
