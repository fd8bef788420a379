"""Give an attempt the files that came along with its job's program.

They are written when user code first asks for its working directory, so a task that needs none writes none, and go with
that directory. Each attempt has its own, to change as it likes.

Elsewhere: reading them where the job is submitted, and what is refused there (client/shipping.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from minireduce.core.spec import ShippedFile
from minireduce.errors import Corruption, RequestError


def check_files(files: Iterable[ShippedFile]) -> None:
    """Raise Corruption for a file that is not what was submitted, RequestError for one with a path for its name."""
    for file in files:
        if file.name in {"", ".", ".."} or "/" in file.name or "\0" in file.name:
            raise RequestError(f"a file that came along is called {file.name!r}", hint="a name without a directory")
        if hashlib.sha256(file.data).hexdigest() != file.sha256:
            raise Corruption(f"the file {file.name} that came along is not the one that was submitted")


def lay_out(files: Iterable[ShippedFile], directory: Path) -> None:
    """Write the files into this directory, for their owner alone."""
    for file in files:
        path = directory / file.name
        path.write_bytes(file.data)
        path.chmod(0o700 if file.is_executable else 0o600)
