"""Clusters on this machine: `LocalCluster` for a block of code, `cluster up` and `cluster down` for longer.

Both have one master and N workers, which share the machine's cores. A `LocalCluster` is an embedded cluster and leaves
nothing. What `up` starts stays, with its data under `~/.local/share/minireduce/cluster`, until `down` ends it; a file
in the user's runtime directory says which processes that are.

`down` ends those processes and no others: each is known by its id and the moment at which it started, since ids are
used again, and it is signalled through a descriptor that cannot come to mean another one.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from minireduce.auth import tokens
from minireduce.config import Configuration
from minireduce.errors import AlreadyExists, NotFound, Refused
from minireduce.frozen import dataclass
from minireduce.launch import daemon
from minireduce.launch.daemon import MASTER, WORKER, Daemon
from minireduce.launch.embedded import EmbeddedCluster

STATE_NAME = "cluster.json"


def slots_each(workers: int) -> int:
    """How many slots each of so many workers of one machine gets."""
    return max(1, (os.cpu_count() or 1) // workers)


class LocalCluster(EmbeddedCluster):
    """A cluster on this machine for the time of a `with` block.

    Args:
        workers: how many workers; they share the machine's cores.
        slots: attempts that each of them runs at once, if it is not to be its share.
    """

    def __init__(self, workers: int = 1, *, slots: int | None = None) -> None:
        super().__init__(workers=workers, slots=slots or slots_each(workers))


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A process, known by its id and when it started (in ticks since boot)."""

    name: str
    pid: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """What `up` started."""

    address: str
    http_address: str
    token_file: str
    daemons: tuple[RunningDaemon, ...]


def up(
    configuration: Configuration, *, workers: int, port: int, http_port: int, data_dir: Path | None = None
) -> RunningCluster:
    """Start a cluster that stays. Raises AlreadyExists if one runs, and what keeps a daemon from starting."""
    with _state_file() as state:
        known = _read(state)
        if known is not None and any(_is_alive(each) for each in known.daemons):
            raise _already_there(known)
        place = data_dir or Path.home() / ".local" / "share" / "minireduce" / "cluster"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        token_file = tokens.path_of(configuration).absolute()
        tokens.load_or_create(token_file)  # before the daemons, as the workers read it while the master starts
        started: list[Daemon] = []
        try:
            announced = _start_all(started, place, token_file, workers, port, http_port, _environment(configuration))
        except BaseException:
            daemon.stop(started)
            raise
        running = RunningCluster(
            announced["address"],
            announced["http_address"],
            str(token_file),
            tuple(RunningDaemon(each.name, each.process.pid, _started_ticks(each.process.pid)) for each in started),
        )
        state.write_text(json.dumps(asdict(running)), encoding="utf-8")
        for each in started:
            each.let_go()
        return running


def _already_there(known: RunningCluster) -> AlreadyExists:
    """What runs, and what to do about it: something of it may have ended by itself."""
    ended = [each.name for each in known.daemons if not _is_alive(each)]
    if not ended:
        return AlreadyExists(f"a cluster runs at {known.address}", hint="minireduce cluster down")
    return AlreadyExists(
        f"of the cluster at {known.address} {', '.join(ended)} ended, and the others run",
        hint="minireduce cluster down, and then up: what is stored stays",
    )


def down() -> RunningCluster:
    """End the cluster that `up` started. Raises NotFound if there is none."""
    with _state_file() as state:
        known = _read(state)
        if known is None:
            raise NotFound("no cluster was started here", hint="minireduce cluster up")
        watched = [descriptor for each in known.daemons if (descriptor := _open(each)) is not None]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for descriptor in watched:
                signal.pidfd_send_signal(descriptor, number)
            watched = _still_running(watched)
        state.unlink()
        return known


def _start_all(
    started: list[Daemon],
    place: Path,
    token_file: Path,
    workers: int,
    port: int,
    http_port: int,
    environment: dict[str, str],
) -> dict[str, str]:
    """Start all daemons side by side, into `started`; what the master announced, once the workers have joined."""
    at = ["--port", str(port), "--http-port", str(http_port), "--token-file", str(token_file)]

    def start(module: str, name: str, arguments: list[str]) -> Daemon:
        log = place / f"{name}.log"
        placed = ["--data-dir", str(place / name), *arguments]
        return daemon.start(module, placed, name=name, log=log, environment=environment)

    started.append(start(MASTER, "master", at))
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    own = ["--slots", str(slots_each(workers)), "--port", "0", "--token-file", str(token_file), "-"]
    started.extend(start(WORKER, name, own) for name in names)
    announced = started[0].ready()
    for each in started[1:]:
        each.tell(announced["address"])
    for each in started[1:]:
        each.ready()
    return announced


def _environment(configuration: Configuration) -> dict[str, str]:
    """Tasks run as whoever typed the command, whose files they read, unless a setting names another account."""
    own = dict(os.environ)
    if configuration.origins["task_user"] == "default" and os.geteuid() == 0:
        own["MINIREDUCE_TASK_USER"] = "root"
    return own


# ── which processes ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _state_file() -> Iterator[Path]:
    """The path of the state file, for this process alone as long as it is held."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base, "minireduce") if base else Path(tempfile.gettempdir(), f"minireduce-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or folder.is_symlink():
        raise Refused(f"{folder} belongs to another user", hint="set XDG_RUNTIME_DIR to a directory of your own")
    with (folder / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield folder / STATE_NAME


def _read(state: Path) -> RunningCluster | None:
    try:
        fields = json.loads(state.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    daemons = tuple(RunningDaemon(**each) for each in fields.pop("daemons"))
    return RunningCluster(**fields, daemons=daemons)


def _started_ticks(pid: int) -> int:
    """When the process started (field 22 of /proc/PID/stat); -1 when there is none, or only its exit status is left."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    state, *fields = text.rpartition(")")[2].split()
    return -1 if state in {"Z", "X"} else int(fields[18])


def _is_alive(known: RunningDaemon) -> bool:
    return _started_ticks(known.pid) == known.started_ticks


def _open(known: RunningDaemon) -> int | None:
    """A descriptor of the very process that was started, None if it has ended."""
    try:
        descriptor = os.pidfd_open(known.pid)
    except ProcessLookupError:
        return None
    if not _is_alive(known):
        os.close(descriptor)
        return None
    return descriptor


def _still_running(watched: list[int]) -> list[int]:
    """Those that have not ended in time; the descriptors of the others are closed."""
    left = list(watched)
    watching = select.poll()
    for descriptor in left:
        watching.register(descriptor, select.POLLIN)
    while left and (ended := watching.poll(daemon.STOP_TIMEOUT_S * 1000)):
        for descriptor, _ in ended:
            watching.unregister(descriptor)
            os.close(descriptor)
            left.remove(descriptor)
    return left
