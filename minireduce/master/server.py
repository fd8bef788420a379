"""The master as a whole: metadata, machine, loop and gRPC server, put together, opened and closed in order.

Ports are bound before metadata is opened: a port that is taken is found out without touching anything. Nothing is
answered before the new epoch is durable. At the end the server stops first, then the writer, then the file is closed,
so that the last commit is there for the next master.
"""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from pathlib import Path

import grpc
import grpc.aio

from minireduce.auth import scopes
from minireduce.auth.policy import RPCS, Authenticator, authorize, bearer_of
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads
from minireduce.auth.tokens import Tokens
from minireduce.clock import Clock
from minireduce.core.cluster import ClusterState
from minireduce.core.settings import ClusterSettings
from minireduce.errors import RequestError
from minireduce.frozen import dataclass
from minireduce.ids import JobId
from minireduce.master.loop import MasterLoop
from minireduce.master.metadata import Metadata, NoMetadata
from minireduce.master.service import MasterService, Sign
from minireduce.wire.limits import server_options
from minireduce.wire.service import Gate, register

log = logging.getLogger(__name__)

JOB_READ_S = 7 * 24 * 3600  # how long a job's read token holds from when it is given
BLOCK_ACCESS_S = 3600  # a block is read or written in one go; whoever needs longer asks again
TOKENS_KEPT_MAX = 1024
STOP_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the master shows beyond loopback: a certificate and its key, both PEM. `sign` signs those of workers."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    sign: Sign | None = None


@dataclass(frozen=True, slots=True)
class MasterOptions:
    """How a master is set up. Without a `data_dir` it remembers nothing; `port` 0 takes any free one.

    `metadata_mirror` is a directory for a second copy of what is in `data_dir`.
    """

    data_dir: Path | None
    host: str
    port: int
    tokens: Tokens
    settings: ClusterSettings
    software_version: str
    certificate: Certificate | None = None
    metadata_mirror: Path | None = None


class Master:
    """A running master. Made with `start_master`; `loop.ended` tells when it cannot go on."""

    def __init__(
        self, loop: MasterLoop, service: MasterService, server: grpc.aio.Server, metadata: Metadata, port: int
    ) -> None:
        self.loop = loop
        self.service = service
        self.port = port
        self._server = server
        self._metadata = metadata

    @property
    def cluster_id(self) -> str:
        return self._metadata.cluster_id

    @property
    def epoch(self) -> int:
        return self._metadata.epoch

    async def stop(self) -> None:
        """Answer nobody any more, write what was decided, and let the next master in."""
        await self.loop.stop()
        await self._server.stop(STOP_GRACE_S)
        self._metadata.close()


async def start_master(options: MasterOptions, clock: Clock) -> Master:
    """A master that serves. Raises RequestError when a port is taken or the data directory cannot be used."""
    authenticator = Authenticator(options.tokens, clock.time)
    server = grpc.aio.server(interceptors=(Gate(_admission(authenticator)),), options=server_options())
    port = _bind(server, options)
    metadata = _open_metadata(options.data_dir, options.metadata_mirror)
    try:
        gc.disable()  # nothing that is read now becomes garbage, and to look through it again and again takes longer
        state = ClusterState(
            cluster_id=metadata.cluster_id,
            epoch=metadata.epoch,
            txid=metadata.txid,
            settings=options.settings,
            rows=metadata.load(),
            make_read_token=_read_tokens(options.tokens, clock),
            now=clock.now(),
            at=clock.time(),
            software_version=options.software_version,
            block_tokens=_SignedBlockTokens(options.tokens, clock),
            rng=random.SystemRandom(),
        )
        gc.freeze()  # nor is it looked through later: with a million files that would stop the master for seconds
        gc.enable()
        loop = MasterLoop(state, metadata.write, clock)
        service = MasterService(loop, state, metadata, options.certificate.sign if options.certificate else None)
        register(server, service.answers(), service.conversations())
        loop.start()
        await server.start()
    except BaseException:
        gc.enable()
        metadata.close()
        raise
    log.info("cluster %s, epoch %d, last commit %d", metadata.cluster_id, metadata.epoch, metadata.txid)
    return Master(loop, service, server, metadata, port)


def _open_metadata(data_dir: Path | None, mirror: Path | None) -> Metadata:
    if data_dir is None:
        return NoMetadata()
    if mirror is not None:
        from minireduce.master.mirror import open_mirrored

        return open_mirrored(data_dir, mirror)
    from minireduce.master.store import open_store

    return open_store(data_dir)


def _admission(authenticator: Authenticator) -> Callable[[str, str | None], None]:
    def admit(path: str, authorization: str | None) -> None:
        authorize(RPCS, path, authenticator.authenticate(bearer_of(authorization)))

    return admit


def _read_tokens(tokens: Tokens, clock: Clock) -> Callable[[JobId], str]:
    secret = scopes.cluster_secret(tokens.require_worker())
    return lambda job: scopes.make(secret, JobReads(job, int(clock.time()) + JOB_READ_S))


class _SignedBlockTokens:
    """Satisfies `core.storage.tokens.BlockTokens`.

    Small files share blocks, and many are asked about at once, so what was signed within the same second is kept.
    """

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        secret = scopes.cluster_secret(tokens.require_worker())
        self._clock = clock
        self._signed = lru_cache(TOKENS_KEPT_MAX)(
            lambda block_id, generation, mode, expires_at_s: scopes.make(
                secret, BlockAccess(block_id, generation, mode, expires_at_s)
            )
        )

    def read(self, block_id: int, generation: int) -> str:
        return self._make(block_id, generation, BlockMode.READ)

    def write(self, block_id: int, generation: int) -> str:
        return self._make(block_id, generation, BlockMode.WRITE)

    def _make(self, block_id: int, generation: int, mode: BlockMode) -> str:
        return self._signed(block_id, generation, mode, int(self._clock.time()) + BLOCK_ACCESS_S)


def _bind(server: grpc.aio.Server, options: MasterOptions) -> int:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"{host}:{options.port}"
    shown = options.certificate
    try:
        if shown is None:
            return int(server.add_insecure_port(address))
        pair = (shown.key_pem, shown.certificate_pem)
        return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))
    except RuntimeError as error:
        raise RequestError(
            f"the master cannot listen on {address}: the port is in use, or the address is not of this machine",
            hint="name another with --port or --host, or stop what listens there",
        ) from error
