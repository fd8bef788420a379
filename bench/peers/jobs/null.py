"""Nothing at all: what is left is what it takes to run a job."""

from collections.abc import Iterator

from minireduce import Job


def nothing(line: str) -> Iterator[tuple[str, None]]:
    yield from ()


job = Job(nothing)
