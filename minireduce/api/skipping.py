"""How many records a job may leave out because they cannot be computed, and what is told of each.

A limit is a number of records, or a share of those that were read, as in "0.1%". A `BadRecord` is what `result.skipped`
holds, and `JobFailed.skipped`.
"""

from __future__ import annotations

import math

from minireduce.errors import RequestError
from minireduce.frozen import dataclass

RECORDS_MAX = 10_000
"""Records that a job may leave out in all, since each is kept with its traceback."""

_SHOWN_CHARACTERS = 80
_HINT = 'give a number of records, such as 10, or a share of those read, such as "0.1%"'


@dataclass(frozen=True, slots=True)
class SkipLimit:
    """How many bad records may be left out; both 0: none, and the second failure on one fails the job."""

    records_max: int = 0
    fraction_max: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether any may be."""
        return self.records_max > 0 or self.fraction_max > 0


def parse_skip_limit(given: int | str | None) -> SkipLimit:
    """The limit that 10, "10" or "0.1%" mean; None means none. Raises RequestError."""
    if given is None:
        return SkipLimit()
    text = str(given).strip()
    if not isinstance(given, int | str) or isinstance(given, bool):
        raise RequestError(f"skip_bad_records={given!r} is no limit", hint=_HINT)
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            if math.isfinite(percent) and 0 <= percent <= 100:
                return SkipLimit(fraction_max=percent / 100)
        elif 0 <= int(text) <= RECORDS_MAX:
            return SkipLimit(records_max=int(text))
    except ValueError:
        pass
    raise RequestError(
        f"skip_bad_records={given!r} is no limit", hint=f"{_HINT}; at most {RECORDS_MAX} records are kept"
    )


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record (of a reduce: a key with all its values) that the output lacks, since it could not be computed.

    Attributes:
        task: the task that met it, and `attempt` the attempt that proved it bad.
        kind: "raised", "crashed", "exited", "memory" or "timeout".
        error: the type of the exception or the name of the signal, if there is one.
        message: what happened, and `traceback` where, with the user's frames only.
        path: the file that it stands in, and `offset` where it begins there; "" and None where there is no such place.
        position: how many records (of a reduce: keys) of the task's input lie before it.
        record: its beginning, and `bytes_total` how long the whole is; None for a key.
        key: the key, as text; None for a record.
    """

    task: str
    attempt: str
    kind: str
    error: str
    message: str
    traceback: str
    path: str
    offset: int | None
    position: int
    record: str | bytes | None
    key: str | None
    bytes_total: int

    def __str__(self) -> str:
        """In one line: which record, where, and what happened."""
        what = f"key {self.key}" if self.key is not None else f"record {self.record!r}"
        what = what if len(what) <= _SHOWN_CHARACTERS else f"{what[:_SHOWN_CHARACTERS]}…"
        place = f" of {self.path}" if self.path else ""
        place += f" at offset {self.offset}" if self.offset is not None else ""
        return f"{what}{place}: {self.message.partition(chr(10))[0]}"
