"""`minireduce-master`: flags in, then the master itself (`master_serving`), or a copy of its metadata.

Nothing heavy may be imported here at the top, so `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from minireduce import __version__
from minireduce.launch import child
from minireduce.launch.common import port, run_daemon
from minireduce.leaving import leave

DEFAULT_DATA_DIR = Path("~/.local/share/minireduce/master")
GRPC_PORT = 7070
HTTP_PORT = 7080


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    options = parse(arguments)
    leave(run_daemon(lambda: _copy(options) if options.verb else serve(options)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the flags say."""
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minireduce-master",
        description="The master of a minireduce cluster: it decides what runs where, and remembers it.",
        epilog="example: minireduce-master --data-dir /var/lib/minireduce --host 0.0.0.0 --advertise node1",
    )
    parser.add_argument("--data-dir", type=Path, default=DEFAULT_DATA_DIR, metavar="D", help="default: %(default)s")
    parser.add_argument("--metadata-mirror", type=Path, metavar="D", help="a second copy, best on another disk")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on; default: %(default)s")
    parser.add_argument("--advertise", metavar="H", help="host by which workers and clients reach this machine")
    parser.add_argument("--port", type=port, default=GRPC_PORT, metavar="P", help="default: %(default)s; 0: any free")
    parser.add_argument("--http-port", type=port, default=HTTP_PORT, metavar="P", help="of the pages; default: 7080")
    parser.add_argument("--token-file", type=Path, metavar="F", help="made if there is none")
    parser.add_argument("--tls-cert", type=Path, metavar="F", help="certificate (PEM) in place of one of our own")
    parser.add_argument("--tls-key", type=Path, metavar="F", help="its key (PEM)")
    parser.add_argument("--tls-ca", type=Path, metavar="F", help="who signed it (PEM), for clients of this machine")
    parser.add_argument("--config", type=Path, metavar="F", help="a file of settings, stronger than the usual ones")
    parser.add_argument("--version", action="version", version=f"minireduce {__version__}")
    child.add_options(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="[backup DIR | restore DIR]", title="instead of serving")
    backup = verbs.add_parser("backup", help="copy the metadata, of a master that runs or not, to the directory DIR")
    restore = verbs.add_parser("restore", help="put a backup in the place of the metadata in --data-dir")
    for verb in (backup, restore):
        verb.add_argument("directory", type=Path, metavar="DIR")
        verb.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS, metavar="D", help="the master's")
    restore.add_argument("--epoch", type=int, default=0, metavar="N", help="the epoch to open, above any of before")
    return parser


def _copy(options: argparse.Namespace) -> None:
    from minireduce.master import backup

    directory, data_dir = options.directory.expanduser(), options.data_dir.expanduser()
    if options.verb == "backup":
        print(f"{backup.back_up(data_dir, directory)}, copied to {directory}")  # noqa: T201
    else:
        print(backup.restore(directory, data_dir, options.epoch))  # noqa: T201


def serve(options: argparse.Namespace) -> None:
    """Serve until told to stop."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would say, our own messages say in words
    from minireduce.launch.master_serving import run

    run(options)


if __name__ == "__main__":
    main()
