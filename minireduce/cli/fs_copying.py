"""The verbs of `fs` that move bytes between the block store and the local disk."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json, size
from minireduce.cli.stored import COPY_BYTES, STDIN, check_target, expand, opened, overwrite_option, size_option
from minireduce.errors import RequestError

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem
    from minireduce.core.storage.views import FileStatus


@click.command(epilog="Example:  minireduce fs put access.log /logs/access.log")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="PATH")
@overwrite_option
@click.option("--replication", type=click.IntRange(min=1), metavar="N", help="Replicas of each block.")
@size_option("--block-size", "Size of its blocks, such as 16MiB.")
@json_option
@common_options
def put(
    sources: tuple[str, ...],
    target: str,
    common: Common,
    *,
    overwrite: bool,
    replication: int | None,
    block_size: int,
    is_json: bool,
) -> None:
    """Store local files and directories; - is standard input. Into PATH if that is a directory."""
    with opened(common) as files:
        check_target(files, target, len(sources))
        began, total = time.monotonic(), 0
        wishes: dict[str, Any] = {"overwrite": overwrite, "block_size": block_size, "replication": replication or 0}
        for source in sources:
            if source == STDIN:
                total += files.put_stream(sys.stdin.buffer, target, **wishes).length
            else:
                total += files.put(source, target, **wishes)
        elapsed_s = time.monotonic() - began
    if is_json:
        print_json({"bytes": total, "elapsed_s": round(elapsed_s, 3)})
    else:
        click.echo(f"stored {size(total)} in {elapsed_s:.1f} s", err=True)


@click.command(epilog="Example:  minireduce fs get /logs/access.log .")
@click.argument("sources", nargs=-1, required=True, metavar="PATH...")
@click.argument("target", metavar="LOCAL")
@overwrite_option
@json_option
@common_options
def get(sources: tuple[str, ...], target: str, common: Common, *, overwrite: bool, is_json: bool) -> None:
    """Copy files and directories to the local disk. Into LOCAL if that is a directory; - is standard output."""
    from pathlib import Path

    with opened(common) as files:
        found = expand(files, sources)
        if target == STDIN:
            total = sum(_copy_out(files, each) for each in found)
        elif len(found) > 1 and not Path(target).is_dir():
            raise RequestError(f"{target} is no directory, and {len(found)} sources need one", hint="make it first")
        else:
            total = sum(files.get(each.path, target, overwrite=overwrite) for each in found)
    if is_json:
        print_json({"bytes": total})
    else:
        click.echo(f"copied {size(total)}", err=True)


@click.command(epilog="Example:  minireduce fs append today.log /logs/access.log")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="PATH")
@json_option
@common_options
def append(sources: tuple[str, ...], target: str, common: Common, *, is_json: bool) -> None:
    """Append local files to a file, which is made if there is none; - is standard input."""
    from pathlib import Path

    with opened(common) as files, files.open(target, "ab") as end:
        total = 0
        for source in sources:
            with contextlib.ExitStack() as stack:
                stream = sys.stdin.buffer if source == STDIN else stack.enter_context(Path(source).open("rb"))
                while piece := stream.read(COPY_BYTES):
                    total += end.write(piece)
    if is_json:
        print_json({"bytes": total})
    else:
        click.echo(f"appended {size(total)}", err=True)


def _copy_out(files: FileSystem, found: FileStatus) -> int:
    with files.open(found.path) as reader:
        shutil.copyfileobj(reader, sys.stdout.buffer, COPY_BYTES)
    sys.stdout.buffer.flush()
    return found.length
