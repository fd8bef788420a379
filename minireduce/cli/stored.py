"""What the verbs of `fs` share: the open file system, paths and patterns that users type, and their options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from minireduce.cli.options import Common
from minireduce.cli.show import size
from minireduce.config import size_bytes
from minireduce.errors import NotFound, RequestError, Unavailable

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem
    from minireduce.core.storage.views import FileStatus

STDIN = "-"
COPY_BYTES = 1 << 20
WAIT_SAID_AFTER_S = 1.0
"""A master that starts again in less is not worth a word."""

paths_argument = click.argument("paths", nargs=-1, required=True, metavar="PATH...")
overwrite_option = click.option("-f", "--overwrite", is_flag=True, help="Replace what is there.")
human_option = click.option("-h", "--human", "is_human", is_flag=True, help="Sizes with units.")
recursive_option = click.option("-R", "--recursive", is_flag=True, help="All below, too.")


@contextmanager
def opened(common: Common) -> Iterator[FileSystem]:
    """The file system of the cluster that is meant."""
    from minireduce.client.connection import open_connection
    from minireduce.client.fs import FileSystem

    with open_connection(common.configuration()) as connection:
        connection.on_wait = _Waiting().tell
        yield FileSystem(connection)
        if connection.reads.hedged:
            asked, faster = connection.reads.hedged, connection.reads.won_by_second
            click.echo(
                f"{asked} reads asked a second worker, as the first was slow; {faster} times it was faster", err=True
            )


class _Waiting:
    """Says what a command waits for, once for each thing: it may do so for as long as `master_wait_s`."""

    def __init__(self) -> None:
        self._said = ""

    def tell(self, error: Unavailable, waited_s: float) -> None:
        if waited_s >= WAIT_SAID_AFTER_S and error.message != self._said:
            self._said = error.message
            click.echo(f"waiting: {error.message}" + (f" ({error.hint})" if error.hint else ""), err=True)


def expand(files: FileSystem, paths: Sequence[str]) -> list[FileStatus]:
    """What the paths mean. Raises NotFound for one that means nothing."""
    from minireduce.client.store_paths import has_glob

    found: list[FileStatus] = []
    for path in paths:
        matches = files.glob(path) if has_glob(path) else [files.stat(path)]
        if not matches:
            raise NotFound(f"nothing matches {path}", hint="`minireduce fs ls` shows what is there")
        found.extend(matches)
    return found


def expand_all(files: FileSystem, paths: Sequence[str], *, recursive: bool) -> Iterator[FileStatus]:
    """What the paths mean, and with `recursive` all below."""
    for found in expand(files, paths):
        yield found
        if recursive and found.is_directory:
            yield from files.walk(found.path)


def check_target(files: FileSystem, target: str, sources: int) -> None:
    """Raise RequestError if several things should become one, or one of them lie below what is no directory."""
    if (sources > 1 or target.endswith("/")) and not (files.exists(target) and files.stat(target).is_directory):
        wanted = f", and {sources} sources need one" if sources > 1 else ""
        raise RequestError(f"{target} is no directory{wanted}", hint="make it first")


def size_option(name: str, text: str) -> Callable[[Any], Any]:
    """An option whose value is a size such as 16MiB."""

    def convert(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int:
        del ctx, parameter
        try:
            return 0 if value is None else size_bytes(value)
        except ValueError as error:
            raise click.BadParameter(f"it must be {error}") from None

    return click.option(name, callback=convert, metavar="SIZE", help=text)


def spelled(amount: int, *, is_human: bool) -> str:
    """A number of bytes as asked for."""
    return size(amount) if is_human else str(amount)
