"""minireduce: MapReduce for Python, from one file on a laptop to a cluster of machines that fail.

Names load when they are first used, so that `import minireduce` and `minireduce --help` stay instant.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__: list[str] = []


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'minireduce' has no attribute {name!r}")
