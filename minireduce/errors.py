"""Every error that minireduce raises, in families by what the caller can do about it.

`RequestError` is the caller's to mend, `Refused` is a door that stays shut until credentials or versions change,
`Unavailable` is worth another try, `Corruption` means bytes are wrong, `JobFailed` means user code raised, and
`InvariantViolation` is our own fault: it stops the process and prints the story of the thing it happened to.

The text says what happened and to which id; the hint says what to do next. Neither names gRPC codes or HTTP statuses:
those are mapped in one place, `wire.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minireduce.api.bad_record import BadRecord


HINT_MARK = "\n  hint: "
"""Between an error's message and its hint, where both are one text."""


class MinireduceError(Exception):
    """An error with a message for people and, where there is one, a hint at the next step."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}{HINT_MARK}{self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[MinireduceError], message: str, hint: str | None) -> MinireduceError:
    return kind(message, hint=hint)


class RequestError(MinireduceError):
    """What was asked cannot be done as asked; asking again gives the same answer."""


class NotFound(RequestError):
    """The job, file, block or worker that was named does not exist."""


class AlreadyExists(RequestError):
    """What should be made is there already."""


class Refused(MinireduceError):
    """The other side does not let us in: token, certificate or version."""


class Unavailable(MinireduceError):
    """The other side cannot answer now; the client tries again with backoff."""


class Corruption(MinireduceError):
    """Bytes are not what was written; another replica or attempt must serve."""


class JobFailed(MinireduceError):
    """A job ran and failed. `errors` holds what its attempts said, the decisive one first; `skipped` the records that
    it had left out until then, as they could not be computed.
    """

    def __init__(self, message: str, *, hint: str | None = None, errors: tuple[object, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.errors = errors
        self.skipped: tuple[BadRecord, ...] = ()


class JobKilled(JobFailed):
    """A job was ended on request before it was done."""


class InvariantViolation(MinireduceError):
    """Something that cannot happen did. The process that meets it stops."""


def hint_on(exception_type: str) -> str | None:
    """What to do when user code raised an exception of this name, where more is known than that it did."""
    if exception_type.rpartition(".")[2] != "ModuleNotFoundError":
        return None
    return "name a module of your own by --py-files (`py_files=`); install any other here and on every worker"
