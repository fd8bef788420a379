"""Named places where a test may make a real process fail at an exact moment.

A site is one call, `hit("publish.before_rename")`, and its line in `SITES`. Unless the environment arms it when the
process starts, a hit is one test of an empty mapping. Armed, it does what `MINIREDUCE_FAILPOINTS` says:

    NAME=ACTION[@N][*TIMES] [; NAME=ACTION...]

`ACTION` is `kill` (SIGKILL to itself: no clean-up, buffers of the process lost), `exit` (ends with status 70, no
clean-up), `pause` (SIGSTOP to itself until somebody sends SIGCONT), `error` (raises OSError EIO) or `full` (raises
OSError ENOSPC). It strikes from the N-th hit in a process on (default 1), at most TIMES times (default 1) over all
processes that share `MINIREDUCE_FAILPOINTS_DIR`.

Each strike leaves a file `NAME.K` in that directory before the action, made exclusively, so that two processes never
count the same strike and a process that is started again is not killed again. `strikes` reads it back: a test whose
fault did not fire is invalid, not green.

Invariants: an unknown name or action stops the process at import, as a misspelt fault would otherwise never fire.
Not here: faults of the simulator, which own disk and network and need no sites.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from minireduce.errors import RequestError

SITES: frozenset[str] = frozenset(
    {
        "append.after_link",
        "copy.before_send",
        "mirror.before_naming",
        "mirror.before_replacing",
        "repack.before_send",
        "replica.after_directory_sync",
        "replica.before_directory_sync",
        "replica.before_remove",
        "replica.before_rename",
        "replica.before_sync",
        "replica.before_write",
        "replica.between_removes",
        "replica.between_renames",
        "store.after_commit",
        "store.before_commit",
        "store.before_epoch",
        "store.before_rows",
    }
)
"""Every name that some code hits; a test compares it with the calls in the tree."""

EXIT_STATUS = 70
_ENTRY = re.compile(r"(?P<name>[a-z_.]+)=(?P<action>[a-z]+)(?:@(?P<from_hit>[1-9]\d*))?(?:\*(?P<times>[1-9]\d*))?")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit() -> None:
    os._exit(EXIT_STATUS)


def _pause() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _error() -> None:
    raise OSError(errno.EIO, "a failpoint says that the device failed")


def _full() -> None:
    raise OSError(errno.ENOSPC, "a failpoint says that the disk is full")


_ACTIONS: Mapping[str, Callable[[], None]] = {
    "kill": _kill,
    "exit": _exit,
    "pause": _pause,
    "error": _error,
    "full": _full,
}


class Failpoint:
    """One armed site in one process."""

    def __init__(self, name: str, action: str, *, from_hit: int, strikes_max: int, directory: Path) -> None:
        self._name = name
        self._action = _ACTIONS[action]
        self._from_hit = from_hit
        self._strikes_max = strikes_max
        self._directory = directory
        self._hits = 0

    def hit(self) -> None:
        self._hits += 1
        if self._hits >= self._from_hit and self._claim():
            self._action()

    def _claim(self) -> bool:
        """Whether this process may strike now: it does if it is the one that made the next numbered file."""
        for number in range(1, self._strikes_max + 1):
            try:
                os.close(os.open(self._directory / f"{self._name}.{number}", os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                continue
            return True
        return False


def parse(text: str, directory: Path, *, sites: Iterable[str]) -> dict[str, Failpoint]:
    """The armed sites that `text` describes, by name. Raises RequestError."""
    known = frozenset(sites)
    armed: dict[str, Failpoint] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        match = _ENTRY.fullmatch(entry)
        if match is None or match["action"] not in _ACTIONS:
            raise RequestError(f"failpoint {entry!r} is not understood", hint="write NAME=kill|exit|pause|error|full")
        if match["name"] not in known:
            raise RequestError(f"no failpoint is named {match['name']!r}", hint=f"known: {', '.join(sorted(known))}")
        armed[match["name"]] = Failpoint(
            match["name"],
            match["action"],
            from_hit=int(match["from_hit"] or 1),
            strikes_max=int(match["times"] or 1),
            directory=directory,
        )
    return armed


def strikes(directory: Path) -> Counter[str]:
    """How often each site struck, over all processes that share `directory`."""
    return Counter(path.name.rpartition(".")[0] for path in directory.iterdir())


def _from_environment(environment: Mapping[str, str]) -> dict[str, Failpoint]:
    text = environment.get("MINIREDUCE_FAILPOINTS", "")
    if not text:
        return {}
    directory = environment.get("MINIREDUCE_FAILPOINTS_DIR", "")
    if not directory:
        raise RequestError(
            "MINIREDUCE_FAILPOINTS is set without MINIREDUCE_FAILPOINTS_DIR",
            hint="name an existing directory in which strikes are counted",
        )
    return parse(text, Path(directory), sites=SITES)


_armed = _from_environment(os.environ)


def hit(name: str) -> None:
    """Do what the environment ordered for this site, which is nothing in every ordinary process."""
    if _armed and name in _armed:
        _armed[name].hit()
