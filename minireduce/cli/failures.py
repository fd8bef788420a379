"""What people see when something went wrong, and the exit status that says so to programs.

An error of ours is one line and, where there is one, a hint; never our traceback. Where user code raised, its traceback
comes first, with the file, offset and record that was worked on, since that is what gets mended. An error that we did
not foresee does show its traceback, as that is all there is to report.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from minireduce.errors import (
    JobFailed,
    JobKilled,
    MinireduceError,
    Refused,
    RequestError,
    Unavailable,
)

if TYPE_CHECKING:
    from minireduce.api.bad_record import BadRecord

SKIPPED_SHOWN_MAX = 20

DONE, FAILED, ASKED_WRONGLY, KILLED, NO_CLUSTER, INTERRUPTED = 0, 1, 2, 3, 4, 130

_STATUSES: tuple[tuple[type[MinireduceError], int], ...] = (
    (JobKilled, KILLED),
    (JobFailed, FAILED),
    (RequestError, ASKED_WRONGLY),
    (Refused, NO_CLUSTER),
    (Unavailable, NO_CLUSTER),
    (MinireduceError, FAILED),
)


def status_of(error: MinireduceError) -> int:
    """The exit status of an error of ours."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def report(error: BaseException, *, is_json: bool = False) -> int:
    """Show `error` to whoever typed the command; the exit status."""
    match error:
        case MinireduceError():
            sys.stdout.flush()
            told = _found_bad(error) + _user_code(error)
            hint = error.hint or ("mend the lines that the traceback shows" if told else None)
            if is_json:
                _print_json(type(error).__name__, error.message, hint)
            _complain(told + _lines(error.message, hint))
            return status_of(error)
        case click.exceptions.Exit():
            return error.exit_code
        case click.UsageError():
            hint = f"{error.ctx.command_path} --help" if error.ctx is not None else "minireduce --help"
            if is_json:
                _print_json("RequestError", error.format_message(), hint)
            _complain(_lines(error.format_message(), hint))
            return ASKED_WRONGLY
        case KeyboardInterrupt() | click.Abort():
            _complain("interrupted\n")
            return INTERRUPTED
        case BrokenPipeError():
            # Whoever read our output has enough. Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED
        case _:
            _complain("".join(traceback.format_exception(error)))
            _complain(_lines(f"this is a mistake in minireduce: {type(error).__name__}: {error}", "please report it"))
            return FAILED


def _user_code(error: MinireduceError) -> str:
    """What user code said: the traceback with its own frames, then where its input stood."""
    told: Any = error
    if isinstance(error, JobFailed) and error.errors:
        told = getattr(error.errors[0], "error", error.errors[0])
    return told_by_user_code(told)


def _found_bad(error: MinireduceError) -> str:
    """The records that a job had to leave out before it failed."""
    return "".join(f"{line}\n" for line in found_bad(error.skipped)) if isinstance(error, JobFailed) else ""


def found_bad(skipped: Sequence[BadRecord]) -> Iterator[str]:
    """A line for each record that could not be computed, of many the first ones."""
    for bad in skipped[:SKIPPED_SHOWN_MAX]:
        yield f"left out: {bad}"
    if len(skipped) > SKIPPED_SHOWN_MAX:
        yield f"left out: {len(skipped) - SKIPPED_SHOWN_MAX:,} more"


def told_by_user_code(told: Any) -> str:
    """What an error says of user code: its traceback, or what was wrong; then the file, offset and record."""
    from minireduce.core.task_data import TaskError

    text = getattr(told, "traceback", "") or getattr(told, "traceback_text", "")
    if not text and isinstance(told, TaskError):  # nothing was raised: what is wrong is what was yielded, or a crash
        text = told.message
    lines = [text.rstrip("\n")] if text else []
    path = getattr(told, "path", "")
    if path:
        offset = getattr(told, "offset", None)
        lines.append(f"while reading {path}" + (f", offset {offset}" if offset is not None and offset >= 0 else ""))
    record = getattr(told, "record", "")
    if record:
        lines.append(f"record: {record}")
    return "".join(f"{line}\n" for line in lines)


def _lines(message: str, hint: str | None) -> str:
    return f"error: {message}\n" + (f"  hint: {hint}\n" if hint else "")


def _print_json(kind: str, message: str, hint: str | None) -> None:
    print(json.dumps({"error": kind, "message": message, "hint": hint}))


def _complain(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
