"""The verbs of `fs` that look at what there is: listings, sizes, attributes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json, print_table, size
from minireduce.cli.stored import (
    expand,
    human_option,
    opened,
    paths_argument,
    recursive_option,
    spelled,
)

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem
    from minireduce.core.storage.views import FileStatus, Summary


@click.command(epilog="Example:  minireduce fs ls -h /logs")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@recursive_option
@click.option("-a", "--all", "is_all", is_flag=True, help="Names that begin with a dot, too.")
@click.option("-d", "--directory", "is_itself", is_flag=True, help="Directories themselves, not what they hold.")
@click.option("-t", "--time", "by_time", is_flag=True, help="The latest first.")
@click.option("-S", "--size", "by_size", is_flag=True, help="The largest first; -t is stronger.")
@click.option("-r", "--reverse", "is_reverse", is_flag=True, help="The other way round.")
@click.option("-C", "--paths-only", "is_bare", is_flag=True, help="Paths and nothing else.")
@human_option
@json_option
@common_options
def ls(
    paths: tuple[str, ...],
    common: Common,
    *,
    recursive: bool,
    is_all: bool,
    is_itself: bool,
    by_time: bool,
    by_size: bool,
    is_reverse: bool,
    is_bare: bool,
    is_human: bool,
    is_json: bool,
) -> None:
    """List directories; the root without PATH. Mode, replicas, owner, size, time and path."""
    listed: list[FileStatus] = []
    with opened(common) as files:
        found = expand(files, paths or ("/",))
        if is_itself:
            listed = _ordered(found, by_time=by_time, by_size=by_size, is_reverse=is_reverse)
        for each in [] if is_itself else found:
            below = files.walk(each.path) if recursive and each.is_directory else files.ls(each.path)
            shown = [entry for entry in below if is_all or not _is_hidden(entry.path, each.path)]
            listed += _ordered(shown, by_time=by_time, by_size=by_size, is_reverse=is_reverse)
    if is_json:
        print_json(listed)
    elif is_bare:
        for entry in listed:
            print(entry.path)
    else:
        _print_listing(listed, is_human=is_human)


def _ordered(listed: list[FileStatus], *, by_time: bool, by_size: bool, is_reverse: bool) -> list[FileStatus]:
    """What one PATH showed, in the order that was asked for; of equals, and without a wish, as it came."""
    if by_time:
        listed = sorted(listed, key=lambda each: -each.modified_at)
    elif by_size:
        listed = sorted(listed, key=lambda each: -each.length)
    return listed[::-1] if is_reverse else listed


def _print_listing(listed: Sequence[FileStatus], *, is_human: bool) -> None:
    rows = [
        (
            mode_text(each),
            "-" if each.is_directory else str(each.replication),
            each.owner or "-",
            "0" if each.is_directory else spelled(each.length, is_human=is_human),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.modified_at)),
            each.path,
        )
        for each in listed
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    for mode, replicas, owner, length, at, path in rows:
        print(f"{mode} {replicas:>{widths[1]}} {owner:<{widths[2]}} {length:>{widths[3]}} {at} {path}")


def mode_text(status: FileStatus) -> str:
    """The mode as `ls` writes it, such as `drwxr-xr-x`."""
    letters = "".join(
        letter if status.mode >> (8 - position) & 1 else "-" for position, letter in enumerate("rwxrwxrwx")
    )
    return ("d" if status.is_directory else "-") + letters


def _is_hidden(path: str, below: str) -> bool:
    return any(name.startswith(".") for name in path[len(below) :].split("/"))


@click.command(epilog="Example:  minireduce fs stat /logs/access.log")
@paths_argument
@json_option
@common_options
def stat(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Show files and directories, with the blocks of files and the workers that hold them."""
    with opened(common) as files:
        shown = [_described(files, found) for found in expand(files, paths)]
    if is_json:
        print_json(shown)
        return
    for described in shown:
        blocks = described.pop("blocks", [])
        for name, value in described.items():
            click.echo(f"{name:<18}{value}")
        for block in blocks:
            held = ", ".join(block["workers"]) or "nobody: the file cannot be read now"
            place = f"{block['length']} bytes at {block['offset']}"
            if block["within"] or block["length"] < block["block_bytes"]:
                place += f", from {block['within']} of a block of {block['block_bytes']} that small files share,"
            click.echo(f"{'block':<18}{block['block_id']}  {place} on {held}")


def _described(files: FileSystem, found: FileStatus) -> dict[str, Any]:
    described: dict[str, Any] = {
        "path": found.path,
        "kind": "directory" if found.is_directory else "file",
        "inode": found.inode,
        "owner": found.owner,
        "mode": f"{found.mode:04o}",
        "modified_at": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(found.modified_at)),
    }
    if not found.is_directory:
        sources = [block.source for block in files.blocks(found.path).blocks]
        described.update(length=found.length, block_size=found.block_size_bytes, replication=found.replication)
        described["blocks"] = [
            {
                "block_id": source.replica.block_id,
                "offset": max(0, source.file_offset),
                "length": min(source.replica.length, found.length - max(0, source.file_offset)),
                "within": max(0, -source.file_offset),
                "block_bytes": source.replica.length,
                "workers": list(source.workers),
            }
            for source in sources
        ]
    return described


