"""The bad records of a job, as its submitter gets them: objects, and lines of `_quarantine/part-00000.jsonl`.

An output directory has the file only where something was left out. Its lines are in the order of tasks, then of records
(`docs/formats.md`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from minireduce.api.bad_record import BadRecord
from minireduce.core.views import SkippedView
from minireduce.ids import TaskKind

if TYPE_CHECKING:
    from minireduce.client.connection import Connection

QUARANTINE_NAME = "_quarantine"
QUARANTINE_PART = "part-00000.jsonl"


def fetch_skipped(connection: Connection, job: str) -> tuple[BadRecord, ...]:
    """The records that a job left out, or, where it failed, those that it found to be bad."""
    from minireduce.wire import methods
    from minireduce.wire.questions import ListSkipped

    return read_skipped(connection.call(methods.LIST_SKIPPED, ListSkipped(job)))


def read_skipped(views: Iterable[SkippedView]) -> tuple[BadRecord, ...]:
    """Bad records as they come from the master."""
    return tuple(map(_read, views))


def _read(view: SkippedView) -> BadRecord:
    record, error = view.record, view.record.error
    data = record.data.decode(errors="replace") if record.is_text else record.data
    is_key = view.attempt.task.kind is TaskKind.REDUCE
    return BadRecord(
        task=str(view.attempt.task),
        attempt=str(view.attempt),
        kind=error.kind,
        error=error.type_name,
        message=error.message,
        traceback=error.traceback,
        path=error.path,
        offset=error.offset if error.offset >= 0 else None,
        position=error.position,
        record=None if is_key else data,
        key=str(data) if is_key else None,
        bytes_total=record.bytes_total,
    )


def to_lines(skipped: Iterable[BadRecord]) -> bytes:
    """The text of a quarantine file: a JSON object a line."""
    return "".join(json.dumps(_to_plain(bad), ensure_ascii=False) + "\n" for bad in skipped).encode(errors="replace")


def _to_plain(bad: BadRecord) -> dict[str, object]:
    plain: dict[str, object] = {
        "task": bad.task,
        "attempt": bad.attempt,
        "kind": bad.kind,
        "error": bad.error,
        "message": bad.message,
        "file": bad.path or None,
        "offset": bad.offset,
        "position": bad.position,
        "bytes": bad.bytes_total,
    }
    if bad.key is not None:
        plain["key"] = bad.key
    elif isinstance(bad.record, bytes):
        plain["record_base64"] = base64.b64encode(bad.record).decode()
    else:
        plain["record"] = bad.record
    plain["traceback"] = bad.traceback
    return plain
