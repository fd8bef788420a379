"""docs/command-line.md names every command and every flag."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from minireduce.cli.main import minireduce

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")


def walk(group: click.Group, path: str) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = f"{path} {name}"
        found += walk(command, inner) if isinstance(command, click.Group) else [(inner, command)]
    return found


@pytest.mark.parametrize(("path", "command"), walk(minireduce, "minireduce"))
def test_every_command_and_flag_is_documented(path: str, command: click.Command) -> None:
    assert path in TEXT
    flags = {flag for parameter in command.params if isinstance(parameter, click.Option) for flag in parameter.opts}
    missing = [flag for flag in sorted(flags) if f"`{flag}" not in TEXT]
    assert missing == []
