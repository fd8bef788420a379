"""Take apart what a part of a job with named outputs holds: its pairs, and beside them the outputs, as files.

A part comes whole and is verified whole (`parts`); the table at its end says where things are (`docs/formats.md`). What
the part was fetched into may be a second name of the worker's own file, so it is never written through: the pairs get a
file of their own, which takes its place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from minireduce.api.step import is_output_name
from minireduce.errors import Corruption

_COPY_BYTES = 1 << 20


def cut_part(part: Path, *, is_typed: bool) -> list[Path]:
    """Leave only the pairs in `part`; its outputs are then the files NAME/PART beside it, those that have anything.

    A typed part without a table is left alone. Raises Corruption.
    """
    from minireduce.engine.frames import PART_MAGIC, PART_WITH_OUTPUTS_MAGIC, Source
    from minireduce.engine.part_table import read_table

    size_bytes = part.stat().st_size
    if not size_bytes:
        return []
    made = []
    with part.open("rb") as file:
        if is_typed and file.read(len(PART_MAGIC)) != PART_WITH_OUTPUTS_MAGIC:
            return []
        table = read_table(Source(file, str(part)), 0, size_bytes)
        for name, (offset, length) in table.outputs.items():
            if not is_output_name(name):
                raise Corruption(f"{part} names an output {name!r:.80}")
            target = part.parent / name / part.name
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as output:
                _copy(file, offset, length, output)
            made.append(target)
        pairs = part.with_name(f"{part.name}.pairs")
        with pairs.open("wb") as output:
            start = len(PART_MAGIC) if is_typed else 0
            output.write(PART_MAGIC[:start])
            _copy(file, start, table.pairs_bytes - start, output)
    pairs.rename(part)
    return made


def _copy(source: BinaryIO, offset: int, length: int, target: BinaryIO) -> None:
    source.seek(offset)
    while length and (piece := source.read(min(length, _COPY_BYTES))):
        target.write(piece)
        length -= len(piece)
    if length:
        raise Corruption(f"{os.fspath(source.name)} is shorter than its table says")
