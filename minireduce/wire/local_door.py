"""How a reader on the same host comes to a descriptor of a replica or a part, instead of to its bytes.

    1. GET /local/ID/GENERATION over HTTP, with the token that opens the block for reading, as for its bytes. The answer
       names a Unix socket and a nonce, and holds the replica's checksums, four bytes for each 64 KiB. For a part it is
       GET /outputs/ATTEMPT/part/local, with the token of its job, and no checksums: the master has the part's digest.
    2. The reader connects to that socket and sends the nonce. That it gets there shows that both are on one host.
    3. The worker sends the proof that goes with the nonce, and beside it a read-only descriptor of the bytes.

The socket is an abstract one: it has no path that could be opened, belongs to a network namespace, and is gone with its
process. The nonce opens one replica, once, for `OFFER_S`; the proof shows the reader that whoever took the name of the
socket is the worker that it asked. No path travels in either direction, and what is read is verified by the reader.
"""

from __future__ import annotations

import re
import socket

from minireduce.errors import Unavailable
from minireduce.frozen import dataclass

SOCKET_HEADER = "Minireduce-Local-Socket"
NONCE_HEADER = "Minireduce-Local-Nonce"
PROOF_HEADER = "Minireduce-Local-Proof"
SECRET_BYTES = 16
OFFER_S = 5.0
_NAME = re.compile(r"minireduce-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class LocalOffer:
    """What the worker answers: where to fetch the descriptor, and both secrets."""

    socket_name: str
    nonce: bytes
    proof: bytes

    def to_headers(self) -> dict[str, str]:
        """As they travel."""
        return {SOCKET_HEADER: self.socket_name, NONCE_HEADER: self.nonce.hex(), PROOF_HEADER: self.proof.hex()}


def read_offer(name: str, nonce: str, proof: str) -> LocalOffer:
    """The offer in these headers. Raises Unavailable."""
    try:
        offer = LocalOffer(name, bytes.fromhex(nonce), bytes.fromhex(proof))
    except ValueError:
        raise Unavailable("the worker's offer of a descriptor cannot be read") from None
    if not _NAME.fullmatch(name) or {len(offer.nonce), len(offer.proof)} != {SECRET_BYTES}:
        raise Unavailable("the worker's offer of a descriptor cannot be read")
    return offer


def address_of(socket_name: str) -> str:
    """The abstract address of a socket."""
    return f"\0{socket_name}"


def new_socket() -> socket.socket:
    """A socket of the kind that both sides use: one message is one packet, and descriptors travel beside it."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
