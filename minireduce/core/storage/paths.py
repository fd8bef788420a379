"""How paths of the block store are written: absolute, `/a/b`, without `.`, `..` and empty names.

Elsewhere: the `mr://` spelling (`client.store_paths`), and what the names stand for (`namespace`).
"""

from __future__ import annotations

from minireduce.errors import RequestError

NAME_BYTES_MAX = 255
DEPTH_MAX = 128

Names = tuple[str, ...]


def parse_path(path: str) -> Names:
    """The names in `path`, none for the root. Raises RequestError."""
    if not path.startswith("/"):
        raise RequestError(f"{path!r} is no path of the block store", hint="paths begin with a slash, such as /logs/a")
    names = tuple(name for name in path.split("/") if name)
    if len(names) > DEPTH_MAX:
        raise RequestError(f"{path[:80]!r}… is {len(names)} directories deep, {DEPTH_MAX} are allowed")
    for name in names:
        _check_name(path, name)
    return names


def _check_name(path: str, name: str) -> None:
    if name in {".", ".."}:
        raise RequestError(f"{path!r} holds {name!r}", hint="write the path without it")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise RequestError(f"{path!r} holds a name that is no text", hint="names are UTF-8") from None
    if size > NAME_BYTES_MAX or any(sign < " " or sign == "\x7f" for sign in name):
        raise RequestError(
            f"{path[:80]!r} holds a name that is too long or holds control characters",
            hint=f"a name has at most {NAME_BYTES_MAX} bytes",
        )
