"""Faults that a task meets in what the user wrote, told so that the user finds the place.

`UserCodeError` is the one error of user code: it carries the traceback without frames of minireduce, and the file,
offset and record that was worked on. Whoever shows it prints the traceback first. It is a `RequestError`, since the
same attempt on the same record would fail again; whether to try again all the same is decided elsewhere.
"""

from __future__ import annotations

from minireduce.errors import Corruption, MinireduceError, RequestError


class UnreadableFile(Corruption):
    """A file that could be read, but is not what its name or its format says: it is the same for whoever reads it."""


class UserCodeError(RequestError):
    """User code raised, or gave what it must not give."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        traceback_text: str = "",
        exception_type: str = "",
        path: str = "",
        offset: int | None = None,
        record: str = "",
        position: int | None = None,
        proof: int = 0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.traceback_text = traceback_text
        self.exception_type = exception_type
        self.path = path
        self.offset = offset
        self.record = record
        self.position = position  # how many records of the task's input came before; None where that is not known
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.message, self.hint, dict(self.__dict__)))


def _rebuild(message: str, hint: str | None, fields: dict[str, object]) -> UserCodeError:
    error = UserCodeError(message, hint=hint)
    error.__dict__.update(fields)
    return error


class UnreadableInput(UserCodeError):
    """The input is not of the format that the job says it is. It is the same for every attempt that reads it."""


class InvalidKey(RequestError):
    """A key that cannot be one, or that is of another kind than the keys before it; the record is not known here."""


class InvalidValue(RequestError):
    """A value that cannot be stored or written."""


class Cancelled(MinireduceError):
    """The attempt is no longer wanted, and stopped where it was."""
