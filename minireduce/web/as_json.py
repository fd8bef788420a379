"""Views as JSON: fields by their names, ids as text, bytes in hexadecimal, counters as group and name."""

from __future__ import annotations

import dataclasses
from typing import Any

from minireduce.ids import AttemptId, TaskId


def as_json(value: Any) -> Any:
    """`value` as what `json` can write."""
    if isinstance(value, TaskId | AttemptId):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: _field(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def _field(name: str, value: Any) -> Any:
    if name != "counters":
        return as_json(value)
    groups: dict[str, dict[str, int]] = {}
    for group, counter, number in value:
        groups.setdefault(group, {})[counter] = number
    return groups
