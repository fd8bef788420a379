"""Say of each order which user gave it, from two files with a header:

    minireduce submit jobs/join.py users=users.csv orders=orders.csv -o named

`users.csv` has the fields id and name, `orders.csv` the fields user and item. Users without orders are left out, and
orders of nobody too: an inner join. The values of the last input stream by, so it should be the larger one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from minireduce import Csv, Job


def user(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield row["id"], row["name"]


def order(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield row["user"], row["item"]


def join(_: str, users: Collection[str], orders: Iterator[str]) -> Iterator[tuple[str, str]]:
    for item in orders:
        for name in users:
            yield name, item


job = Job({"users": user, "orders": order}, join, input={"users": Csv(), "orders": Csv()})
