"""Each order with the name of its user: lines of both files meet by their key."""

from collections.abc import Collection, Iterator

from minireduce import Job


def keyed(line: str) -> Iterator[tuple[str, str]]:
    key, text = line.split()
    yield key, text


def joined(_: str, users: Collection[str], orders: Iterator[str]) -> Iterator[tuple[str, str]]:
    for amount in orders:
        for name in users:
            yield name, amount


job = Job({"users": keyed, "orders": keyed}, joined)
