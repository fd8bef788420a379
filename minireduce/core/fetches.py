"""Decide which map outputs and parts a worker fetches next, on behalf of attempts that wait for them."""

from __future__ import annotations

from dataclasses import dataclass

from minireduce.core.messages import OutputSource
from minireduce.ids import AttemptId

PART = -1
"""The partition number that means: the whole part of an attempt without partitions."""

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes lie in the place of this fetch, verified as far as length goes."""

    bytes_total: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The other side answered that the output is missing or damaged."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The other side did not answer, or broke off."""

    reason: str


FetchOutcome = Fetched | Gone | Unreachable


@dataclass(frozen=True, slots=True)
class FetchEnded:
    """A fetch came to an end. Of one that was cancelled nothing more need be said; if it is, it is ignored."""

    fetch: int
    outcome: FetchOutcome


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StartFetch:
    """Bring partition `partition` (or the part: `PART`) of `source` here, as an input of `attempt`.

    Fetches are numbered; a number is never used twice. A second fetch into the same place (attempt, source) may go on
    where the first broke off.
    """

    fetch: int
    attempt: AttemptId
    source: OutputSource
    partition: int
    read_token: str


@dataclass(frozen=True, slots=True)
class CancelFetch:
    """The fetch is no longer wanted; what it brought may be removed."""

    fetch: int
