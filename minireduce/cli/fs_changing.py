"""The verbs of `fs` that change names and what is said about files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from minireduce.cli.modes import mode_after
from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import plural, print_json
from minireduce.cli.stored import (
    check_target,
    expand,
    expand_all,
    opened,
    overwrite_option,
    paths_argument,
    recursive_option,
)
from minireduce.config import size_bytes
from minireduce.errors import NotFound, RequestError

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem
    from minireduce.core.storage.views import FileStatus

WAIT_INTERVAL_S = 0.5


@click.command(epilog="Example:  minireduce fs mkdir -p /logs/2026")
@paths_argument
@click.option("-p", "--parents", is_flag=True, help="Make those above, too; one that exists is fine.")
@json_option
@common_options
def mkdir(paths: tuple[str, ...], common: Common, *, parents: bool, is_json: bool) -> None:
    """Make directories."""
    with opened(common) as files:
        made = [files.mkdir(path, parents=parents) for path in paths]
    if is_json:
        print_json(made)


@click.command(epilog="Example:  minireduce fs rm -r /out")
@paths_argument
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories with all they hold, too.")
@click.option("-f", "--force", is_flag=True, help="What does not exist is no error.")
@click.option("--skip-trash", "-skipTrash", is_flag=True, help="For good: it cannot be brought back.")
@json_option
@common_options
def rm(
    paths: tuple[str, ...], common: Common, *, recursive: bool, force: bool, skip_trash: bool, is_json: bool
) -> None:
    """Remove files and directories. They are kept in the trash for a day; `fs mv` brings them back."""
    removed: list[dict[str, object]] = []
    with opened(common) as files:
        for path in paths:
            try:
                for found in expand(files, (path,)):
                    done = files.rm(found.path, recursive=recursive, skip_trash=skip_trash)
                    removed.append({"path": found.path, "inodes": done.inodes, "trash_path": done.trash_path})
                    if not is_json:
                        kept = f"Moved: {found.path} to trash at: {done.trash_path}"
                        click.echo(kept if done.trash_path else f"Deleted {found.path}", err=True)
            except NotFound:
                if not force:
                    raise
    if is_json:
        print_json({"removed": sum(int(str(each["inodes"])) for each in removed), "paths": removed})


@click.command(epilog="Example:  minireduce fs expunge")
@json_option
@common_options
def expunge(common: Common, *, is_json: bool) -> None:
    """Empty the trash now."""
    with opened(common) as files:
        removed = files.expunge()
    if is_json:
        print_json({"removed": removed})
    else:
        click.echo(f"{plural(removed, 'name')} removed", err=True)


@click.command(epilog="Example:  minireduce fs mv /out /archive/out")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="TARGET")
@json_option
@common_options
def mv(sources: tuple[str, ...], target: str, common: Common, *, is_json: bool) -> None:
    """Rename; into TARGET if that is a directory. Each happens whole or not at all."""
    with opened(common) as files:
        found = expand(files, sources)
        check_target(files, target, len(found))
        moved = [files.mv(each.path, target) for each in found]
    if is_json:
        print_json(moved)


@click.command(epilog="Example:  minireduce fs cp /logs/a /archive")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="TARGET")
@overwrite_option
@json_option
@common_options
def cp(sources: tuple[str, ...], target: str, common: Common, *, overwrite: bool, is_json: bool) -> None:
    """Copy within the block store; into TARGET if that is a directory, directories with all they hold."""
    with opened(common) as files:
        found = expand(files, sources)
        check_target(files, target, len(found))
        total = sum(files.copy(each.path, target, overwrite=overwrite) for each in found)
    if is_json:
        print_json({"bytes": total})


@click.command(epilog="Example:  minireduce fs touch /logs/_READY")
@paths_argument
@json_option
@common_options
def touch(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Make empty files where there are none."""
    with opened(common) as files:
        made = [files.stat(path) if files.exists(path) else files.touch(path) for path in paths]
    if is_json:
        print_json(made)


@click.command(epilog="Example:  minireduce fs touchz /logs/_READY")
@paths_argument
@json_option
@common_options
def touchz(paths: tuple[str, ...], common: Common, *, is_json: bool) -> None:
    """Make empty files; a file that is not empty is an error."""
    made: list[FileStatus] = []
    with opened(common) as files:
        for path in paths:
            found = files.stat(path) if files.exists(path) else files.touch(path)
            if found.is_directory or found.length:
                what = "a directory" if found.is_directory else "not empty"
                raise RequestError(f"{path} is {what}", hint="`minireduce fs touch` leaves what is there as it is")
            made.append(found)
    if is_json:
        print_json(made)


