"""When a connection is encrypted, and what each end then shows and checks.

On loopback nothing is; beyond it everything is, without being asked. Who answers is told by the authority that signed
and by the role it signed for, not by address: a cluster's machines are reached by many names, and no worker's
certificate, whatever hosts it names, may pass for the master's. Certificates brought from outside know no roles; with
those the host's name is checked.

Light on purpose: the clients of a loopback cluster never load the cryptography behind `certificates`.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from pathlib import Path
from typing import Any

from minireduce.errors import Refused, RequestError

AUTHORITY_NAME = "minireduce authority"
ROLE_DOMAIN = "minireduce.internal"
MASTER_ROLE = f"master.{ROLE_DOMAIN}"
BLOCK_SERVER_ROLE = f"block-server.{ROLE_DOMAIN}"


def needs_tls(host: str) -> bool:
    """Whether `host`, to listen on or to connect to, is beyond this machine's loopback; a name might be."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def server_context(certificate_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """What a server shows. Raises RequestError where certificate and key are unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.NamedTemporaryFile(prefix="minireduce-") as file:  # mode 0600; ssl takes keys from files only
        file.write(certificate_pem + b"\n" + key_pem)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as cause:
            raise RequestError(f"certificate and key cannot be used: {cause.reason}", hint="both are PEM") from None
    return context


def client_context(authority_pem: bytes) -> ssl.SSLContext:
    """What a client demands: a certificate of this authority and no other, under `expected_name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unlike create_default_context, trusts nobody to begin with
    try:
        context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise RequestError("the authority's certificate cannot be used", hint="it is a PEM file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def expected_name(authority_pem: bytes, role: str, host: str) -> str:
    """The name that the certificate of `host` must bear: its role under our own authority, else the host's name."""
    trusted: list[Any] = client_context(authority_pem).get_ca_certs()
    names = {name for authority in trusted for part in authority["subject"] for _, name in part}
    return role if AUTHORITY_NAME in names else host


def authority_path(token_file: Path) -> Path:
    """Where the authority's certificate is that goes with a token file."""
    return token_file.with_name(f"{token_file.name}.ca.pem")


def load_authority(token_file: Path) -> bytes:
    """The authority (PEM) that goes with a token file. Raises Refused with what to copy where there is none."""
    path = authority_path(token_file)
    try:
        return path.read_bytes()
    except OSError as cause:
        raise Refused(
            f"beyond loopback the authority's certificate is needed, and {path} cannot be read: {cause.strerror}",
            hint="copy it from beside the master's token file, or join with what `minireduce token --join` prints",
        ) from None