@click.command(epilog="Example:  minireduce fs du -h /logs")
@paths_argument
@click.option("-s", "--summary", "is_summary", is_flag=True, help="One line for each PATH.")
@human_option
@json_option
@common_options
def du(paths: tuple[str, ...], common: Common, *, is_summary: bool, is_human: bool, is_json: bool) -> None:
    """Show how much files and directories hold: bytes, bytes with all replicas, path."""
    with opened(common) as files:
        shown = [
            each
            for found in expand(files, paths)
            for each in ([files.summary(found.path)] if is_summary else files.du(found.path))
        ]
    if is_json:
        print_json(shown)
        return
    for each in shown:
        sizes = (spelled(amount, is_human=is_human) for amount in (each.bytes, each.replica_bytes))
        print("  ".join([*(f"{amount:<12}" for amount in sizes), each.path]))


@click.command(epilog="Example:  minireduce fs count -q /logs")
@paths_argument
@click.option(
    "-q", "--quota", "has_quota", is_flag=True, help="First quota and what is left of it, for names, then bytes."
)
@human_option
@json_option
@common_options
def count(paths: tuple[str, ...], common: Common, *, has_quota: bool, is_human: bool, is_json: bool) -> None:
    """Count what paths hold, themselves included: directories, files, bytes, path."""
    with opened(common) as files:
        shown = [files.summary(found.path) for found in expand(files, paths)]
    if is_json:
        print_json(shown)
        return
    for each in shown:
        held = f"{each.directories:>12} {each.files:>12} {spelled(each.bytes, is_human=is_human):>18} {each.path}"
        print(f"{_quotas(each, is_human=is_human)} {held}" if has_quota else held)


def _quotas(summary: Summary, *, is_human: bool) -> str:
    """Quota and what is left of it, for names, then for bytes with all replicas."""
    columns = ["none", "inf", "none", "inf"]
    if summary.names_max:
        columns[:2] = str(summary.names_max), str(summary.names_max - summary.directories - summary.files)
    if summary.space_bytes_max:
        left = summary.space_bytes_max - summary.replica_bytes
        shown = ("-" * (left < 0)) + spelled(abs(left), is_human=is_human)
        columns[2:] = spelled(summary.space_bytes_max, is_human=is_human), shown
    return " ".join(f"{column:>15}" for column in columns)


@click.command(epilog="Example:  minireduce fs df -h")
@human_option
@json_option
@common_options
def df(common: Common, *, is_human: bool, is_json: bool) -> None:
    """Show the room on the disks of all live workers."""
    from minireduce.client.connection import open_connection
    from minireduce.wire import methods
    from minireduce.wire.questions import ListWorkers

    with open_connection(common.configuration()) as connection:
        workers = connection.call(methods.LIST_WORKERS, ListWorkers())
    live = [worker for worker in workers if worker.state == "live"]
    capacity, free = sum(each.capacity_bytes for each in live), sum(each.free_bytes for each in live)
    used = max(0, capacity - free)
    percent = round(100 * used / capacity) if capacity else 0
    if is_json:
        print_json({"size": capacity, "used": used, "available": free, "used_percent": percent})
        return
    sizes = [size(amount) if is_human else str(amount) for amount in (capacity, used, free)]
    print_table(("FILESYSTEM", "SIZE", "USED", "AVAILABLE", "USE%"), [("mr://", *sizes, f"{percent}%")])


@click.command(epilog="Example:  minireduce fs test -d /logs && echo there")
@click.argument("path", metavar="PATH")
@click.option("-e", "--exists", "wish", flag_value="e", default=True, help="Something has this path (the default).")
@click.option("-d", "--is-directory", "wish", flag_value="d", help="It is a directory.")
@click.option("-f", "--is-file", "wish", flag_value="f", help="It is a file.")
@click.option("-s", "--is-filled", "wish", flag_value="s", help="It is a file or directory that is not empty.")
@click.option("-z", "--is-empty", "wish", flag_value="z", help="It is a file without a byte.")
@json_option
@common_options
def test(path: str, common: Common, *, wish: str, is_json: bool) -> None:
    """Ask one thing about a path; the exit status is 0 if it is so, else 1."""
    from minireduce.errors import NotFound

    with opened(common) as files:
        try:
            found = files.stat(path)
        except NotFound:
            is_so = False
        else:
            is_so = _holds(files, found, wish)
    if is_json:
        print_json({"path": path, "answer": is_so})
    click.get_current_context().exit(0 if is_so else 1)


def _holds(files: FileSystem, found: FileStatus, wish: str) -> bool:
    match wish:
        case "d":
            return found.is_directory
        case "f":
            return not found.is_directory
        case "s":
            return bool(files.ls(found.path)) if found.is_directory else found.length > 0
        case "z":
            return not found.is_directory and found.length == 0
    return True