@click.command(epilog="Example:  minireduce fs setrep -w 2 /logs")
@click.argument("replication", type=click.IntRange(min=1), metavar="N")
@paths_argument
@click.option("-w", "--wait", is_flag=True, help="Return once all replicas are there, and none too many.")
@click.option("-R", "--recursive", is_flag=True, help="Taken as given: directories are always meant with all below.")
@json_option
@common_options
def setrep(
    replication: int, paths: tuple[str, ...], common: Common, *, wait: bool, recursive: bool, is_json: bool
) -> None:
    """Set the number of replicas of files, and of all files below directories."""
    del recursive
    with opened(common) as files:
        changed = [
            files.setrep(found.path, replication)
            for found in expand_all(files, paths, recursive=True)
            if not found.is_directory
        ]
        for each in changed:
            if not is_json:
                click.echo(f"Replication {replication} set: {each.path}", err=True)
        if wait:
            for each in changed:
                _wait_for_replicas(files, each)
    if is_json:
        print_json(changed)


@click.command(epilog="Example:  minireduce fs setquota --names 10000 --space 2TiB /users/ada")
@paths_argument
@click.option("--names", help="So many files and directories at most, PATH included; none: any number.")
@click.option("--space", help="So many bytes with all replicas at most, such as 500GiB; none: any number.")
@json_option
@common_options
def setquota(paths: tuple[str, ...], common: Common, *, names: str | None, space: str | None, is_json: bool) -> None:
    """Limit what directories may hold. What they hold already stays."""
    if names is None and space is None:
        raise RequestError("no quota is given", hint="give --names, --space or both; none takes one away")
    wanted = {"names": _limit("--names", names), "space": _limit("--space", space)}
    with opened(common) as files:
        changed = [files.setquota(found.path, **wanted) for found in expand(files, paths)]
    if is_json:
        print_json(changed)


def _limit(flag: str, text: str | None) -> int:
    """-1: not given. 0: none."""
    if text is None or text == "none":
        return -1 if text is None else 0
    try:
        return int(text) if flag == "--names" and int(text) > 0 else size_bytes(text)
    except ValueError:
        raise RequestError(f"{flag} cannot be {text!r}", hint="it is a number above 0, or none") from None


def _wait_for_replicas(files: FileSystem, status: FileStatus) -> None:
    """Return once each block has as many good replicas as it should, or as live workers, and say if these are fewer."""
    while True:
        workers = files.workers_live()
        wanted = min(status.replication, workers)
        if all(len(block.source.workers) == wanted for block in files.blocks(status.path).blocks):
            if wanted < status.replication and status.length > 0:
                said = f"{wanted} of {status.replication} replicas are there, one on each live worker"
                click.echo(f"{status.path}: {said}; the others are made when more workers start", err=True)
            return
        time.sleep(WAIT_INTERVAL_S)


@click.command(epilog="Example:  minireduce fs chmod 640 /logs/access.log")
@click.argument("mode", metavar="MODE")
@paths_argument
@recursive_option
@json_option
@common_options
def chmod(mode: str, paths: tuple[str, ...], common: Common, *, recursive: bool, is_json: bool) -> None:
    """Set the mode of files and directories, 640 or u+x. It is shown; who has a client's token may do anything."""
    mode_after(mode, 0, is_directory=False)  # one that is none changes nothing
    with opened(common) as files:
        changed = [
            files.change(each.path, mode=mode_after(mode, each.mode, is_directory=each.is_directory))
            for each in expand_all(files, paths, recursive=recursive)
        ]
    if is_json:
        print_json(changed)


@click.command(epilog="Example:  minireduce fs chown ada /logs")
@click.argument("owner", metavar="OWNER")
@paths_argument
@recursive_option
@json_option
@common_options
def chown(owner: str, paths: tuple[str, ...], common: Common, *, recursive: bool, is_json: bool) -> None:
    """Set the owner of files and directories. It is shown; who has a client's token may do anything."""
    with opened(common) as files:
        changed = [files.change(each.path, owner=owner) for each in expand_all(files, paths, recursive=recursive)]
    if is_json:
        print_json(changed)
