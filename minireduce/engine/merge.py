"""Bring sorted runs together, in (split, spill) order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunSlice:
    """One partition's bytes within one map output; `file` is a path, or a descriptor that stays open here."""

    file: Path | int
    offset: int
    length: int
    order: int  # index of the map task; values of a key are reduced in this order
