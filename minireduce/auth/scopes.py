"""Narrow tokens: one thing that may be done, until when, signed by whoever holds the secret.

The master makes them and block servers check them without asking, as both derive the same secret from the worker's
token. Whoever holds one can do what it names and nothing else; it cannot be widened, and it ends by itself.

A scoped token is text: `mrs_KIND.FIELDS.EXPIRY.MAC`, the fields in the order of the class, whole numbers in decimal,
the MAC being HMAC-SHA256 over all before its dot, in base64url. There is one spelling for each scope, so equal scopes
are equal tokens, and a log line shows what a token is for (with the MAC cut off).

Invariants: nothing of a token is looked at before its MAC holds, bar its length; MACs are compared in constant time.
Elsewhere: which door wants which scope (`policy`), how long they live (whoever makes them).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from enum import StrEnum

from minireduce.auth.tokens import derive_secret
from minireduce.errors import Refused
from minireduce.frozen import dataclass
from minireduce.ids import JobId, is_job_id

PREFIX = "mrs_"
LENGTH_MAX = 256
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class BlockMode(StrEnum):
    """What may be done to a block's replica."""

    READ = "r"
    WRITE = "w"


@dataclass(frozen=True, slots=True)
class JobReads:
    """Read what belongs to one job: its input blocks, its map outputs, its parts, its logs."""

    job: JobId
    expires_at_s: int


@dataclass(frozen=True, slots=True)
class BlockAccess:
    """Read or write one block, of this generation and no other."""

    block_id: int
    generation: int
    mode: BlockMode
    expires_at_s: int


@dataclass(frozen=True, slots=True)
class Login:
    """See the pages as the client who gave its token at `/login`."""

    expires_at_s: int


Scope = JobReads | BlockAccess | Login


def cluster_secret(worker_token: str) -> bytes:
    """The secret behind `JobReads` and `BlockAccess`, which the master and every worker can derive."""
    return derive_secret(worker_token, "scopes of jobs and blocks")


def login_secret(client_token: str) -> bytes:
    """The secret behind `Login`, which no worker can derive."""
    return derive_secret(client_token, "logins")


def make(secret: bytes, scope: Scope) -> str:
    """The token for `scope`."""
    if isinstance(scope, JobReads) and not is_job_id(scope.job):
        raise ValueError(f"{scope.job!r} is no job id")
    signed = _spell(scope)
    return f"{signed}.{_mac(secret, signed)}"


def check(secret: bytes, token: str, now: float) -> Scope:
    """The scope of `token`, if it was made with `secret` and holds at `now` (seconds since 1970). Raises Refused."""
    if len(token) > LENGTH_MAX or not token.isascii():
        raise Refused("this is no scoped token")
    signed, _, mac = token.rpartition(".")
    if not hmac.compare_digest(mac.encode(), _mac(secret, signed).encode()):
        raise Refused("the scoped token was not made by this cluster", hint="ask the master for a new one")
    scope = _read(signed)
    if scope is None or _spell(scope) != signed:
        raise Refused("the scoped token is of a kind that this version does not know")
    if now >= scope.expires_at_s:
        raise Refused("the scoped token has expired", hint="ask the master for a new one")
    return scope


def _mac(secret: bytes, signed: str) -> str:
    digest = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _spell(scope: Scope) -> str:
    match scope:
        case JobReads(job, expires_at_s):
            fields = f"job.{job}.{expires_at_s}"
        case BlockAccess(block_id, generation, mode, expires_at_s):
            fields = f"block.{block_id}.{generation}.{mode}.{expires_at_s}"
        case Login(expires_at_s):
            fields = f"login.{expires_at_s}"
    return PREFIX + fields


def _read(signed: str) -> Scope | None:
    """What `_spell` wrote; None for what is no scope."""
    match signed.removeprefix(PREFIX).split("."):
        case ["job", job, expiry] if is_job_id(job) and _NUMBER.fullmatch(expiry):
            return JobReads(job, int(expiry))
        case ["block", block_id, generation, ("r" | "w") as mode, expiry] if all(
            _NUMBER.fullmatch(number) for number in (block_id, generation, expiry)
        ):
            return BlockAccess(int(block_id), int(generation), BlockMode(mode), int(expiry))
        case ["login", expiry] if _NUMBER.fullmatch(expiry):
            return Login(int(expiry))
    return None
