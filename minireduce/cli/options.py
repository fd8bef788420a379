"""Options that many commands share, and how a value given before the verb reaches it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from minireduce import config
from minireduce.config import Configuration
from minireduce.frozen import dataclass

AnyCommand = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Common:
    """What says which cluster is meant."""

    master: str | None = None
    token_file: Path | None = None

    def configuration(self, **flags: object) -> Configuration:
        """All settings, with these and other flags as the strongest source."""
        return config.load({"master": self.master, "token_file": self.token_file, **flags})


def common_options(command: AnyCommand) -> AnyCommand:
    """`--master` and `--token-file`, joined with those before the verb and given as `common`."""
    return click.option("--master", metavar="HOST:PORT", help="The cluster's master.")(token_file_option(command))


def token_file_option(command: AnyCommand) -> AnyCommand:
    """`--token-file` alone, for a command that talks to no master yet."""

    @click.option("--token-file", type=click.Path(path_type=Path), help="The file that holds the client's token.")
    @functools.wraps(command)
    def joined(*args: Any, token_file: Path | None, master: str | None = None, **kwargs: Any) -> Any:
        before = click.get_current_context().find_object(Common) or Common()
        common = Common(master or before.master, token_file or before.token_file)
        return command(*args, common=common, **kwargs)

    return joined


def json_option(command: AnyCommand) -> AnyCommand:
    """`--json`, given as `is_json`."""
    return click.option("--json", "is_json", is_flag=True, help="Answer in JSON.")(command)
