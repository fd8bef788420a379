"""`fs fsck`: what is wrong with stored files, why, and what is done about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import plural, print_json, size
from minireduce.cli.stored import expand_all, opened

if TYPE_CHECKING:
    from minireduce.core.storage.views import BlockHealth, FileHealth


@click.command(epilog="Example:  minireduce fs fsck --repair /")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--repair", is_flag=True, help="Repair now: wait for no worker that may come back.")
@click.option("--blocks", "is_showing", is_flag=True, help="Every block, healthy ones too, with its workers.")
@json_option
@common_options
def fsck(paths: tuple[str, ...], common: Common, *, repair: bool, is_showing: bool, is_json: bool) -> None:
    """Examine the blocks of files; of all files without PATH. The exit status is 1 if a block is missing."""
    found: list[FileHealth] = []
    seen: dict[int, str] = {}  # small files share blocks
    repaired = doubted = 0
    with opened(common) as files:
        for status in expand_all(files, paths or ("/",), recursive=True):
            if status.is_directory:
                continue
            file = files.health(status.path)
            found.append(file)
            new = [block for block in file.blocks if block.replica.block_id not in seen]
            if repair and new:
                repaired += files.hurry_repair(status)
                doubted += sum(block.state == "missing" and bool(block.damaged) for block in new)
            seen.update((block.replica.block_id, block.state) for block in file.blocks)
    states = Counter(seen.values())
    if is_json:
        print_json({"files": found, "states": dict(states), "repairing": repaired})
    else:
        for file in found:
            _print_file(file, is_showing=is_showing)
        _print_totals(found, states)
        if repair:
            click.echo(f"{plural(max(0, repaired - doubted), 'block')} will be repaired now")
        if doubted:
            click.echo(f"the damaged replicas of {plural(doubted, 'block')} are read again: look once more with fsck")
    click.get_current_context().exit(1 if states["missing"] else 0)


def _print_file(file: FileHealth, *, is_showing: bool) -> None:
    for position, block in enumerate(file.blocks):
        if is_showing or block.state not in {"healthy", "open"} or block.damaged:
            click.echo(f"{file.status.path}: block {position} ({block.replica.block_id}) {_told(block)}")


def _told(block: BlockHealth) -> str:
    held = f"{len(block.good)} of {block.wanted} replicas" + (f" on {', '.join(block.good)}" if block.good else "")
    damaged = f", damaged on {', '.join(block.damaged)}" if block.damaged else ""
    why = f": {block.why}" if block.why else ""
    shared = f", shared by {plural(block.shared_by, 'small file')}" if block.shared_by else ""
    holes = f", {size(block.holes_bytes)} of removed ones in it" if block.holes_bytes else ""
    return f"is {block.state}, {held}{damaged}{shared}{holes}{why}"


def _print_totals(found: list[FileHealth], states: Counter[str]) -> None:
    total = sum(file.status.length for file in found)
    blocks = sum(states.values())
    click.echo(f"{plural(len(found), 'file')}, {size(total)}, {plural(blocks, 'block')}")
    for state, count in sorted(states.items()):
        click.echo(f"  {state:<18}{count}")
    broken = sorted({file.status.path for file in found if any(block.state == "missing" for block in file.blocks)})
    verdict = f"CORRUPT: {plural(len(broken), 'file')} cannot be read now" if broken else "HEALTHY"
    click.echo(f"Status: {verdict}")
