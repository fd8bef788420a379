"""What is told of a record that a job left out: what `result.skipped` holds, and `JobFailed.skipped`."""

from __future__ import annotations

from minireduce.frozen import dataclass

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record (of a reduce: a key with all its values) that the output lacks, since it could not be computed.

    Attributes:
        task: the task that met it, and `attempt` the attempt that proved it bad.
        kind: "raised", "crashed", "exited", "memory", "timeout" or "unreadable".
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
