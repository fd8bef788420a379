"""Limits and times of the gRPC connections, the same at both ends."""

from __future__ import annotations

from typing import Any

PROGRAM_BYTES_MAX = 64 << 20  # of the code that a job brings along
MESSAGE_BYTES_MAX = 256 << 20  # that the master takes: a program, or all that a worker that returns may hold
KEEPALIVE_INTERVAL_S = 10.0
KEEPALIVE_TIMEOUT_S = 10.0
RECONNECT_S_MIN = 0.05
RECONNECT_S_MAX = 2.0


def channel_options() -> list[tuple[str, Any]]:
    """Options of a caller's channel."""
    return [
        *_both_ends(),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", -1),  # the master is trusted to send what is needed
        ("grpc.initial_reconnect_backoff_ms", round(RECONNECT_S_MIN * 1000)),
        ("grpc.min_reconnect_backoff_ms", round(RECONNECT_S_MIN * 1000)),
        ("grpc.max_reconnect_backoff_ms", round(RECONNECT_S_MAX * 1000)),
        ("grpc.enable_http_proxy", 0),  # a cluster's addresses are meant as they stand
        ("grpc.use_local_subchannel_pool", 1),  # another channel's broken connection is none of ours
    ]


def server_options() -> list[tuple[str, Any]]:
    """Options of the master's server."""
    return [
        *_both_ends(),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.so_reuseport", 0),  # two masters on one port are a mistake
        ("grpc.http2.min_ping_interval_without_data_ms", round(KEEPALIVE_INTERVAL_S * 500)),
    ]


def _both_ends() -> list[tuple[str, Any]]:
    return [
        ("grpc.keepalive_time_ms", round(KEEPALIVE_INTERVAL_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
    ]
