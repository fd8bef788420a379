"""What a worker tells its block server when it starts it: one line of JSON on its standard input.

A pipe, since arguments and environment of a process are seen by others, and this holds secrets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, field

from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Orders:
    """Certificate, key and authority are PEM; empty: no TLS. `lists_replicas`: say of every replica that it is here,
    as the server that ran before may have ended without telling of the last ones. `gives_descriptors`: readers on this
    host may have those of replicas. `missing` are the directories that must be done without, and why.
    """

    data_dirs: tuple[str, ...]
    worker: str
    worker_token: str = field(repr=False)
    socket_fd: int = -1
    certificate_pem: str = ""
    key_pem: str = field(default="", repr=False)
    authority_pem: str = ""
    lists_replicas: bool = False
    gives_descriptors: bool = True
    scrub_period_s: float = 7 * 86_400.0
    scrub_bytes_per_s: int = 8 << 20
    missing: dict[str, str] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """As the worker writes it."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Orders:
        """As the block server reads it."""
        fields = json.loads(line)
        return cls(**{**fields, "data_dirs": tuple(fields["data_dirs"])})
