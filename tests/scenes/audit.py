"""Watch daemons for the one thing they must never do: look up a class because a pickle says so.

Python imports a module called `sitecustomize` before anything else. `watch` makes one of this very file and puts it on
the path of the processes that a test starts. In a daemon (master, worker, block server, zygote) it then installs an
audit hook that writes down what was unpickled and aborts the process. The hook tells a daemon from what is forked off
it by its process id: a task process is a fork of the zygote, and may load the program and the values of its own job.
What the worker of an embedded cluster forks is the master.

Each daemon leaves a file that says which one it is, so that a test can tell that it watched anything at all.

Imports little, and of the standard library only, since each process that a test starts pays for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER_VARIABLE = "AUDIT_OF_DAEMONS_DIR"  # not `MINIREDUCE_…`: those are settings, and tests take them away
BOTH = "minireduce.launch.both_main"
DAEMONS = {
    "minireduce.launch.master_main": "master",
    "minireduce-master": "master",
    "minireduce-worker": "worker",
    "minireduce.launch.worker_main": "worker",
    BOTH: "worker",
    "minireduce.worker.block_server": "block server",
    "minireduce.attempt.zygote": "zygote",
}
WATCHED, BROKEN = "watched", "broken"


def watch(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """What to add to `environment`, so that daemons started in it are watched; `folder` takes what is written."""
    (folder / "sitecustomize.py").symlink_to(Path(__file__).resolve())
    path = [str(folder), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    return {FOLDER_VARIABLE: str(folder), "PYTHONPATH": os.pathsep.join(filter(None, path))}


def watched(folder: Path) -> set[str]:
    """Which daemons were started under the hook."""
    return {file.read_text() for file in folder.glob(f"{WATCHED}.*")}


def broken(folder: Path) -> list[str]:
    """What daemons unpickled, each with who did it. Those have been aborted."""
    return sorted(file.read_text() for file in folder.glob(f"{BROKEN}.*"))


def _write(kind: str, text: str) -> None:
    Path(os.environ[FOLDER_VARIABLE], f"{kind}.{os.getpid()}").write_text(text)


def _install() -> None:
    words = [Path(word).name for word in sys.orig_argv]
    daemon = next((DAEMONS[word] for word in words if word in DAEMONS), None)
    if daemon is None or FOLDER_VARIABLE not in os.environ:
        return
    daemons = {os.getpid(): daemon}

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class" and os.getpid() in daemons:
            _write(BROKEN, f"{daemons[os.getpid()]}: {arguments}")
            os.abort()

    def is_master() -> None:
        daemons[os.getpid()] = "master"
        _write(WATCHED, "master")

    _write(WATCHED, daemon)
    sys.addaudithook(hook)
    if BOTH in words:
        os.register_at_fork(after_in_child=is_master)


if __name__ == "sitecustomize":
    _install()
