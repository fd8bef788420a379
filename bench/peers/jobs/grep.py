"""Lines with a word that few lines have, the line alone."""

from collections.abc import Iterator

from minireduce import Job

NEEDLE = "warnings.warn"


def matching(line: str) -> Iterator[tuple[str, None]]:
    if NEEDLE in line:
        yield line, None


job = Job(matching)
