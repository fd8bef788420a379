"""Read replicas of workers on this host from descriptors that those pass, and verify every byte.

A worker counts as being on this host when the connection to it never leaves the host: both of its ends have the same
address. It still has to hand the descriptor over at a Unix socket, where nobody from elsewhere gets, and to show there
that it is the worker that was asked (`wire.local_door`). Where any of this fails the bytes are asked for over HTTP, as
from every other worker; one that says that it gives no descriptors is not asked again. So are the bytes of a replica
that proves damaged here: then the worker looks at it, too.
"""

from __future__ import annotations

import array
import hmac
import os
import socket
import struct
from collections.abc import Iterator

import google_crc32c

from minireduce.core.replica_messages import Replica
from minireduce.errors import Corruption, Unavailable
from minireduce.wire.local_door import SECRET_BYTES, LocalOffer, address_of, new_socket
from minireduce.wire.packets import CRC_BYTES, PACKET_BYTES, packets_in, widen

HANDOVER_S = 2.0
"""A worker that does not hand a descriptor over within this is asked for the bytes."""
OPEN_MAX = 16
"""Descriptors that one reader keeps; the one that was not used for longest goes first."""


class LocalReplica:
    """A replica that is read here. `crcs` are its checksums, behind each other; the descriptor is ours.

    It is closed when nobody reads from it any more, rather than when it is forgotten: its number would be another
    file's soon, and a reader in the middle would take that file for a damaged replica.
    """

    def __init__(self, replica: Replica, descriptor: int, crcs: bytes) -> None:
        self._replica = replica
        self._descriptor = descriptor
        self._crcs = struct.unpack(f">{len(crcs) // CRC_BYTES}I", crcs)

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, each verified. Raises Corruption."""
        begin, end = widen(offset, length, self._replica.length)
        last = offset + length
        number = begin // PACKET_BYTES
        for at in range(begin, end, PACKET_BYTES):
            data = self._packet(at, min(PACKET_BYTES, end - at))
            if google_crc32c.value(data) != self._crcs[number]:
                raise Corruption(f"block {self._replica.block_id} is damaged in the 64 KiB from byte {at} on")
            number += 1
            yield data if offset <= at and at + len(data) <= last else data[max(0, offset - at) : last - at]

    def _packet(self, at: int, count: int) -> bytes:
        try:
            data = os.pread(self._descriptor, count, at)
        except OSError as error:
            raise Corruption(f"block {self._replica.block_id} cannot be read at {at}: {error.strerror}") from error
        if len(data) != count:
            raise Corruption(f"block {self._replica.block_id} ends before byte {at + count}")
        return data

    def __del__(self) -> None:
        os.close(self._descriptor)


class LocalReplicas:
    """The replicas that are open here, by worker's address; which addresses give none is kept, too."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Replica], LocalReplica] = {}
        self._elsewhere: dict[str, None] = {}
        self._distrusted: dict[tuple[str, Replica], None] = {}

    def get(self, address: str, replica: Replica) -> LocalReplica | None:
        """The replica, if it is open."""
        found = self._open.pop((address, replica), None)
        if found is not None:
            self._open[address, replica] = found
        return found

    def may_be_here(self, address: str, replica: Replica) -> bool:
        """Whether it is worth asking."""
        return address not in self._elsewhere and (address, replica) not in self._distrusted

    def is_elsewhere(self, address: str) -> None:
        """Do not ask this worker again."""
        self._elsewhere[address] = None

    def add(self, address: str, replica: Replica, offer: LocalOffer, crcs: bytes) -> LocalReplica:
        """Fetch the descriptor that was offered. Raises Unavailable, OSError."""
        if len(crcs) != CRC_BYTES * packets_in(replica.length):
            raise Unavailable(f"block {replica.block_id} came with checksums of another length")
        while len(self._open) >= OPEN_MAX:
            del self._open[next(iter(self._open))]
        added = self._open[address, replica] = LocalReplica(replica, fetch_descriptor(offer), crcs)
        return added

    def keep_up_to(self, length_max: int) -> None:
        """Forget those that are longer."""
        for address, replica in [key for key in self._open if key[1].length > length_max]:
            del self._open[address, replica]

    def distrust(self, address: str, replica: Replica) -> None:
        """Read this replica here no more: it proved damaged."""
        self._open.pop((address, replica), None)
        self._distrusted[address, replica] = None

    def close(self) -> None:
        """Forget them all."""
        self._open.clear()


def is_same_host(connected: socket.socket) -> bool:
    """Whether both ends of a connection have one address, as they have only within a host."""
    return bool(connected.getsockname()[0] == connected.getpeername()[0])


def fetch_descriptor(offer: LocalOffer) -> int:
    """The descriptor that was offered. Raises Unavailable, OSError."""
    with new_socket() as connection:
        connection.settimeout(HANDOVER_S)
        connection.connect(address_of(offer.socket_name))
        connection.sendall(offer.nonce)
        descriptors = array.array("i")
        room = socket.CMSG_LEN(descriptors.itemsize)
        proof, beside, *_ = connection.recvmsg(SECRET_BYTES + 1, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) // descriptors.itemsize * descriptors.itemsize])
        if len(descriptors) == 1 and hmac.compare_digest(proof, offer.proof):
            return descriptors[0]
        for descriptor in descriptors:
            os.close(descriptor)
        raise Unavailable("what answered at the worker's socket is not that worker")
