"""The one line that adds a machine, and how the machine turns it into trust.

`minireduce token --join` prints `mrj1,ADDRESS,FINGERPRINT,TOKEN`: where the master is, SHA-256 of its authority's
certificate (`-` for a master that speaks no TLS, on loopback), and the worker's token. The machine connects, takes the
authority that the master shows, and keeps it only if the fingerprint is the line's; only then is the token sent, over
a connection that trusts that authority and nothing else. So whoever sits in between gets neither trust nor token.

The line is a secret, as it holds the token.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import field
from pathlib import Path

from minireduce.auth import private_files, tokens, transport
from minireduce.auth.transport import MASTER_ROLE, authority_path
from minireduce.errors import Refused, RequestError, Unavailable
from minireduce.frozen import dataclass

VERSION = "mrj1"
CONNECT_S = 10.0
_NO_FINGERPRINT = "-"
_HINT = "paste the whole line that `minireduce token --join` prints"


@dataclass(frozen=True, slots=True)
class Join:
    """What the line says. Without a fingerprint the master speaks no TLS."""

    address: str
    fingerprint: str | None
    worker_token: str = field(repr=False)


def make_join(join: Join) -> str:
    """The line for `join`."""
    return ",".join((VERSION, join.address, join.fingerprint or _NO_FINGERPRINT, join.worker_token))


def parse_join(line: str) -> Join:
    """What a line from `minireduce token --join` says. Raises RequestError, which never shows the token."""
    fields = line.strip().split(",")
    if fields[0] != VERSION and re.fullmatch(r"mrj\d+", fields[0]):
        raise RequestError(
            f"the join line is of version {fields[0]}, and {VERSION} is known here",
            hint="install the version of minireduce that the master runs",
        )
    if fields[0] != VERSION or len(fields) != 4:
        raise RequestError("this is no join line", hint=_HINT)
    _, address, fingerprint, token = fields
    split_address(address)
    if fingerprint != _NO_FINGERPRINT and not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise RequestError("the fingerprint in the join line is not 64 hexadecimal digits", hint=_HINT)
    try:
        tokens.parse(token, origin="the join line").require_worker()
    except Refused:
        raise RequestError("the join line ends in no worker token", hint=_HINT) from None
    return Join(address, None if fingerprint == _NO_FINGERPRINT else fingerprint, token)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`. Raises RequestError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\],/@]+)):([0-9]{1,5})", address)
    if match is None or not 0 < int(match[3]) < 1 << 16:
        raise RequestError(f"{address!r} is no address", hint="write HOST:PORT, such as 10.0.0.5:7070")
    return match[1] or match[2], int(match[3])


def fetch_authority(address: str, fingerprint: str, *, timeout_s: float = CONNECT_S) -> bytes:
    """The certificate (PEM) of the authority with this fingerprint, shown by the master there.

    Raises Refused if somebody else answers, Unavailable if nobody does.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from minireduce.auth.certificates import carried_authority

    try:
        leaf = _shown_certificate(address, timeout_s)
    except ssl.SSLError as cause:
        raise Refused(f"{address} does not speak TLS ({cause.reason})", hint="check the address and its port") from None
    except OSError as cause:
        raise Unavailable(f"no master answers at {address}: {cause}", hint="is it running and reachable?") from None
    try:
        return carried_authority(leaf, fingerprint).public_bytes(Encoding.PEM)
    except Refused as refusal:
        raise Refused(
            f"{address} is not the master of this join line: {refusal.message}",
            hint="print a new line there; if it is the same, something stands between this machine and the master",
        ) from None


def check_master(address: str, authority_pem: bytes, name: str, *, timeout_s: float = CONNECT_S) -> None:
    """Return if the server there shows a certificate of this authority under `name`. Raises Refused, Unavailable.

    Every connection asks this of itself. Asked beforehand, it tells somebody who trusts the wrong one so, where a
    connection could only say that there is none, and be tried again for ever.
    """
    context = transport.client_context(authority_pem)
    try:
        _shown_certificate(address, timeout_s, context, name)
    except ssl.SSLCertVerificationError as cause:
        raise Refused(
            f"what answers at {address} is not the master of this cluster: {cause.verify_message}",
            hint="copy the authority's certificate from beside the master's token file, or join with what "
            "`minireduce token --join` prints there",
        ) from None
    except ssl.SSLError as cause:
        raise Refused(f"{address} does not speak TLS ({cause.reason})", hint="check the address and its port") from None
    except OSError as cause:
        raise Unavailable(f"no master answers at {address}: {cause}", hint="is it running and reachable?") from None


def speaks_tls(address: str, *, timeout_s: float = CONNECT_S) -> bool:
    """Whether the server there speaks TLS: for a client on the master's own machine, where both are possible.

    Not for other hosts: there TLS is a must, and asking would let whoever is in between say no. Raises Unavailable.
    """
    try:
        return bool(_shown_certificate(address, timeout_s))
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return False
    except OSError as cause:
        raise Unavailable(f"nothing answers at {address}: {cause}", hint="is the master running?") from None


def _shown_certificate(
    address: str, timeout_s: float, context: ssl.SSLContext | None = None, name: str = MASTER_ROLE
) -> bytes:
    """The certificate (DER) of the server, whose key the handshake proves it has. Without `context` it is trusted for
    nothing yet."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the caller compares a fingerprint instead
    context.set_alpn_protocols(["h2"])  # gRPC servers hang up on clients that do not ask for it
    with (
        socket.create_connection(split_address(address), timeout=timeout_s) as connection,
        context.wrap_socket(connection, server_hostname=name) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def accept(join: Join, token_file: Path) -> bytes | None:
    """Make this machine one of the cluster's: keep its authority (PEM, given back) and the worker's token.

    Doing it again, as a service that starts again does, changes nothing. Raises Refused if the token file is another
    cluster's, and what `fetch_authority` raises.
    """
    authority_pem = None if join.fingerprint is None else fetch_authority(join.address, join.fingerprint)
    try:
        try:
            tokens.store(token_file, tokens.Tokens(worker=join.worker_token))
        except FileExistsError:
            if not tokens.equal(join.worker_token, tokens.load(token_file).worker):
                raise Refused(
                    f"{token_file} holds the token of another cluster",
                    hint="remove it, or keep this one elsewhere with --token-file",
                ) from None
        if authority_pem is not None:
            private_files.replace(authority_path(token_file), authority_pem)
    except OSError as cause:
        raise RequestError(f"{token_file} cannot be written: {cause.strerror}") from cause
    return authority_pem
