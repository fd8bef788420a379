"""Real text for the benches: source files that the machine has, joined until the size is reached.

Taken in order of paths from the running Python's standard library and packages, then from /usr/include, /usr/share and
/usr/local; when that is not enough, the same again. Only files that are valid UTF-8 without NUL, carriage returns and
white space beyond ASCII's common four, so that every peer sees the same lines and words.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (
    ".py",
    ".h",
    ".hpp",
    ".c",
    ".txt",
    ".rst",
    ".md",
    ".go",
    ".rs",
    ".pl",
    ".pm",
    ".html",
    ".json",
    ".xml",
    ".js",
)
FILE_BYTES_MAX = 1 << 20
ODD_SPACE = re.compile("[\0\r\x0b\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


def make_text(path: Path, size_bytes: int) -> None:
    """Write exactly whole files' lines until `size_bytes` are reached; keeps an existing file of that size or more."""
    if path.exists() and path.stat().st_size >= size_bytes:
        return
    sources = list(_sources())
    if not sources:
        sys.exit("no source text found on this machine")
    written = 0
    with path.open("wb") as out:
        for source in itertools.cycle(sources):
            text = source.read_bytes()
            if not text.endswith(b"\n"):
                text += b"\n"
            written += out.write(text)
            if written >= size_bytes:
                return


def _sources() -> Iterator[Path]:
    roots = [sysconfig.get_path("stdlib"), "/usr/include", "/usr/share", "/usr/local"]
    for root in dict.fromkeys(roots):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if name.endswith(SUFFIXES) and path.is_file() and not path.is_symlink() and _is_text(path):
                    yield path


def _is_text(path: Path) -> bool:
    try:
        if not 0 < path.stat().st_size <= FILE_BYTES_MAX:
            return False
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return ODD_SPACE.search(text) is None


if __name__ == "__main__":
    make_text(Path(sys.argv[1]), int(sys.argv[2]) << 20)
