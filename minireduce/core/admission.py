"""Judge whether a worker that says `Hello` and this master belong together, before anything it lists is looked at.

It must speak the same version, and be of this cluster. And the master must have every commit that the worker has seen
the effect of: where it lacks one, its metadata is an old copy, and it must not go on, whoever else says hello.

Elsewhere: the session in which a worker speaks, and older processes of it (membership.py).
"""

from __future__ import annotations

from minireduce.core.messages import PROTOCOL_VERSION, Hello
from minireduce.errors import Refused


class Admission:
    """What the master knows of itself that a worker may contradict.

    `started_txid` is the last commit of earlier epochs, `restored_epoch` that which a restored backup opened; what
    workers saw before it does not count.
    """

    def __init__(self, cluster_id: str, epoch: int, started_txid: int) -> None:
        self.restored_epoch = 0
        self._cluster_id = cluster_id
        self._epoch = epoch
        self._started_txid = started_txid
        self._welcomed: set[str] = set()  # in this epoch; never iterated over

    def refusal(self, hello: Hello) -> Refused | None:
        """Why this worker is not let in, if it is not."""
        if hello.profile.protocol_version != PROTOCOL_VERSION:
            return _other_version(hello)
        if hello.cluster not in ("", self._cluster_id):
            return self._other_cluster(hello)
        return None

    def outdated(self, hello: Hello, txid: int) -> Refused | None:
        """Why this master, whose last commit is `txid`, must stop, if it lacks commits that the worker has seen.

        What it saw in an earlier epoch must have been there at the start, since commits of this one bear the same
        numbers; and if it knows this epoch, but not from us, then another master has opened it as well.
        """
        if hello.highest_epoch < self.restored_epoch:
            return None
        if hello.highest_epoch < self._epoch:
            lacks = hello.highest_txid > self._started_txid
        else:
            is_ours = hello.highest_epoch == self._epoch and hello.profile.worker in self._welcomed
            lacks = not is_ours or hello.highest_txid > txid
        return self._older_than(hello, txid) if lacks else None

    def welcome(self, hello: Hello) -> None:
        """This worker may know of this epoch from us."""
        self._welcomed.add(hello.profile.worker)

    def _other_cluster(self, hello: Hello) -> Refused:
        return Refused(
            f"worker {hello.profile.worker} belongs to cluster {hello.cluster}, and this is the master of cluster "
            f"{self._cluster_id}",
            hint="name the master of its cluster, or another --data-dir: what lies there is of no use here",
        )

    def _older_than(self, hello: Hello, txid: int) -> Refused:
        return Refused(
            f"this master's metadata ends at epoch {self._epoch}, commit {txid}, but worker "
            f"{hello.profile.worker} has seen epoch {hello.highest_epoch}, commit {hello.highest_txid}",
            hint="the metadata is an old copy or lost its end: start the master on the newest copy",
        )


def _other_version(hello: Hello) -> Refused:
    return Refused(
        f"worker {hello.profile.worker} runs minireduce {hello.profile.software_version} with protocol "
        f"{hello.profile.protocol_version}; this master speaks protocol {PROTOCOL_VERSION}",
        hint="install the same version of minireduce on both machines",
    )
