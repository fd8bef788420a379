"""The two long-lived secrets of a cluster, and the file that holds them.

The client's token lets its holder submit jobs and use files; the worker's token makes a machine part of the cluster,
and from it the narrow tokens of `scopes` are derived. Each is 256 random bits behind a prefix that names its kind, so
that the wrong one is recognised before it is sent, and a leaked one by whoever searches for it.

A token file holds one token a line: client, then worker where the first master made it; the worker's alone on a machine
that joined; the client's alone on one that only submits. It is private (`private_files`), as a secret that others may
have seen is none.

Invariants: of two masters that start at once, one makes the file and both use it. No token stands in a repr or in the
text of an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from minireduce.auth import private_files
from minireduce.config import Configuration
from minireduce.errors import Refused, RequestError
from minireduce.frozen import dataclass

CLIENT_PREFIX = "mrc_"
WORKER_PREFIX = "mrw_"
TOKEN_BYTES = 32
_TEXT_LENGTH = 43  # 32 bytes in base64url without padding
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a process holds: both tokens on a master, one of them elsewhere."""

    client: str | None = field(default=None, repr=False)
    worker: str | None = field(default=None, repr=False)

    def require_client(self) -> str:
        """The client's token. Raises Refused where only a worker's is held."""
        if self.client is None:
            raise Refused("this machine holds no client token", hint="copy the first line of the master's token file")
        return self.client

    def require_worker(self) -> str:
        """The worker's token. Raises Refused where only a client's is held."""
        if self.worker is None:
            raise Refused("this machine holds no worker token", hint="join with what `minireduce token --join` prints")
        return self.worker


def generate() -> Tokens:
    """Fresh tokens for a new cluster."""
    return Tokens(
        client=CLIENT_PREFIX + secrets.token_urlsafe(TOKEN_BYTES),
        worker=WORKER_PREFIX + secrets.token_urlsafe(TOKEN_BYTES),
    )


def equal(given: str, expected: str | None) -> bool:
    """Whether two tokens are the same, in a time that does not tell how much of them is."""
    if expected is None:
        return False
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def derive_secret(token: str, purpose: str) -> bytes:
    """A secret for one purpose that does not lead back to the token: HKDF-SHA256 (RFC 5869), one block."""
    extracted = hmac.digest(b"minireduce", token.encode(), hashlib.sha256)
    return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


def default_path() -> Path:
    """Where tokens are when nobody says otherwise."""
    return Path.home() / ".config" / "minireduce" / "token"


def path_of(configuration: Configuration) -> Path:
    """The token file that these settings mean, existing or not."""
    return configuration.settings.token_file or default_path()


def find(configuration: Configuration, environment: Mapping[str, str] | None = None) -> Tokens:
    """The tokens of a client or worker: `--token-file`, else `MINIREDUCE_TOKEN`, else the file. Raises Refused."""
    held = (os.environ if environment is None else environment).get("MINIREDUCE_TOKEN", "").strip()
    if held and not configuration.origins["token_file"].startswith("--"):
        return parse(held, origin="MINIREDUCE_TOKEN")
    return load(path_of(configuration))


def load_or_create(path: Path) -> Tokens:
    """The tokens of a master: those in the file, made now if there is none. Raises Refused and RequestError."""
    try:
        if not path.exists():
            # Where another master was quicker, its tokens are the cluster's.
            with contextlib.suppress(FileExistsError):
                store(path, generate())
        return _load_both(path)
    except OSError as cause:
        raise RequestError(
            f"the token file {path} can be neither read nor made: {cause.strerror}",
            hint="name one in a directory of your own with --token-file",
        ) from cause


def _load_both(path: Path) -> Tokens:
    tokens = _read(path)
    if tokens.client is None or tokens.worker is None:
        raise Refused(
            f"{path} holds one token, and a master needs both",
            hint="this machine joined another cluster; give the master its own --token-file",
        )
    return tokens


def _read(path: Path) -> Tokens:
    return parse(private_files.read(path).decode("ascii", "replace"), origin=str(path))


def load(path: Path) -> Tokens:
    """What the token file at `path` holds. Raises Refused."""
    try:
        return _read(path)
    except FileNotFoundError:
        raise Refused(
            f"there is no token file at {path}",
            hint="the first master makes it; elsewhere name a copy with --token-file or set MINIREDUCE_TOKEN",
        ) from None
    except OSError as cause:
        raise Refused(f"the token file {path} cannot be read: {cause.strerror}") from cause


def store(path: Path, tokens: Tokens) -> None:
    """Write a token file, whole and for its owner's eyes only. Raises FileExistsError if there is one."""
    lines = "".join(f"{token}\n" for token in (tokens.client, tokens.worker) if token is not None)
    private_files.create(path, lines.encode())


def parse(text: str, *, origin: str) -> Tokens:
    """The tokens in `text`, one a line, in the order client, worker. Raises Refused, which never shows them."""
    lines = text.split()
    kinds = [_kind_of(line) for line in lines]
    if kinds not in ([CLIENT_PREFIX, WORKER_PREFIX], [CLIENT_PREFIX], [WORKER_PREFIX]):
        raise Refused(
            f"{origin} holds no tokens of minireduce",
            hint=f"expected a line that begins with {CLIENT_PREFIX}, one with {WORKER_PREFIX}, or both in this order",
        )
    by_kind = dict(zip(kinds, lines, strict=True))
    return Tokens(client=by_kind.get(CLIENT_PREFIX), worker=by_kind.get(WORKER_PREFIX))


def _kind_of(line: str) -> str | None:
    prefix, rest = line[:4], line[4:]
    if prefix in {CLIENT_PREFIX, WORKER_PREFIX} and len(rest) == _TEXT_LENGTH and _ALPHABET.issuperset(rest):
        return prefix
    return None
