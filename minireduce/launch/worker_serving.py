"""A running worker from its flags, until it is told to stop.

Order matters at the start: tokens first, since mistakes there must be told at once; then the data directory and the
port, each of which another process may hold; then the master's address, which a parent may say late (`child`); then the
stream. The zygote imports beside all that (`worker_main`). SIGTERM and SIGINT end the worker in order, with status 0:
its attempts are given back to the master, which runs them elsewhere.

A master that refuses this worker (token, version, an older incarnation) ends it with status 4. One that is out of reach
does not: the worker tries again for as long as it lives.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce import __version__, config
from minireduce.auth import tokens, transport
from minireduce.auth.joining import parse_join, split_address
from minireduce.clock import SystemClock
from minireduce.config import Configuration
from minireduce.core.settings import WorkerSettings
from minireduce.disk import RealDisk
from minireduce.errors import RequestError
from minireduce.launch import child
from minireduce.launch.common import join_address, rest_collector
from minireduce.launch.trust import Trust
from minireduce.worker.block_server_process import listen
from minireduce.worker.collecting import CollectionLimits
from minireduce.worker.control_groups import take_ours
from minireduce.worker.identity import lock
from minireduce.worker.memory import machine_memory_bytes

if TYPE_CHECKING:
    from minireduce.wire.calls import Credentials
    from minireduce.worker.whole import Worker
    from minireduce.worker.zygote_process import ZygoteProcess

log = logging.getLogger("minireduce.worker")

COLLECT_INTERVAL_S_MAX = 60.0
_ALL_INTERFACES = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to tell that one was asked for


def run(options: argparse.Namespace, zygote: ZygoteProcess) -> None:
    """Serve until told to stop. The zygote is this worker's from here on; whoever began it sees to its end."""
    try:
        asyncio.run(_serve(options, zygote))
    finally:
        child.remove_root(options.embedded)


async def _serve(options: argparse.Namespace, zygote: ZygoteProcess) -> None:
    configuration = config.load({"token_file": options.token_file, "slots": options.slots}, config_file=options.config)
    trust = Trust(options, tokens.path_of(configuration))
    address = options.master or (options.join and parse_join(options.join).address)
    if not address:
        raise RequestError(
            "no master was named", hint="write MASTER_HOST:PORT, or what `minireduce token --join` prints"
        )
    data_dirs = tuple(path.expanduser().absolute() for path in options.data_dir)
    _check_new(_new_data_dirs(options), data_dirs)
    with contextlib.ExitStack() as locks:
        _lock(data_dirs, locks)
        if options.join:
            await asyncio.to_thread(trust.join, options.join)
        held = tokens.find(configuration).require_worker()
        credentials = None if address == child.LATER else await asyncio.to_thread(trust.credentials, address, held)
        worker = await asyncio.to_thread(
            _worker, options, configuration, data_dirs, held, trust, address, credentials, zygote
        )
        try:
            await worker.start()
            if credentials is None:
                address = await asyncio.to_thread(child.master_address, address)
                credentials = trust.credentials(address, held)
            _obey_signals(options, worker)
            rest_collector()
            await worker.run(address, credentials)
            log.info("stopping")
        finally:
            await worker.close()


def _new_data_dirs(options: argparse.Namespace) -> tuple[Path, ...]:
    return tuple(path.expanduser().absolute() for path in options.new_data_dir or ())


def _check_new(new_data_dirs: tuple[Path, ...], data_dirs: tuple[Path, ...]) -> None:
    for path in new_data_dirs:
        if path not in data_dirs:
            raise RequestError(f"--new-data-dir {path} is none of --data-dir", hint="name it with both")


def _lock(data_dirs: tuple[Path, ...], locks: contextlib.ExitStack) -> None:
    """Take all directories for this process. The first must be usable, of the others any may have failed."""
    if len(set(data_dirs)) < len(data_dirs):
        raise RequestError("--data-dir names a directory twice", hint="name one directory on each disk")
    for number, data_dir in enumerate(data_dirs):
        try:
            locks.enter_context(lock(data_dir))
        except RequestError as error:
            if number == 0 or not isinstance(error.__cause__, OSError):
                raise
            log.error("%s", error.message)  # noqa: TRY400 - no fault of the code


def _obey_signals(options: argparse.Namespace, worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.loop.request_stop)
    if options.embedded is not None:
        child.when_parent_ends(worker.loop.request_stop)


def _worker(
    options: argparse.Namespace,
    configuration: Configuration,
    data_dirs: tuple[Path, ...],
    token: str,
    trust: Trust,
    master: str,
    credentials: Credentials | None,
    zygote: ZygoteProcess,
) -> Worker:
    """The worker, not started."""
    from minireduce.worker.scrubbing import ScrubLimits
    from minireduce.worker.whole import Worker, WorkerOptions

    settings = configuration.settings
    host = options.host or _host_towards(master)
    reached_as = options.advertise or (socket.gethostname() if host in _ALL_INTERFACES else host)
    listening = listen(host, options.port)
    data_address = join_address(reached_as, listening.getsockname()[1])
    shown = trust.block_server(reached_as, master, credentials)

    def on_joined() -> None:
        child.announce(options.ready_fd, address=data_address)
        print(f"minireduce-worker serves {data_address} for the master", flush=True)  # noqa: T201

    return Worker(
        WorkerOptions(
            data_dirs=data_dirs,
            listening=listening,
            data_address=data_address,
            host=reached_as,
            rack=options.rack,
            slots=settings.slots or len(os.sched_getaffinity(0)),
            memory_bytes=int(machine_memory_bytes() * settings.memory_fraction),
            worker_token=token,
            settings=WorkerSettings(master_wait_s=settings.master_wait_s, merges_ahead=settings.merge_ahead),
            software_version=__version__,
            task_user=settings.task_user if os.geteuid() == 0 and options.embedded is None else "",
            groups=take_ours(os.getpid()) if options.embedded is None else None,
            attempt_log_bytes_max=settings.attempt_log_size,
            shuffle_compression=settings.shuffle_compression,
            spill_compression=settings.spill_compression,
            collection=CollectionLimits(
                interval_s=min(COLLECT_INTERVAL_S_MAX, settings.orphans_keep_s),
                orphans_keep_s=settings.orphans_keep_s,
                logs_bytes_max=settings.worker_logs_size,
            ),
            scrub=ScrubLimits(settings.scrub_period_s, settings.scrub_bytes_per_s),
            authority_pem=trust.authority() if transport.needs_tls(reached_as) else None,
            certificate_pem=shown.certificate_pem,
            key_pem=shown.key_pem,
            gives_descriptors=not options.no_local_reads,
            new_data_dirs=_new_data_dirs(options),
            weight=options.weight,
            keeps_spares=not options.once,
            serves_at_once=not options.alone,  # nobody fetches from it, and mostly nobody stores anything there
        ),
        SystemClock(),
        RealDisk(),
        zygote=zygote,
        on_joined=on_joined,
    )


def _host_towards(master: str) -> str:
    """The address of this machine from which the master is reached: loopback for a master on this machine."""
    if master == child.LATER:
        return "127.0.0.1"
    try:
        family, _, _, _, address = socket.getaddrinfo(*split_address(master), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: the system only looks up the route
            return str(probe.getsockname()[0])
    except OSError as cause:
        raise RequestError(
            f"there is no way from here to {master}: {cause.strerror}", hint="check the address, or name --host"
        ) from cause
