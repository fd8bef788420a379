"""`minireduce cluster up|down|workers|drain|undrain`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from minireduce.cli.options import Common, common_options, json_option, token_file_option
from minireduce.cli.show import print_json, print_table, size

if TYPE_CHECKING:
    from minireduce.core.views import WorkerView

MASTER_PORT = 7070
PAGES_PORT = 7080
LOOK_INTERVAL_S = 1.0


@click.group()
def cluster() -> None:
    """Start, stop and look at a cluster."""


@cluster.command(epilog="Example:  minireduce cluster up -n 4")
@click.option("-n", "workers", type=click.IntRange(min=1), default=1, show_default=True, help="How many workers.")
@click.option("--port", type=click.IntRange(0, 65535), default=MASTER_PORT, show_default=True, help="Of the master.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=PAGES_PORT, show_default=True, help="Of its pages.")
@json_option
@token_file_option
def up(common: Common, *, workers: int, port: int, http_port: int, is_json: bool) -> None:
    """Start a master and workers on this machine; they stay until `cluster down`."""
    from minireduce.cli.show import plural
    from minireduce.launch import local_cluster

    running = local_cluster.up(common.configuration(), workers=workers, port=port, http_port=http_port)
    if is_json:
        print_json(running)
        return
    print(f"a master and {plural(workers, 'worker')} run at {running.address}, pages at http://{running.http_address}/")
    print(f"\n  export MINIREDUCE_MASTER={running.address}\n")
    print("lets every command use them; `minireduce cluster down` ends them")


@cluster.command(epilog="Example:  minireduce cluster down")
@json_option
def down(*, is_json: bool) -> None:
    """End what `cluster up` started. Data stays where it was."""
    from minireduce.launch import local_cluster

    ended = local_cluster.down()
    if is_json:
        print_json(ended)
    else:
        print(f"the cluster at {ended.address} has ended")


@cluster.command(epilog="Example:  minireduce cluster workers --master 127.0.0.1:7070")
@json_option
@common_options
def workers(common: Common, *, is_json: bool) -> None:
    """List the workers of a cluster."""
    from minireduce.client.connection import open_connection
    from minireduce.wire import methods
    from minireduce.wire.questions import DescribeCluster, ListWorkers

    with open_connection(common.configuration()) as connection:
        listed = connection.call(methods.LIST_WORKERS, ListWorkers())
        problems = () if is_json else connection.call(methods.DESCRIBE_CLUSTER, DescribeCluster()).problems
    if is_json:
        print_json(listed)
        return
    rows = [
        (
            each.worker,
            each.condition,
            each.host,
            each.rack,
            f"{each.slots_used}/{each.slots}",
            size(each.memory_bytes),
            size(each.capacity_bytes),
            size(max(0, each.capacity_bytes - each.free_bytes)),
            each.blocks,
            f"{each.weight:g}",
            each.data_address,
            f"{each.last_heard_s:.1f} s",
        )
        for each in listed
    ]
    print_table(
        (
            "WORKER",
            "STATE",
            "HOST",
            "RACK",
            "SLOTS",
            "MEMORY",
            "CAPACITY",
            "USED",
            "BLOCKS",
            "WEIGHT",
            "ADDRESS",
            "HEARD",
        ),
        rows,
    )
    for problem in problems:
        print(f"master: {problem}")
    for each in listed:
        for directory in each.directories:
            if directory.problem:
                print(f"{each.worker}: {directory.path} takes no more blocks: {directory.problem}")
        if each.drain is not None and each.drain.why:
            print(f"{each.worker}: {each.drain.why}")


@cluster.command(epilog="Example:  minireduce cluster drain w-3f9a1c --wait")
@click.argument("worker", metavar="WORKER")
@click.option("--wait", "is_waiting", is_flag=True, help="Return once the worker can be done without.")
@json_option
@common_options
def drain(worker: str, common: Common, *, is_waiting: bool, is_json: bool) -> None:
    """Take a worker out of service: nothing new comes to it, and what it alone holds is brought elsewhere."""
    view = _drain(common, worker, is_draining=True)
    said = ""
    while is_waiting and view.drain is not None and not view.drain.is_done:
        if not is_json and _progress(view) != said:
            said = _progress(view)
            print(said, flush=True)
        time.sleep(LOOK_INTERVAL_S)
        view = _drain(common, worker, is_draining=True)
    if is_json:
        print_json(view)
    else:
        print(_progress(view))


@cluster.command(epilog="Example:  minireduce cluster undrain w-3f9a1c")
@click.argument("worker", metavar="WORKER")
@json_option
@common_options
def undrain(worker: str, common: Common, *, is_json: bool) -> None:
    """Take a drained or draining worker back into service."""
    view = _drain(common, worker, is_draining=False)
    if is_json:
        print_json(view)
    else:
        print(f"{worker} is in service ({view.condition})")


def _drain(common: Common, worker: str, *, is_draining: bool) -> WorkerView:
    from minireduce.client.connection import open_connection
    from minireduce.core.requests import DrainWorker
    from minireduce.wire import methods

    with open_connection(common.configuration()) as connection:
        return connection.call(methods.DRAIN_WORKER, DrainWorker(worker, is_draining))


def _progress(view: WorkerView) -> str:
    """How far the draining of a worker is, in a line."""
    drain = view.drain
    if drain is None:
        return f"{view.worker} is in service"
    if drain.is_done:
        return f"{view.worker} is drained and may be stopped{f': {drain.why}' if drain.why else ''}"
    left = f", {size(drain.bytes)} left" if drain.bytes else ""
    estimate = f", about {drain.left_s:.0f} s" if drain.left_s else ""
    return f"{view.worker} is draining{left}{estimate}: {drain.why}"
