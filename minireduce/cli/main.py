"""The command `minireduce`: which subcommands there are, and what becomes of every error.

Subcommands load when they are called, and what they need loads inside them, so that `--help` and a mistyped option
answer at once. `--master` and `--token-file` may stand before the verb or after it; after it counts.

Exit status: 0 done · 1 a job ran and failed · 2 asked wrongly · 3 killed · 4 no cluster, or one that refused ·
130 interrupted. Errors go to standard error as one line that says what happened and one that says what to do next;
under `--json` they go to standard output as an object as well.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from minireduce import __version__
from minireduce.cli.failures import report
from minireduce.cli.options import Common, common_options

EPILOG = "Try first:  minireduce demo"

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module, what it does)
    "submit": ("submit", "Run a job file over inputs."),
    "demo": ("demo", "Count the words of Python's standard library."),
    "jobs": ("jobs", "List jobs, the latest first."),
    "status": ("jobs", "Show one job."),
    "wait": ("jobs", "Wait for a job to end."),
    "kill": ("jobs", "End a job."),
    "logs": ("logs", "Show what a job's attempts printed."),
    "replay": ("replay", "Run a map task that failed once more, in this process."),
    "timeline": ("timeline", "Write a job's attempts over time for a viewer of traces."),
    "report": ("timeline", "Write one page about a job."),
    "counters": ("jobs", "Show a job's counters."),
    "fs": ("fs", "Store, list and read files in the block store."),
    "cluster": ("cluster", "Start, stop and look at a cluster."),
    "doctor": ("doctor", "Check that this machine can run minireduce."),
    "config": ("configuration", "Show settings and where they come from."),
    "token": ("token", "Show the token of a cluster, or the line that adds a worker."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        del ctx
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"minireduce.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="minireduce", message="%(prog)s %(version)s")
@common_options
@click.pass_context
def minireduce(ctx: click.Context, common: Common) -> None:
    """MapReduce for Python: from one file on a laptop to a cluster of machines that fail."""
    ctx.obj = common


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give back the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    is_json = "--json" in arguments
    try:
        status = minireduce.main(args=list(arguments), prog_name="minireduce", standalone_mode=False)
    except BaseException as error:  # the border: nothing leaves as a traceback of ours
        status = report(error, is_json=is_json)
    return status if isinstance(status, int) else 0


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Being told to end, or losing the terminal, is as good as Ctrl-C: the job is killed and nothing stays behind."""
    raise KeyboardInterrupt
