"""A process of a worker that should be gone: it hung, another was started in its place, and now it speaks up again.

It opens a stream and says hello as the incarnation it is. A master must end the stream: two processes over one data
directory would undo each other's work.
"""

from __future__ import annotations

from dataclasses import replace

from minireduce.core.messages import Down, Hello, Welcome, WorkerProfile
from minireduce.errors import MinireduceError
from minireduce.testing.agenda import Node
from minireduce.testing.streams import SimStreams

STREAM = 1_000_000
"""No living process has opened so many."""


class Ghost:
    """Satisfies `streams.WorkerEnd`, and says nothing but hello."""

    def __init__(self, streams: SimStreams, profile: WorkerProfile) -> None:
        self.node = Node(profile.worker)
        self._streams = streams
        self._profile = replace(profile, incarnation=profile.incarnation - 1)

    def appear(self) -> None:
        """Open a stream."""
        self.node.start()
        self._streams.open(self, STREAM)

    def on_opened(self, number: int) -> None:
        self._streams.send_up(self, number, Hello(self._profile, 0, 0, 0, 0))

    def on_welcome(self, number: int, welcome: Welcome) -> None:
        pass

    def on_down(self, number: int, down: Down) -> None:
        pass

    def on_closed(self, number: int, error: MinireduceError | None) -> None:
        del number, error
        self.node.end()
