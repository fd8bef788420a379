"""Where the jobs of one command run: the cluster that settings name, or one that starts here and now for it alone.

Starting that takes longer than anything else a small job needs, so it begins first, and the session waits for it only
when the job is ready to be submitted. It ends with its session.

Elsewhere: submitting (submission.py), what follows for the client (job_handle.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from minireduce.config import Configuration
from minireduce.core.views import ClusterView
from minireduce.errors import RequestError

if TYPE_CHECKING:
    from minireduce.client.connection import Connection
    from minireduce.client.fs import FileSystem
    from minireduce.client.inputs import Inputs
    from minireduce.client.outputs import Destination
    from minireduce.client.parts import OpenOwn
    from minireduce.launch.embedded import EmbeddedCluster


class Session:
    """The cluster of one command or call. `cluster`: one that runs already; else settings decide."""

    def __init__(
        self, configuration: Configuration, *, slots: int | None = None, cluster: EmbeddedCluster | None = None
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        self._owned: EmbeddedCluster | None = None
        self._cluster = cluster
        self._connection: Connection | None = None
        if self.settings.master is not None or cluster is not None:
            if slots is not None:
                raise RequestError(
                    "slots belong to workers, and the cluster has its own",
                    hint="give --slots without --master, for an embedded cluster",
                )
        else:
            from minireduce.launch.embedded import EmbeddedCluster

            self._cluster = self._owned = EmbeddedCluster(slots=slots, is_for_one_job=True)

    @property
    def is_embedded(self) -> bool:
        """Whether the cluster ends with this session."""
        return self._owned is not None

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process started the cluster, which ends with it at the latest."""
        return self._cluster is not None

    @property
    def connection(self) -> Connection:
        """The connection to the cluster, once that serves."""
        if self._cluster is not None:
            return self._cluster.connection
        if self._connection is None:
            from minireduce.client.connection import open_connection

            self._connection = open_connection(self.configuration)
        return self._connection

    @property
    def open_own(self) -> OpenOwn | None:
        """What opens parts on workers that this process started itself; None for others'."""
        return self._cluster.open_part if self._cluster is not None else None

    @property
    def store(self) -> FileSystem | None:
        """The cluster's block store; None where the cluster is new and so has nothing stored."""
        return None if self.is_embedded else self.connection.fs

    def resolve(self, inputs: Sequence[str | os.PathLike[str]]) -> Inputs:
        """The files that `inputs` mean, on this machine and in the cluster. Raises RequestError."""
        from minireduce.client.inputs import resolve
        from minireduce.client.store_paths import is_store_path

        is_store_meant = any(is_store_path(os.fspath(named)) for named in inputs)
        return resolve(inputs, self.store if is_store_meant else None)

    def find_output(self, named: str | os.PathLike[str]) -> Destination:
        """What an OUTPUT means. Raises RequestError."""
        from minireduce.client.outputs import find_output
        from minireduce.client.store_paths import is_store_path

        return find_output(named, self.store if is_store_path(os.fspath(named)) else None)

    def check(self) -> None:
        """Raise Unavailable where the cluster cannot come back by itself."""
        if self._cluster is not None:
            self._cluster.check()

    def describe(self) -> ClusterView:
        """Slots and memory of the cluster as it is now."""
        from minireduce.wire import methods
        from minireduce.wire.questions import DescribeCluster

        return self.connection.call(methods.DESCRIBE_CLUSTER, DescribeCluster())

    def open_input(self, path: str) -> BinaryIO:
        """A file on this machine or in the cluster."""
        from minireduce.client.store_paths import is_store_path

        return self.connection.fs.open(path) if is_store_path(path) else Path(path).open("rb")

    def close(self) -> None:
        """Let go of the cluster; one that belongs to this session ends."""
        if self._connection is not None:
            self._connection.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
