"""What `Job.run` and `Job.submit` give back, as far as types are concerned; `client` and `launch` have the classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from minireduce.api.bad_record import BadRecord

K = TypeVar("K")
V = TypeVar("V")


class Tested(list[tuple[K, V]]):
    """The pairs of a trial, and, by the names of the job's outputs, those that were given to these."""

    def __init__(self, pairs: Iterable[tuple[K, V]], outputs: dict[str, list[tuple[Any, Any]]]) -> None:
        super().__init__(pairs)
        self.outputs = outputs


@runtime_checkable
class Result(Protocol[K, V]):
    """The pairs of a finished job: typed, stored, repeatable."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """`counters[group][name]`; an absent one reads 0."""

    @property
    def outputs(self) -> Mapping[str, Iterable[tuple[Any, Any]]]:
        """The pairs that tasks gave to the outputs that the job declares."""

    @property
    def skipped(self) -> Sequence[BadRecord]:
        """The records that were left out, since they could not be computed."""

    def __iter__(self) -> Iterator[tuple[K, V]]:
        """All pairs, part by part."""

    def head(self, count: int = 10) -> list[tuple[K, V]]:
        """The first pairs."""

    def part_files(self) -> Sequence[Path]:
        """Its typed parts as files of this machine, for a job that reads them; they go with the result."""

    def close(self) -> None:
        """Let go of what was stored."""


class Handle(Protocol[K, V]):
    """A job that was submitted and may still run."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def state(self) -> str:
        """running, succeeded, failed or killed."""

    def wait(self) -> Result[K, V]:
        """Block until the job ends. Raises JobFailed."""

    def kill(self) -> None:
        """Stop the job; nothing of it is published."""
