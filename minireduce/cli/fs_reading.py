"""The verbs of `fs` that read files: whole, from either end, unpacked, put together, or as a checksum."""

from __future__ import annotations

import os
import shutil
import sys
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json
from minireduce.cli.stored import (
    COPY_BYTES,
    expand,
    opened,
    paths_argument,
)

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem
    from minireduce.core.storage.views import FileStatus

PIECE_BYTES = 1024
"""What `head` and `tail` show."""
FOLLOW_INTERVAL_S = 1.0


@click.command(epilog="Example:  minireduce fs cat /out/part-00000 | head")
@paths_argument
@json_option
@common_options
def cat(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Write files to standard output, one after the other; as JSON an object a file, its bytes in base64."""
    _write_out(paths, common, is_json=is_json, is_plain=False)


@click.command(epilog="Example:  minireduce fs text /logs/access.log.gz")
@paths_argument
@json_option
@common_options
def text(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Write files to standard output, .gz .bz2 .zst .xz as what they hold."""
    _write_out(paths, common, is_json=is_json, is_plain=True)


def _write_out(paths: Sequence[str], common: Common, *, is_json: bool, is_plain: bool) -> None:
    from minireduce.engine.read import decompressed, read_unpacked

    with opened(common) as files:
        for found in expand(files, paths):
            with files.open(found.path) as reader:
                stream = decompressed(reader, found.path) if is_plain else reader
                pieces = iter(lambda: read_unpacked(stream, found.path, COPY_BYTES), b"")  # noqa: B023 - used at once
                if is_json:
                    print_json({"path": found.path, "base64": b64encode(b"".join(pieces)).decode("ascii")})
                else:
                    sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()


@click.command(epilog="Example:  minireduce fs head /logs/access.log")
@paths_argument
@click.option(
    "-c",
    "--bytes",
    "count",
    type=click.IntRange(min=0),
    default=PIECE_BYTES,
    show_default=True,
    help="How many of its first bytes.",
)
@json_option
@common_options
def head(paths: tuple[str, ...], common: Common, *, count: int, is_json: bool) -> None:
    """Write the first bytes of files to standard output."""
    with opened(common) as files:
        for found in expand(files, paths):
            with files.open(found.path) as stream:
                _give(found, stream.read(count), is_json=is_json)


@click.command(epilog="Example:  minireduce fs tail -f /logs/access.log")
@paths_argument
@click.option(
    "-c",
    "--bytes",
    "count",
    type=click.IntRange(min=0),
    default=PIECE_BYTES,
    show_default=True,
    help="How many of its last bytes.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is appended, until interrupted.")
@json_option
@common_options
def tail(paths: tuple[str, ...], common: Common, *, count: int, follow: bool, is_json: bool) -> None:
    """Write the last bytes of files to standard output."""
    with opened(common) as files:
        shown = expand(files, paths)
        for found in shown:
            with files.open(found.path) as stream:
                stream.seek(max(0, found.length - count))
                _give(found, stream.read(), is_json=is_json)
        if follow and len(shown) == 1:
            _follow(files, shown[0], is_json=is_json)


def _follow(files: FileSystem, found: FileStatus, *, is_json: bool) -> None:
    while True:
        time.sleep(FOLLOW_INTERVAL_S)
        now = files.stat(found.path)
        if now.length > found.length:
            with files.open(now.path) as stream:
                stream.seek(found.length)
                _give(now, stream.read(), is_json=is_json)
        found = now


def _give(found: FileStatus, data: bytes, *, is_json: bool) -> None:
    if is_json:
        print_json({"path": found.path, "base64": b64encode(data).decode("ascii")})
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@click.command(epilog="Example:  minireduce fs checksum /logs/access.log")
@paths_argument
@json_option
@common_options
def checksum(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Show the CRC32C of files, whatever their blocks: all bytes are read and verified for it."""
    with opened(common) as files:
        shown = [(found.path, files.checksum(found.path)) for found in expand(files, paths)]
    if is_json:
        print_json([{"path": path, "algorithm": "CRC32C", "checksum": f"{value:08x}"} for path, value in shown])
        return
    for path, value in shown:
        print(f"{path}\tCRC32C\t{value:08x}")


@click.command(epilog="Example:  minireduce fs getmerge /out out.txt")
@click.argument("sources", nargs=-1, required=True, metavar="PATH...")
@click.argument("target", metavar="LOCAL")
@click.option("-n", "--newline", "is_newline", is_flag=True, help="A newline after each file.")
@click.option("-e", "--skip-empty", "is_skipping", is_flag=True, help="Pass over empty files.")
@json_option
@common_options
def getmerge(
    sources: tuple[str, ...], target: str, common: Common, *, is_newline: bool, is_skipping: bool, is_json: bool
) -> None:
    """Write the files of directories into one local file, in ascending order of name; - is standard output."""
    from pathlib import Path

    from minireduce.client.store_paths import name_of
    from minireduce.client.stored_inputs import is_passed_over

    with opened(common) as files:
        merged: list[FileStatus] = []
        for found in expand(files, sources):
            below = files.ls(found.path) if found.is_directory else [found]
            merged.extend(
                each
                for each in below
                if not each.is_directory
                and not (found.is_directory and is_passed_over(name_of(each.path)))
                and not (is_skipping and not each.length)
            )
        stream = cast("BinaryIO", sys.stdout.buffer if target == "-" else Path(target).open("wb"))  # noqa: SIM115
        try:
            for each in merged:
                with files.open(each.path) as reader:
                    shutil.copyfileobj(reader, stream, COPY_BYTES)
                if is_newline:
                    stream.write(os.linesep.encode())
            stream.flush()
        finally:
            if target != "-":
                stream.close()
    if is_json:
        print_json({"files": len(merged), "bytes": sum(each.length for each in merged)})
