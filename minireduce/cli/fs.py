"""`fs`: files of the block store. Paths in it are absolute, with or without `mr://`; `*`, `?` and `[…]` match names."""

from __future__ import annotations

import shutil
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json, print_table, size
from minireduce.config import size_bytes
from minireduce.errors import NotFound, RequestError

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem
    from minireduce.core.storage.views import FileStatus

STDIN = "-"

paths_argument = click.argument("paths", nargs=-1, required=True, metavar="PATH...")
overwrite_option = click.option("-f", "--overwrite", is_flag=True, help="Replace what is there.")


@click.group(epilog="Example:  minireduce fs put books/ /books")
def fs() -> None:
    """Store, list and read files in the block store."""


@contextmanager
def _opened(common: Common) -> Iterator[FileSystem]:
    from minireduce.client.connection import open_connection
    from minireduce.client.fs import FileSystem

    with open_connection(common.configuration()) as connection:
        yield FileSystem(connection)


def _expand(files: FileSystem, paths: Sequence[str]) -> list[FileStatus]:
    """What the paths mean. Raises NotFound for one that means nothing."""
    from minireduce.client.store_paths import has_glob

    found: list[FileStatus] = []
    for path in paths:
        matches = files.glob(path) if has_glob(path) else [files.stat(path)]
        if not matches:
            raise NotFound(f"nothing matches {path}", hint="`minireduce fs ls` shows what is there")
        found.extend(matches)
    return found


def _size_option(name: str, text: str) -> Callable[[Any], Any]:
    def convert(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int:
        del ctx, parameter
        try:
            return 0 if value is None else size_bytes(value)
        except ValueError as error:
            raise click.BadParameter(f"it must be {error}") from None

    return click.option(name, callback=convert, metavar="SIZE", help=text)


@fs.command(epilog="Example:  minireduce fs put access.log /logs/access.log")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="PATH")
@overwrite_option
@click.option("--replication", type=click.IntRange(min=1), metavar="N", help="Replicas of each block.")
@_size_option("--block-size", "Size of its blocks, such as 16MiB.")
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
    with _opened(common) as files:
        if len(sources) > 1 and not (files.exists(target) and files.stat(target).is_directory):
            raise RequestError(f"{target} is no directory, and {len(sources)} sources need one", hint="make it first")
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


@fs.command(epilog="Example:  minireduce fs get /logs/access.log .")
@click.argument("sources", nargs=-1, required=True, metavar="PATH...")
@click.argument("target", metavar="LOCAL")
@overwrite_option
@json_option
@common_options
def get(sources: tuple[str, ...], target: str, common: Common, *, overwrite: bool, is_json: bool) -> None:
    """Copy files and directories to the local disk. Into LOCAL if that is a directory."""
    from pathlib import Path

    with _opened(common) as files:
        found = _expand(files, sources)
        if len(found) > 1 and not Path(target).is_dir():
            raise RequestError(f"{target} is no directory, and {len(found)} sources need one", hint="make it first")
        total = sum(files.get(each.path, target, overwrite=overwrite) for each in found)
    if is_json:
        print_json({"bytes": total})
    else:
        click.echo(f"copied {size(total)}", err=True)


@fs.command(epilog="Example:  minireduce fs ls /logs")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-R", "--recursive", is_flag=True, help="All below, too.")
@click.option("-a", "--all", "is_all", is_flag=True, help="Names that begin with a dot, too.")
@json_option
@common_options
def ls(paths: tuple[str, ...], common: Common, *, recursive: bool, is_all: bool, is_json: bool) -> None:
    """List directories; the root without PATH."""
    with _opened(common) as files:
        listed: list[FileStatus] = []
        for found in _expand(files, paths or ("/",)):
            below = files.walk(found.path) if recursive and found.is_directory else files.ls(found.path)
            listed.extend(entry for entry in below if is_all or not _is_hidden(entry.path, found.path))
    if is_json:
        print_json(listed)
        return
    print_table(
        ("SIZE", "REPLICAS", "MODIFIED", "PATH"),
        [
            (
                "-" if each.is_directory else each.length,
                "-" if each.is_directory else each.replication,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each.modified_at)),
                each.path + ("/" if each.is_directory else ""),
            )
            for each in listed
        ],
    )


