"""What each commit says of the whole contents, so that damage shows when they are read.

Each row carries a digest of its columns. Each table's digest is the sum of those of its rows, modulo 2^64: it does not
depend on their order, and a commit changes it by what it wrote less what was there. `digests` holds one row a table,
with the commit that last changed it, and one under the empty name for the whole: the sum over the rows of `digests`
and the mark (epoch, txid) of the last commit. A row that changed, vanished or came up again without a commit is found
by that, and told with its table.

What no digest shows is a whole that is older than it was: that is what marks are compared for, with a mirror's and with
what workers remember.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import xxhash

from minireduce.core.tables import Table
from minireduce.errors import Corruption
from minireduce.frozen import dataclass

DIGESTS = Table(
    "digests",
    (("table_name", "text"),),
    (("row_count", "int"), ("digest", "int"), ("epoch", "int"), ("txid", "int")),
)
WHOLE = ""
"""The name under which the whole stands."""

_WRAP = 1 << 64

RowDigest = Callable[[tuple[Any, ...]], int]
Mark = tuple[int, int]
"""(epoch, txid) of a commit."""


def row_digest() -> RowDigest:
    """A function that gives the digest of a row's columns as they are in SQL: 64 bits, signed as a column of integers.

    One for each thread, as it keeps a buffer.
    """
    pack = msgpack.Packer().pack
    digest = xxhash.xxh3_64_intdigest
    half = _WRAP >> 1

    def of(columns: tuple[Any, ...]) -> int:
        number = digest(pack(columns))
        return number - _WRAP if number >= half else number

    return of


def signed(number: int) -> int:
    """`number` modulo 2^64, as a signed integer of 64 bits."""
    number %= _WRAP
    return number - _WRAP if number >= _WRAP >> 1 else number


@dataclass(frozen=True, slots=True)
class TableSum:
    """How many rows a table has, the sum of their digests, and the commit that last changed it."""

    row_count: int = 0
    digest: int = 0
    mark: Mark = (0, 0)

    def changed(self, rows: int, digest: int, mark: Mark) -> TableSum:
        """With so many rows more, and so much more in their digests."""
        return TableSum(self.row_count + rows, signed(self.digest + digest), mark)

    @property
    def columns(self) -> tuple[int, int, int, int]:
        return (self.row_count, self.digest, *self.mark)


def whole(sums: dict[str, TableSum], mark: Mark, digest: RowDigest) -> TableSum:
    """What stands for the whole after the commit `mark`."""
    total = sum(digest((name, *each.columns)) for name, each in sums.items())
    return TableSum(len(sums), signed(total), mark)


def check_table(name: str, wanted: TableSum, found: TableSum, wrong_row: tuple[Any, ...] | None) -> None:
    """Raise Corruption if a table does not hold what was written. `wrong_row`: the key of a row that does not."""
    epoch, txid = wanted.mark
    since = f"which commit {txid} of epoch {epoch} was the last to change"
    if wrong_row is not None:
        key = ", ".join(map(repr, wrong_row))
        raise Corruption(f"the row ({key}) of the table {name}, {since}, is not what was written")
    if found.row_count != wanted.row_count:
        raise Corruption(f"the table {name}, {since}, has {found.row_count} rows, but {wanted.row_count} were written")
    if found.digest != wanted.digest:
        raise Corruption(f"the table {name}, {since}, holds rows that are older than that")
