"""How paths of the block store are written: `mr:///a/b`, `mr://a/b` and, where nothing local can be meant, `/a/b`."""

from __future__ import annotations

from minireduce.core.storage.drafts import SCHEME
from minireduce.errors import RequestError

GLOB_SIGNS = frozenset("*?[")


def is_store_path(text: str) -> bool:
    """Whether `text` names something in the block store wherever local names are meant too."""
    return text.startswith(SCHEME)


def parse_store_path(text: str) -> str:
    """`text` as an absolute path. Raises RequestError for a relative one."""
    if is_store_path(text):
        text = "/" + text.removeprefix(SCHEME).lstrip("/")
    if not text.startswith("/"):
        raise RequestError(f"{text!r} is no path of the block store", hint=f"paths begin with a slash: /{text}")
    names = [name for name in text.split("/") if name]
    return "/" + "/".join(names)


def name_of(path: str) -> str:
    """The last name of a path; empty for the root."""
    return path.rpartition("/")[2]


def join(directory: str, name: str) -> str:
    """`name` within `directory`."""
    return f"{directory.rstrip('/')}/{name}"


def has_glob(path: str) -> bool:
    """Whether a path stands for all that match it."""
    return any(sign in GLOB_SIGNS for sign in path)