def _is_hidden(path: str, below: str) -> bool:
    return any(name.startswith(".") for name in path[len(below) :].split("/"))


@fs.command(epilog="Example:  minireduce fs cat /out/part-00000 | head")
@paths_argument
@json_option
@common_options
def cat(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Write files to standard output, one after the other; as JSON an object a file, its bytes in base64."""
    with _opened(common) as files:
        for found in _expand(files, paths):
            with files.read(found.path) as reader:
                if is_json:
                    print_json({"path": found.path, "base64": b64encode(reader.read()).decode("ascii")})
                else:
                    shutil.copyfileobj(reader, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()


@fs.command(epilog="Example:  minireduce fs mkdir -p /logs/2026")
@paths_argument
@click.option("-p", "--parents", is_flag=True, help="Make those above, too; one that exists is fine.")
@json_option
@common_options
def mkdir(paths: tuple[str, ...], common: Common, *, parents: bool, is_json: bool) -> None:
    """Make directories."""
    with _opened(common) as files:
        made = [files.mkdir(path, parents=parents) for path in paths]
    if is_json:
        print_json(made)


@fs.command(epilog="Example:  minireduce fs rm -r /out")
@paths_argument
@click.option("-r", "--recursive", is_flag=True, help="Directories with all they hold, too.")
@click.option("-f", "--force", is_flag=True, help="What does not exist is no error.")
@json_option
@common_options
def rm(paths: tuple[str, ...], common: Common, *, recursive: bool, force: bool, is_json: bool) -> None:
    """Remove files and directories."""
    removed = 0
    with _opened(common) as files:
        for path in paths:
            try:
                removed += sum(files.rm(found.path, recursive=recursive) for found in _expand(files, (path,)))
            except NotFound:
                if not force:
                    raise
    if is_json:
        print_json({"removed": removed})


@fs.command(epilog="Example:  minireduce fs mv /out /archive/out")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="TARGET")
@json_option
@common_options
def mv(sources: tuple[str, ...], target: str, common: Common, *, is_json: bool) -> None:
    """Rename; into TARGET if that is a directory. Each happens whole or not at all."""
    with _opened(common) as files:
        found = _expand(files, sources)
        if len(found) > 1 and not (files.exists(target) and files.stat(target).is_directory):
            raise RequestError(f"{target} is no directory, and {len(found)} sources need one", hint="make it first")
        moved = [files.mv(each.path, target) for each in found]
    if is_json:
        print_json(moved)


@fs.command(epilog="Example:  minireduce fs stat /logs/access.log")
@paths_argument
@json_option
@common_options
def stat(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Show files and directories, with the blocks of files and the workers that hold them."""
    with _opened(common) as files:
        shown = [_described(files, found) for found in _expand(files, paths)]
    if is_json:
        print_json(shown)
        return
    for described in shown:
        blocks = described.pop("blocks", [])
        for name, value in described.items():
            click.echo(f"{name:<18}{value}")
        for block in blocks:
            held = ", ".join(block["workers"]) or "nobody: the file cannot be read now"
            click.echo(f"{'block':<18}{block['block_id']}  {block['length']} bytes at {block['offset']} on {held}")


def _described(files: FileSystem, found: FileStatus) -> dict[str, Any]:
    described: dict[str, Any] = {
        "path": found.path,
        "kind": "directory" if found.is_directory else "file",
        "inode": found.inode,
        "modified_at": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(found.modified_at)),
    }
    if not found.is_directory:
        sources = [block.source for block in files.blocks(found.path).blocks]
        described.update(length=found.length, block_size=found.block_size_bytes, replication=found.replication)
        described["blocks"] = [
            {
                "block_id": source.replica.block_id,
                "offset": source.file_offset,
                "length": source.replica.length,
                "workers": list(source.workers),
            }
            for source in sources
        ]
    return described
