"""`minireduce doctor`: what this machine lacks, before a job finds out."""

from __future__ import annotations

import importlib
import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import print_json, size

PYTHON_MIN = (3, 11)
OPEN_FILES_MIN = 1024
FREE_BYTES_MIN = 1 << 30
LIBRARIES = ("grpc", "google.protobuf", "msgpack", "numpy", "pyarrow", "sqlalchemy", "aiohttp", "xxhash")

Finding = tuple[str, bool, str]
"""(what was looked at, whether it is well, what was found and what to do)."""


@click.command(epilog="Example:  minireduce doctor")
@json_option
@common_options
@click.pass_context
def doctor(ctx: click.Context, common: Common, *, is_json: bool) -> None:
    """Check Python, libraries, this machine, settings, and the cluster if one is named."""
    checks: tuple[Callable[[Common], Iterator[Finding]], ...] = (_python, _libraries, _machine, _settings)
    findings = [finding for check in checks for finding in check(common)]
    if is_json:
        print_json([{"what": what, "well": is_well, "found": found} for what, is_well, found in findings])
    else:
        for what, is_well, found in findings:
            print(f"{'ok  ' if is_well else 'BAD '}  {what:<16}{found}")
    if not all(is_well for _, is_well, _ in findings):
        ctx.exit(1)


def _python(common: Common) -> Iterator[Finding]:
    del common
    wanted = ".".join(map(str, PYTHON_MIN))
    yield "python", sys.version_info >= PYTHON_MIN, f"{platform.python_version()} (needs {wanted})"
    yield "system", sys.platform == "linux", f"{platform.system()} {platform.release()} (daemons need Linux)"


def _libraries(common: Common) -> Iterator[Finding]:
    del common
    for name in LIBRARIES:
        try:
            module = importlib.import_module(name)
            yield name, True, getattr(module, "__version__", "installed")
        except ImportError as cause:
            yield name, False, f"{cause}: install minireduce again"


def _machine(common: Common) -> Iterator[Finding]:
    del common
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_enough = soft == resource.RLIM_INFINITY or soft >= OPEN_FILES_MIN
    yield "open files", is_enough, f"at most {soft} (wants {OPEN_FILES_MIN}: ulimit -n)"
    yield "cores", True, str(os.cpu_count())
    place = Path(tempfile.gettempdir())
    free_bytes = shutil.disk_usage(place).free
    yield "temporary", free_bytes >= FREE_BYTES_MIN, f"{size(free_bytes)} free in {place} (TMPDIR names another place)"
    try:
        with socket.create_server(("127.0.0.1", 0)):
            yield "loopback", True, "can listen on 127.0.0.1"
    except OSError as cause:
        yield "loopback", False, f"cannot listen on 127.0.0.1: {cause.strerror}"


def _settings(common: Common) -> Iterator[Finding]:
    from minireduce.errors import MinireduceError

    try:
        configuration = common.configuration()
        yield "settings", True, "readable: minireduce config show --origin"
    except MinireduceError as error:
        yield "settings", False, str(error).replace("\n  hint: ", "; ")
        return
    if configuration.settings.master is None:
        yield "cluster", True, "none is named: jobs start one of their own"
    else:
        yield _cluster(common)


def _cluster(common: Common) -> Finding:
    from minireduce.cli.show import plural
    from minireduce.client.connection import open_connection
    from minireduce.errors import MinireduceError
    from minireduce.wire import methods
    from minireduce.wire.questions import DescribeCluster

    try:
        with open_connection(common.configuration()) as connection:
            shown = connection.call(methods.DESCRIBE_CLUSTER, DescribeCluster())
    except MinireduceError as error:
        return "cluster", False, str(error).replace("\n  hint: ", "; ")
    found = f"{plural(shown.workers_live, 'live worker')}, {plural(shown.slots, 'slot')}, {shown.software_version}"
    return "cluster", shown.workers_live > 0, found
