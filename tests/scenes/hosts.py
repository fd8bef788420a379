"""Hosts of a network of their own: two network namespaces on this machine, joined by a cable (`veth`).

They share files and kernel, but no network: what one listens on at its loopback the other cannot reach, and what passes
between them passes over the cable. Needs root; `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

COMMAND_S = 60
END_S = 20
_CLONE_NEWNET = 0x40000000
_ALL_PROTOCOLS = 3
_ADDRESSES = ("198.18.0.1", "198.18.0.2")  # of a range that is set aside for tests (RFC 2544)


@dataclass
class Host:
    """One host. `home` is its user's; what is started on it ends with `two_hosts`."""

    name: str
    address: str
    home: Path
    settings: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._inside(command),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def start(self, *command: str, says: str) -> str:
        """Start a daemon and wait until it says a line that holds `says`; the line. Fails when it ends before."""
        log = self.home / f"{len(self.started)}.log"
        with log.open("w") as errors:
            daemon = subprocess.Popen(
                self._inside(command), env=self._environment(), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.started.append(daemon)
        for line in daemon.stdout:
            if says in line:
                return line
        raise AssertionError(f"{command} ended with {daemon.wait(END_S)}: {log.read_text()}")

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIREDUCE_")}
        return {**kept, "HOME": str(self.home), **self.settings}

    def end(self) -> list[int]:
        """End what was started, one after the other in the opposite order; the exit statuses."""
        statuses = []
        for daemon in reversed(self.started):
            daemon.send_signal(signal.SIGTERM)
            try:
                statuses.append(daemon.wait(END_S))
            except subprocess.TimeoutExpired:
                daemon.kill()
                statuses.append(daemon.wait())
            daemon.stdout.close()
        self.started.clear()
        return statuses


class Cable:
    """Everything that passes over a host's cable for the time of a `with` block."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._packets: list[bytes] = []
        self._listens = threading.Event()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._listen)

    @property
    def bytes_total(self) -> int:
        return sum(map(len, self._packets))

    def has(self, text: bytes) -> bool:
        """Whether a packet held `text` as it stands."""
        return any(text in packet for packet in self._packets)

    def _listen(self) -> None:
        with Path("/run/netns", self._host.name).open("rb") as namespace:
            # Moves this thread alone, and a socket stays where it was made.
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as ear:
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            self._listens.set()
            while True:
                readable, _, _ = select.select([ear, self._stopped], [], [])
                if ear in readable:
                    packet, (device, *_) = ear.recvfrom(1 << 16)
                    if device != "lo":
                        self._packets.append(packet)
                elif self._stopped in readable:
                    return

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(COMMAND_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._stopped.close()


def why_not() -> str:
    """What this machine lacks for hosts of their own; empty when it has all."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"there is no {' and no '.join(missing)} here"
    probe = f"mr-{os.getpid()}-probe"
    made = _ip("netns", "add", probe, is_checked=False)
    if made.returncode != 0:
        return f"no network namespace can be made: {made.stderr.strip()}"
    _ip("netns", "del", probe)
    return ""


@contextlib.contextmanager
def two_hosts(root: Path, settings: dict[str, str]) -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them, gone with the block."""
    names = [f"mr-{os.getpid()}-{number}" for number in (1, 2)]
    homes = [root / f"home-{number}" for number in (1, 2)]
    hosts = [Host(name, *rest, settings) for name, *rest in zip(names, _ADDRESSES, homes, strict=True)]
    try:
        for host in hosts:
            host.home.mkdir()
            _ip("netns", "add", host.name)
        ends = [f"mr{os.getpid()}a", f"mr{os.getpid()}b"]
        _ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for host, end in zip(hosts, ends, strict=True):
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", end)
            for device in ("lo", end):
                _ip("-n", host.name, "link", "set", device, "up")
        yield hosts[0], hosts[1]
    finally:
        for host in reversed(hosts):
            host.end()
        for host in hosts:
            _ip("netns", "del", host.name, is_checked=False)


def _ip(*arguments: str, is_checked: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=is_checked)
