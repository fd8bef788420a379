"""How worker, zygote and task processes put messages on Unix sockets.

A message is a dataclass of `conversation`, turned into plain values by `core.plain` and packed as msgpack. Between
worker and task process it travels on a stream socket, behind its length in four bytes (big endian). Between worker and
zygote one packet of a SEQPACKET socket is one message, since descriptors travel beside it.

Invariants: nothing here is ever pickled; a frame longer than its limit is refused on both sides, before it is read.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from typing import Any

import msgpack

from minireduce.core.plain import from_plain, to_plain
from minireduce.errors import InvariantViolation, RequestError

FRAME_BYTES_MAX = 256 << 20
"""The longest message between a worker and a task process: a program, or a range of a stored file."""

PACKET_BYTES_MAX = 4096
"""The longest message between a worker and its zygote."""

LENGTH = struct.Struct(">I")

UNICODE_ERRORS = "surrogatepass"
"""The name of a file need not be UTF-8; what is not comes as lone surrogates."""


def encode(message: object) -> bytes:
    """`message` as msgpack of plain values."""
    packed: bytes = msgpack.packb(to_plain(message), unicode_errors=UNICODE_ERRORS)
    return packed


def decode(kind: Any, data: bytes) -> Any:
    """The message of type `kind` (a dataclass or a union of some) that `encode` was given."""
    return from_plain(kind, msgpack.unpackb(data, use_list=False, unicode_errors=UNICODE_ERRORS))


def to_frame(message: object) -> bytes:
    """`message` with its length in front. Raises RequestError when it is too long."""
    data = encode(message)
    if len(data) > FRAME_BYTES_MAX:
        raise RequestError(
            f"a message of {len(data)} bytes to a task process is over the limit of {FRAME_BYTES_MAX}",
            hint="a program carries code; put data into files",
        )
    return LENGTH.pack(len(data)) + data


def frame_length(head: bytes) -> int:
    """The length of the message behind these four bytes."""
    length: int = LENGTH.unpack(head)[0]
    if length > FRAME_BYTES_MAX:
        raise InvariantViolation(
            f"a frame of {length} bytes between worker and task process: the stream is out of step"
        )
    return length


class TaskSocket:
    """The task's end of the conversation, which blocks."""

    def __init__(self, connection: socket.socket, incoming: Any) -> None:
        self._connection = connection
        self._incoming = incoming
        self._descriptors: list[int] = []

    def send(self, message: object) -> None:
        self._connection.sendall(to_frame(message))

    def receive(self) -> Any:
        """The next message, or None when the worker is gone. A descriptor beside it is there for `take_descriptor`."""
        self._drop_descriptors()
        head = self._read_head()
        if head is None:
            return None
        data = self._read(frame_length(head))
        return None if data is None else decode(self._incoming, data)

    def take_descriptor(self) -> int | None:
        """The descriptor that came with the last message; it is the caller's from now on."""
        return self._descriptors.pop() if self._descriptors else None

    def _drop_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _read_head(self) -> bytes | None:
        """The length of the next message; what travels beside a message comes with its first byte."""
        room = socket.CMSG_LEN(array("i").itemsize)
        try:
            head, beside, *_ = self._connection.recvmsg(LENGTH.size, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        for level, kind, data in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors += array("i", data)
        if not head:
            return None
        rest = self._read(LENGTH.size - len(head))
        return None if rest is None else head + rest

    def _read(self, length: int) -> bytes | None:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            try:
                received = self._connection.recv_into(view)
            except ConnectionError:
                return None
            if not received:
                return None
            view = view[received:]
        return bytes(buffer)
