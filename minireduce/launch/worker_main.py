"""`minireduce-worker`: flags in, the zygote started, then the worker itself.

Two processes of a worker import for more than a tenth of a second each. So the zygote is started as soon as the flags
are known to be right, and only then does this process import what a worker needs (`worker_serving`): both are ready at
the same time. Nothing heavy may be imported here at the top, so `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from minireduce import __version__
from minireduce.launch import child
from minireduce.launch.common import port, run_daemon
from minireduce.leaving import leave
from minireduce.worker.zygote_process import ZygoteProcess

DEFAULT_DATA_DIR = Path("~/.local/share/minireduce/worker")
DEFAULT_RACK = "/default"
WEIGHT_MIN, WEIGHT_MAX = 0.01, 100.0


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    options = parse(arguments)
    leave(run_daemon(lambda: _run(options)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the flags say."""
    options = _parser().parse_args(arguments)
    options.data_dir = options.data_dir or [DEFAULT_DATA_DIR]
    return options


def _run(options: argparse.Namespace) -> None:
    zygote = ZygoteProcess.begin()
    try:
        from minireduce.launch.worker_serving import run

        run(options, zygote)
    finally:
        zygote.end()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minireduce-worker",
        description="A worker of a minireduce cluster: it runs tasks and keeps what they make.",
        epilog="example: minireduce-worker node1:7070 --data-dir /var/lib/minireduce --slots 8",
    )
    parser.add_argument("master", nargs="?", metavar="MASTER_HOST:PORT", help="where the master is")
    parser.add_argument("--join", metavar="S", help="what `minireduce token --join` printed on the master's machine")
    parser.add_argument(
        "--data-dir",
        type=Path,
        action="append",
        metavar="D",
        help=f"once for each disk; blocks go to all, all else to the first; default: {DEFAULT_DATA_DIR}",
    )
    parser.add_argument(
        "--new-data-dir",
        type=Path,
        action="append",
        metavar="D",
        help="one of --data-dir that is empty since its disk was replaced, not since it is not mounted",
    )
    parser.add_argument("--slots", type=int, metavar="N", help="attempts that run at once; default: the cores")
    parser.add_argument("--rack", type=_rack, default=DEFAULT_RACK, metavar="/R", help="default: %(default)s")
    parser.add_argument(
        "--weight",
        type=_weight,
        default=1.0,
        metavar="W",
        help="how readily it is given blocks beside others with as much room; default: 1",
    )
    parser.add_argument("--host", metavar="H", help="address to listen on; default: as near as the master is")
    parser.add_argument("--advertise", metavar="H", help="host by which other workers reach this machine")
    parser.add_argument("--port", type=port, default=0, metavar="P", help="of the block server; default: any free")
    parser.add_argument("--token-file", type=Path, metavar="F", help="holds the worker's token")
    parser.add_argument("--tls-cert", type=Path, metavar="F", help="certificate (PEM) that the block server shows")
    parser.add_argument("--tls-key", type=Path, metavar="F", help="its key (PEM)")
    parser.add_argument("--tls-ca", type=Path, metavar="F", help="whom to trust (PEM), in place of the token file's")
    parser.add_argument(
        "--no-local-reads", action="store_true", help="pass no descriptors of blocks and parts to readers on this host"
    )
    parser.add_argument("--config", type=Path, metavar="F", help="a file of settings, stronger than the usual ones")
    parser.add_argument("--version", action="version", version=f"minireduce {__version__}")
    child.add_options(parser)
    return parser


def _rack(text: str) -> str:
    if not text.startswith("/") or text.strip() != text or len(text) < 2:
        raise argparse.ArgumentTypeError("a rack is written like a path, such as /rack1")
    return text


def _weight(text: str) -> float:
    weight = float(text)
    if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
        raise argparse.ArgumentTypeError(
            f"a weight is a number from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}; drain a worker that shall keep no blocks"
        )
    return weight


if __name__ == "__main__":
    main()
