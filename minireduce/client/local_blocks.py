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
import http.client
import os
import socket
import struct
import time
from collections.abc import Iterator

from minireduce.checksums import CRC_BYTES, PACKET_BYTES, PIECE_BYTES_MAX, first_damaged, packets_in, widen
from minireduce.core.replica_messages import Replica
from minireduce.errors import Corruption, Unavailable
from minireduce.frozen import dataclass
from minireduce.wire.local_door import (
    NONCE_HEADER,
    OFFER_S,
    PROOF_HEADER,
    SECRET_BYTES,
    SOCKET_HEADER,
    LocalOffer,
    address_of,
    new_socket,
    read_offer,
)
from minireduce.wire.pipeline import LENGTH_HEADER

HANDOVER_S = 2.0
"""A worker that does not hand a descriptor over within this is asked for the bytes."""
OPEN_MAX = 16
"""Descriptors that one reader keeps; the one that was not used for longest goes first."""


@dataclass(frozen=True, slots=True)
class AskedAhead:
    """A descriptor that a worker was asked for before it is needed, at a door that has yet to answer."""

    replica: Replica
    at_s: float

    @property
    def is_old(self) -> bool:
        """Whether the worker may have taken its offer back meanwhile."""
        return time.monotonic() - self.at_s > OFFER_S / 2


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
        """The bytes of a range, each verified. Raises Corruption.

        The first piece is one packet and each is twice as long as the one before: who wants little reads little.
        """
        at, end = widen(offset, length, self._replica.length)
        last = offset + length
        count = PACKET_BYTES
        while at < end:
            data = self._read(at, min(count, end - at))
            number = at // PACKET_BYTES
            damaged = first_damaged(data, self._crcs[number : number + packets_in(len(data))])
            good = len(data) if damaged is None else damaged * PACKET_BYTES
            if offset <= at and at + len(data) <= last and damaged is None:
                yield data
            elif wanted := data[max(0, offset - at) : min(good, last - at)]:
                yield wanted
            at += good
            if damaged is not None:
                raise Corruption(f"block {self._replica.block_id} is damaged in the 64 KiB from byte {at} on")
            count = min(2 * count, PIECE_BYTES_MAX)

    def _read(self, at: int, count: int) -> bytes:
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

    def should_ask(self, address: str, replica: Replica) -> bool:
        """Whether it is worth asking and not open yet."""
        return self.may_be_here(address, replica) and (address, replica) not in self._open

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

    def take(self, door: http.client.HTTPConnection, address: str, replica: Replica) -> LocalReplica | None:
        """The replica that `ask` asked for at this door. Raises OSError, HTTPException when the door broke."""
        answer = door.getresponse()
        crcs = answer.read()
        if answer.status == http.client.FORBIDDEN:
            self.is_elsewhere(address)
        if answer.status != http.client.OK or answer.getheader(LENGTH_HEADER) != str(replica.length):
            return None  # asked for its bytes the worker says why
        headers = [answer.getheader(name, "") for name in (SOCKET_HEADER, NONCE_HEADER, PROOF_HEADER)]
        try:
            return self.add(address, replica, read_offer(*headers), crcs)
        except (Unavailable, OSError):
            self.is_elsewhere(address)
            return None

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


def ask(door: http.client.HTTPConnection, replica: Replica, token: str) -> None:
    """Ask for a descriptor; `LocalReplicas.take` takes the answer. Raises OSError, HTTPException."""
    path = f"/local/{replica.block_id}/{replica.generation}"
    door.request("GET", path, headers={"Authorization": f"Bearer {token}"})


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
