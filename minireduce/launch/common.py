"""What both daemons do the same way around their own work: flags, the log, the last words, the exit status."""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from minireduce.errors import MinireduceError, Refused, RequestError, Unavailable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 4

GARBAGE_THRESHOLDS = (10_000, 10, 20)
"""Objects made before the collector looks at the youngest, and how often at those before it looks at the older ones.
A daemon holds hundreds of thousands of objects that live long: at Python's own thresholds, the search for garbage among
them took a third of a busy master's time. What has no cycles goes at once all the same; the rest is bounded by these.
"""


def run_daemon(body: Callable[[], None]) -> int:
    """Run `body` to its end and give the exit status; an error is said in one line and its hint, without a traceback.

    The line begins with `error: `, which whoever started this process as a child looks for. What is no error of ours is
    a mistake in this program, and shows where it happened.
    """
    gc.disable()  # nothing that is imported becomes garbage, and to look through it took a twelfth of a start
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        body()
    except MinireduceError as error:
        sys.stderr.write(f"error: {error}\n")
        return exit_status(error)
    except KeyboardInterrupt:
        return 130
    return 0


def rest_collector() -> None:
    """Have the cycle collector, at rest until now, pass over all that is there, and look more rarely at the rest."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def exit_status(error: MinireduceError) -> int:
    """2 for what the caller can mend, 4 for a door that stays shut, 1 for all else."""
    if isinstance(error, RequestError):
        return EXIT_USAGE
    return EXIT_UNREACHABLE if isinstance(error, Refused | Unavailable) else EXIT_FAILED


def port(text: str) -> int:
    """The number that a flag names; 0 means any free one."""
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError("a port is a whole number from 0 to 65535")
    return int(text)


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_file(path: Path) -> bytes:
    """What a file holds that a flag names. Raises RequestError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
