"""Turn what went wrong in user code into one error that shows the user's own lines and the record.

Whose fault it is shows in the traceback: engine frames come first, then the user's. An error without a frame of the
user is theirs too (a map that takes no argument), unless it is ours or the operating system's: those pass through as
they are. The original exception stays as `__cause__`, so a debugger finds the frame.
"""

from __future__ import annotations

import traceback
from contextlib import AbstractContextManager
from pathlib import Path

from minireduce.engine.context import TaskContext
from minireduce.engine.errors import InvalidKey, InvalidValue, UserCodeError
from minireduce.errors import MinireduceError

_PACKAGE = str(Path(__file__).resolve().parent.parent) + "/"
_SHOWN_CHARACTERS = 200


def blamed(
    context: TaskContext, role: str, function: object, *, is_placed: bool = True
) -> AbstractContextManager[None]:
    """Raise UserCodeError for what user code does wrong within; `role` is map, combine, reduce or partition, or what an
    aggregation does, add or merge.

    Without `is_placed` the record in work is left out, where it is known to be another one than the one at fault.
    """
    return _Blamed(context, role, function, is_placed=is_placed)


class _Blamed(AbstractContextManager[None]):
    """A class and no generator, which would cost more than a small task's record."""

    __slots__ = ("_context", "_function", "_is_placed", "_role")

    def __init__(self, context: TaskContext, role: str, function: object, *, is_placed: bool) -> None:
        self._context, self._role, self._function, self._is_placed = context, role, function, is_placed

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            if error is not None:
                self._judge(error)
        finally:
            self._context.end_if_forked()  # before anything of its parent is tidied away

    def _judge(self, error: BaseException) -> None:
        """Raise what user code is to blame for; anything else goes on as it is."""
        at_fault = f"{self._role} {name_of(self._function)}"
        if isinstance(error, InvalidKey | InvalidValue):
            text = f"{at_fault}: {error.message}"
            raise _fault(error, self._context, text, error.hint, is_placed=self._is_placed) from error
        if isinstance(error, MinireduceError | GeneratorExit | KeyboardInterrupt):
            return
        if isinstance(error, OSError) and not has_user_frame(error):
            return
        text = f"{at_fault} raised {in_one_line(error)}"
        raise _fault(error, self._context, text, None, is_placed=self._is_placed) from error


def in_one_line(error: BaseException) -> str:
    """The type of an exception and what it says, without the notes that were added to it: those stand in tracebacks."""
    told = traceback.TracebackException(type(error), error, None, compact=True)
    told.__notes__ = None
    return list(told.format_exception_only())[-1].strip()


def name_of(function: object) -> str:
    """What to call a function in messages."""
    return getattr(function, "__qualname__", None) or type(function).__name__


def shown(record: object) -> str:
    """A record as far as it fits a line."""
    text = repr(record[: _SHOWN_CHARACTERS + 1]) if isinstance(record, str | bytes) else repr(record)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def place(context: TaskContext) -> str:
    """Where the work is: the record, its file and offset."""
    parts = [context.label, shown(context.record)] if context.records_read else []
    if context.path:
        parts.append(f"of {context.path}")
    if context.offset is not None:
        parts.append(f"at offset {context.offset}")
    return " ".join(parts)


def _fault(
    error: BaseException, context: TaskContext, message: str, hint: str | None, *, is_placed: bool
) -> UserCodeError:
    where = place(context) if is_placed else ""
    return UserCodeError(
        f"{message}\n  at {where}" if where else message,
        hint=hint,
        traceback_text=user_traceback(error),
        exception_type=f"{type(error).__module__}.{type(error).__qualname__}",
        path=context.path,
        offset=context.offset if is_placed else None,
        record=shown(context.record) if where and context.records_read else "",
        position=context.position if is_placed else None,
        proof=context.proof if is_placed and context.position is not None else 0,
    )


def _is_ours(file_name: str) -> bool:
    # What packs values is no help to whoever yielded them. A compiled module has no absolute path.
    return file_name.startswith((_PACKAGE, "msgpack/")) or "/cloudpickle/" in file_name


def has_user_frame(error: BaseException) -> bool:
    """Whether any of its lines is the user's: an error of the operating system without one is none of theirs."""
    return any(not _is_ours(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def user_traceback(error: BaseException) -> str:
    """The traceback, causes included, from the first frame of the user to the last; empty if none of them has one."""
    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    top = told
    has_user_frame = False
    while told is not None:
        frames = list(told.stack)
        while frames and _is_ours(frames[0].filename):
            del frames[0]
        while frames and _is_ours(frames[-1].filename):  # what the user called of ours, such as `task.emit`
            del frames[-1]
        has_user_frame |= bool(frames)
        told.stack = traceback.StackSummary.from_list(frames)
        told = told.__cause__ or told.__context__
    assert top is not None
    return "".join(top.format()) if has_user_frame else ""
