"""`fs`: files of the block store. Paths in it are absolute, with or without `mr://`; `*`, `?` and `[…]` match names.

The verbs and their flags are those that users of `hdfs dfs` know, where they mean the same.
"""

from __future__ import annotations

import click

from minireduce.cli import fs_changing, fs_checking, fs_copying, fs_looking, fs_reading

_SAID_OTHERWISE = {
    "appendToFile": "append",
    "copyFromLocal": "put",
    "copyToLocal": "get",
    "dus": "du -s",
    "find": "ls -R -C",
    "lsr": "ls -R",
    "moveFromLocal": "put",
    "moveToLocal": "get",
    "rmdir": "rm",
    "rmr": "rm -r",
}
"""Verbs of `hdfs dfs` that have another name here."""


class _Verbs(click.Group):
    """The verbs, and for those of `hdfs dfs` that are none what to type instead."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _SAID_OTHERWISE:
            raise click.UsageError(f"No such command '{cmd_name}': it is `minireduce fs {_SAID_OTHERWISE[cmd_name]}`.")
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Verbs, epilog="Example:  minireduce fs put books/ /books")
def fs() -> None:
    """Store, list and read files in the block store."""


for _verb in (
    fs_copying.put,
    fs_copying.append,
    fs_copying.get,
    fs_looking.ls,
    fs_reading.cat,
    fs_reading.head,
    fs_reading.tail,
    fs_reading.text,
    fs_changing.mkdir,
    fs_changing.touch,
    fs_changing.touchz,
    fs_changing.rm,
    fs_changing.mv,
    fs_changing.cp,
    fs_looking.du,
    fs_looking.df,
    fs_looking.count,
    fs_looking.stat,
    fs_looking.test,
    fs_reading.getmerge,
    fs_changing.setrep,
    fs_changing.setquota,
    fs_checking.fsck,
    fs_reading.checksum,
    fs_changing.chmod,
    fs_changing.chown,
    fs_changing.expunge,
):
    fs.add_command(_verb)
