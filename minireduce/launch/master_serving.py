"""A running master from its flags, until it is told to stop.

Order matters at the start: tokens are found or made, both ports are bound, and only then is the data directory touched;
the line that says where it listens comes last. SIGTERM and SIGINT end it in order, with status 0. A master
that cannot go on (a disk that takes no more commits) ends by itself with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce import __version__, config
from minireduce.auth import tokens, transport
from minireduce.auth.policy import Authenticator
from minireduce.clock import SystemClock
from minireduce.config import Configuration
from minireduce.core.settings import ClusterSettings, QueueSettings
from minireduce.errors import MinireduceError, RequestError
from minireduce.launch import child
from minireduce.launch.common import join_address, read_file, rest_collector
from minireduce.web.listen import Pages, listen

if TYPE_CHECKING:
    from minireduce.master.server import Certificate, Master

log = logging.getLogger("minireduce.master")


def run(options: argparse.Namespace) -> None:
    """Serve until told to stop."""
    try:
        asyncio.run(_serve(options))
    finally:
        child.remove_root(options.embedded)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.embedded is not None:
        child.when_parent_ends(stop.set)
    configuration = config.load({"token_file": options.token_file}, config_file=options.config)
    certificate = _certificate(options, tokens.path_of(configuration))
    with listen(options.host, options.http_port) as http_socket:
        master, pages = await _start(options, configuration, certificate, http_socket)
        host = options.advertise or options.host
        address, http_address = join_address(host, master.port), join_address(host, pages.port)
        child.announce(options.ready_fd, address=address, http_address=http_address)
        rest_collector()
        print(f"minireduce-master listens on {address}, pages on {http_address}", flush=True)  # noqa: T201
        try:
            await _until(stop, master)
        finally:
            await pages.stop()
            await master.stop()


async def _start(
    options: argparse.Namespace,
    configuration: Configuration,
    certificate: Certificate | None,
    http_socket: socket.socket,
) -> tuple[Master, Pages]:
    from minireduce.master.server import MasterOptions, start_master

    clock = SystemClock()
    held = _tokens(configuration)
    master = await start_master(
        MasterOptions(
            data_dir=None if options.embedded else options.data_dir.expanduser(),
            host=options.host,
            port=options.port,
            tokens=held,
            settings=_cluster_settings(configuration.settings),
            software_version=__version__,
            certificate=certificate,
            metadata_mirror=options.metadata_mirror.expanduser() if options.metadata_mirror else None,
        ),
        clock,
    )
    tls = None
    if certificate is not None:
        tls = transport.server_context(certificate.certificate_pem, certificate.key_pem)
    names = [name for name in (options.advertise, options.host, socket.gethostname(), socket.getfqdn()) if name]
    pages = Pages(http_socket, master.service, Authenticator(held, clock.time), names, tls)
    pages.start()
    return master, pages


async def _until(stop: asyncio.Event, master: Master) -> None:
    """Return when told to stop; raise what the master met if it cannot go on."""
    ended = master.loop.ended
    ended.add_done_callback(lambda _ended: stop.set())
    await stop.wait()
    if ended.done():
        error = ended.exception()
        # Whatever it is, the exit is that of a failure: nobody asked for anything that could be mended by asking.
        raise MinireduceError(
            f"the master cannot go on: {error.message if isinstance(error, MinireduceError) else repr(error)}",
            hint=error.hint if isinstance(error, MinireduceError) else None,
        )
    log.info("stopping")


def _tokens(configuration: Configuration) -> tokens.Tokens:

    if os.environ.get("MINIREDUCE_TOKEN") and not configuration.origins["token_file"].startswith("--"):
        held = tokens.find(configuration)
        held.require_client()
        held.require_worker()
        return held
    return tokens.load_or_create(tokens.path_of(configuration))


def _cluster_settings(settings: config.Settings) -> ClusterSettings:
    return ClusterSettings(
        worker_lost_s=settings.worker_lost_s,
        repair_delay_s=settings.repair_delay_s,
        maintenance_s=settings.maintenance_s,
        repair_bytes_per_s=settings.repair_bytes_per_s,
        balance_threshold=settings.balance_threshold,
        balance_bytes_per_s=settings.balance_bytes_per_s,
        results_keep_s=settings.results_keep_s,
        jobs_unended_max=settings.jobs_unended_max,
        job_history_max=settings.job_history_max,
        history_max=settings.history_max,
        job_logs_bytes_max=settings.job_logs_size,
        logs_bytes_max=settings.logs_size,
        backup_slots_fraction=settings.backup_slots_fraction,
        queues=tuple(QueueSettings(queue.name, queue.weight, queue.slots_max) for queue in settings.queues.queues),
        locality_wait_node_s=settings.locality_wait_node_s,
        locality_wait_rack_s=settings.locality_wait_rack_s,
        preempt_after_s=settings.preempt_after_s,
        priority_wait_s=settings.priority_wait_s,
        replication=settings.replication,
        replicas_min=settings.replicas_min,
        block_size_bytes=settings.block_size,
        trash_kept_s=settings.trash_kept_s,
        staging_keep_s=settings.staging_keep_s,
    )


def _certificate(options: argparse.Namespace, token_file: Path) -> Certificate | None:
    """What the master shows: given files, or beyond loopback one that its own authority signs. None: no TLS."""
    given = (options.tls_cert, options.tls_key)
    if any(given) != all(given) or (options.tls_ca and not all(given)):
        raise RequestError("--tls-cert and --tls-key belong together", hint="give both, and --tls-ca if you have it")
    if not all(given) and not transport.needs_tls(options.host):
        return None
    from minireduce.master.server import Certificate

    if all(given):
        from minireduce.auth import private_files

        if options.tls_ca:
            private_files.replace(transport.authority_path(token_file), read_file(options.tls_ca))
        return Certificate(read_file(options.tls_cert), read_file(options.tls_key))
    from minireduce.auth.certificates import issue_master, load_or_create_authority, sign_request

    authority = load_or_create_authority(token_file, time.time())
    hosts = [options.advertise or socket.gethostname(), options.host]
    identity = issue_master(authority, hosts, time.time())
    return Certificate(
        identity.certificate_pem,
        identity.key_pem,
        sign=lambda request_pem, names: sign_request(authority, request_pem, names, time.time()),
    )
