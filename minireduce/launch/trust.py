"""Whom a worker trusts, and what its block server shows: certificates, where loopback ends.

The authority is the one that lies beside the token file (put there by `--join`, or copied), or the one that `--tls-ca`
names. The block server shows what `--tls-cert` names, or a certificate that the master signs when the worker starts;
its key never leaves this process. A master that is not there yet is waited for.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce.auth import joining, transport
from minireduce.auth.joining import split_address
from minireduce.client.retry import Retry
from minireduce.errors import RequestError, Unavailable
from minireduce.frozen import dataclass
from minireduce.launch.common import read_file

if TYPE_CHECKING:
    from minireduce.wire.calls import Credentials

log = logging.getLogger("minireduce.worker")

CALL_S = 10.0
QUIET_S = 5.0
_FOREVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate and its key, both PEM; empty where there is no TLS."""

    certificate_pem: str = ""
    key_pem: str = field(default="", repr=False)


class Trust:
    """The certificates of one worker; `token_file` is where its token lies, or would."""

    def __init__(self, options: argparse.Namespace, token_file: Path) -> None:
        if (options.tls_cert is None) != (options.tls_key is None):
            raise RequestError("--tls-cert and --tls-key belong together", hint="give both")
        self._options = options
        self._token_file = token_file

    def join(self, line: str) -> None:
        """Take this machine into the cluster that a join line speaks of."""
        join = joining.parse_join(line)
        self._retry().call(lambda: joining.accept(join, self._token_file))

    def authority(self) -> bytes:
        """The certificate (PEM) of the cluster's authority. Raises Refused where there is none."""
        given = self._options.tls_ca
        return transport.load_authority(self._token_file) if given is None else read_file(given)

    def credentials(self, master: str, token: str) -> Credentials:
        """What to show the master at this address, and whom to expect there."""
        from minireduce.wire.calls import Credentials

        if not self._is_encrypted(master):
            return Credentials(token)
        authority = self.authority()
        name = transport.expected_name(authority, transport.MASTER_ROLE, split_address(master)[0])
        self._retry().call(lambda: joining.check_master(master, authority, name))
        return Credentials(token, authority, name)

    def block_server(self, host: str, master: str, credentials: Credentials | None) -> Shown:
        """What the block server that is reached as `host` shows. Without credentials the master cannot be asked."""
        if self._options.tls_cert is not None:
            return Shown(read_file(self._options.tls_cert).decode(), read_file(self._options.tls_key).decode())
        if not transport.needs_tls(host):
            return Shown()
        if credentials is None:
            raise RequestError(f"a worker that is reached as {host} must know its master when it starts")
        from minireduce.auth.certificates import make_request
        from minireduce.wire.calls import Calls
        from minireduce.wire.methods import CERTIFY_BLOCK_SERVER
        from minireduce.wire.questions import CertifyBlockServer

        key_pem, request_pem = make_request()
        calls = Calls(master, credentials)
        try:
            question = CertifyBlockServer(request_pem, (host,))
            signed = self._retry().call(lambda: calls.call(CERTIFY_BLOCK_SERVER, question, timeout_s=CALL_S))
        finally:
            calls.close()
        return Shown(signed.decode(), key_pem.decode())

    def _is_encrypted(self, master: str) -> bool:
        """Beyond loopback always; on it a master that others reach too speaks TLS, and its authority lies here."""
        if transport.needs_tls(split_address(master)[0]):
            return True
        if self._options.tls_ca is None and not transport.authority_path(self._token_file).exists():
            return False
        return self._retry().call(lambda: joining.speaks_tls(master))

    @staticmethod
    def _retry() -> Retry:
        """Wait for the master as long as it takes, and say so once in a while."""
        told_at = -QUIET_S

        def tell(error: Unavailable, waited_s: float) -> None:
            nonlocal told_at
            if waited_s - told_at >= QUIET_S:
                told_at = waited_s
                log.warning("waiting for the master: %s", error.message)

        return Retry(_FOREVER_S, _FOREVER_S, on_wait=tell)
