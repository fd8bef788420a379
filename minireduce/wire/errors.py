"""Errors on the wire: the one table of which error is which gRPC code and which HTTP status, and both ways back.

An error travels with its class, message and hint, so that the other side raises what was raised here. The code and the
status are for whoever knows no minireduce: proxies, curl, other versions. An answer that carries no class (a proxy's, a
transport's) is turned into the family that its code or status stands for.

Messages are cut at `TEXT_CHARACTERS_MAX`: they travel in headers, whose size peers limit. gRPC is imported only where
it is needed, as the block server and the pages speak HTTP alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from minireduce.errors import (
    AlreadyExists,
    Corruption,
    InvariantViolation,
    JobFailed,
    JobKilled,
    MinireduceError,
    NotFound,
    Refused,
    RequestError,
    Unavailable,
)

if TYPE_CHECKING:
    import grpc

TEXT_CHARACTERS_MAX = 2000
KIND_KEY = "minireduce-error"
HINT_KEY = "minireduce-hint-bin"

_TABLE: tuple[tuple[type[MinireduceError], str, int], ...] = (
    # A class stands before those that it derives from.
    (NotFound, "NOT_FOUND", 404),
    (AlreadyExists, "ALREADY_EXISTS", 409),
    (RequestError, "INVALID_ARGUMENT", 400),
    (Refused, "PERMISSION_DENIED", 403),
    (Unavailable, "UNAVAILABLE", 503),
    (Corruption, "DATA_LOSS", 410),
    (JobKilled, "ABORTED", 424),
    (JobFailed, "ABORTED", 424),
    (MinireduceError, "INTERNAL", 500),
)
_BY_NAME: dict[str, type[MinireduceError]] = {kind.__name__: kind for kind, _, _ in _TABLE}

_OTHER_CODES: dict[str, tuple[type[MinireduceError], str]] = {
    "UNAUTHENTICATED": (Refused, "check the token"),
    "UNIMPLEMENTED": (Refused, "this may be a master of another version"),
    "DEADLINE_EXCEEDED": (Unavailable, "it may be busy or out of reach"),
    "CANCELLED": (Unavailable, "it may be stopping"),
    "RESOURCE_EXHAUSTED": (RequestError, "it may be too large to be sent in one message"),
}
_BY_STATUS: dict[int, type[MinireduceError]] = {
    **{status: kind for kind, _, status in _TABLE},
    401: Refused,
    408: Unavailable,
    429: Unavailable,
    502: Unavailable,
    504: Unavailable,
}


def _row(error: BaseException) -> tuple[type[MinireduceError], str, int]:
    return next((row for row in _TABLE if isinstance(error, row[0])), _TABLE[-1])


def _text_of(error: BaseException) -> tuple[str, str]:
    """Message and hint, fit for a header. What is no error of ours shows its class only: its text may hold anything."""
    if not isinstance(error, MinireduceError) or isinstance(error, InvariantViolation):
        return f"the other side met {type(error).__name__}", "its log says more"
    return _fit(error.message), _fit(error.hint or "")


def _fit(text: str) -> str:
    if len(text) > TEXT_CHARACTERS_MAX:
        text = f"{text[:TEXT_CHARACTERS_MAX]}…"
    return text.encode("utf-8", "backslashreplace").decode()


def _rebuild(name: str, message: str, hint: str, fallback: type[MinireduceError]) -> MinireduceError:
    return _BY_NAME.get(name, fallback)(message, hint=hint or None)


# ── gRPC ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_grpc(error: BaseException) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Code, details and trailing metadata with which a server answers."""
    from grpc import StatusCode

    kind, code, _ = _row(error)
    message, hint = _text_of(error)
    return StatusCode[code], message, ((KIND_KEY, kind.__name__), (HINT_KEY, hint.encode()))


def from_grpc(error: Any, peer: str) -> MinireduceError:
    """What a failed call means: `error` is the `grpc.RpcError`, `peer` is what people call the other side."""
    metadata = dict(_pairs(error.trailing_metadata()))
    code = error.code().name
    details = error.details() or code
    if KIND_KEY in metadata:
        hint = bytes(metadata.get(HINT_KEY, b"")).decode("utf-8", "replace")
        return _rebuild(str(metadata[KIND_KEY]), details, hint, MinireduceError)
    if code == "UNAVAILABLE":
        return Unavailable(f"{peer} cannot be reached: {details}", hint="is it running, and is the address right?")
    kind, hint = _OTHER_CODES.get(code, (MinireduceError, f"the log of {peer} says more"))
    return kind(f"{peer} answered {code}: {details}", hint=hint)


def _pairs(metadata: Iterable[Any] | None) -> Iterable[tuple[str, Any]]:
    return [(item[0], item[1]) for item in metadata or ()]


# ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_http(error: BaseException) -> tuple[int, dict[str, str]]:
    """Status and JSON body with which a server answers."""
    kind, _, status = _row(error)
    message, hint = _text_of(error)
    return status, {"error": kind.__name__, "message": message, "hint": hint}


def from_http(status: int, body: bytes, peer: str) -> MinireduceError:
    """What an answer of `status` (400 or more) means: `body` is what came with it, `peer` the other side's name."""
    fallback = _BY_STATUS.get(status, MinireduceError)
    try:
        told = json.loads(body)
        return _rebuild(str(told["error"]), str(told["message"]), str(told["hint"]), fallback)
    except (ValueError, KeyError, TypeError):
        return fallback(f"{peer} answered with HTTP status {status}")
