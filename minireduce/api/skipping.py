"""How many records a job may leave out because they cannot be computed.

A limit is a number of records, or a share of those that were read, as in "0.1%".
"""

from __future__ import annotations

import math

from minireduce.errors import RequestError
from minireduce.frozen import dataclass

RECORDS_MAX = 10_000
"""Records that a job may leave out in all, since each is kept with its traceback."""

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
