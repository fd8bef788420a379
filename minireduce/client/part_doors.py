"""Take one part from the worker that holds it: as a file where that is on this host, else over HTTP.

What came is not verified here (`parts`).
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from minireduce.client import local_parts
from minireduce.client.doors import open_door
from minireduce.client.parts import Found, take_file
from minireduce.core.task_data import OutputSource
from minireduce.wire.errors import from_http

FETCH_BYTES = 1 << 20


def take_from_worker(
    source: OutputSource, read_token: str, target: Path, authority: bytes | None, found: Found
) -> None:
    """Have the part under the name `target`. Raises OSError, and what the worker answers."""
    path, headers = f"/outputs/{source.attempt}/part", {"Authorization": f"Bearer {read_token}"}
    with closing(open_door(source.worker, source.address, authority)) as door:
        try:
            descriptor = local_parts.open_part(door, path, headers)
            if descriptor is not None:
                try:
                    take_file(descriptor, target, found)
                finally:
                    os.close(descriptor)
            else:
                _take_bytes(door, path, headers, target, found, source.worker)
        except http.client.HTTPException as cause:
            raise OSError(str(cause)) from cause


def _take_bytes(
    door: http.client.HTTPConnection, path: str, headers: Mapping[str, str], target: Path, found: Found, worker: str
) -> None:
    with target.open("xb") as file:
        door.request("GET", path, headers=dict(headers))
        answer = door.getresponse()
        if answer.status != http.client.OK:
            raise from_http(answer.status, answer.read(FETCH_BYTES), f"the worker {worker}")
        while piece := answer.read(FETCH_BYTES):
            file.write(piece)
            found.add(piece)
