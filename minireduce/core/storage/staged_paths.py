"""How paths are written of input that a client uploads for one job alone: `/.staging/KEY` and its path on the client.

KEY is that of the job's submission. The local path is part of the stored one, so people and user code are told the name
that they know (`origin_of`), and no second list of names can disagree with the files. What a name of the store cannot
hold, control characters and bytes that are no text, is written as `%` and two hexadecimal digits, and so is `%`.

Elsewhere: when what lies there goes (`staging`). This one is imported by tasks, and so imports little.
"""

from __future__ import annotations

import re

STAGING = ".staging"

_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


def staging_path(key: str) -> str:
    """The directory of what is uploaded for the submission `key`; "" for a key that cannot be the name of one."""
    return f"/{STAGING}/{key}" if key.isascii() and key.isalnum() else ""


def staged_path(key: str, origin: str) -> str:
    """Where the local file `origin`, an absolute path, is stored."""
    return staging_path(key) + "".join(map(_escaped, origin))


def origin_of(path: str) -> str:
    """The local path of an uploaded file; any other path as it is."""
    _, top, _, *names = [*path.split("/", 3), "", ""][:4]
    if top != STAGING or not names[0]:
        return path
    escaped = f"/{names[0]}".encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), escaped).decode("utf-8", "surrogateescape")


def _escaped(sign: str) -> str:
    if sign == "%" or sign < " " or sign == "\x7f" or "\ud800" <= sign <= "\udfff":
        return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogateescape"))
    return sign
