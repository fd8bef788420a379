"""How `Job.run`, `Job.submit` and `Job.test` reach what lies above `api`, without importing it.

`minireduce/__init__` names the modules here; each is imported when its first call comes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

_modules: dict[str, tuple[str, str]] = {}


def register(name: str, module: str, attribute: str) -> None:
    """Let calls of `name` go to `module.attribute`, imported when needed."""
    _modules[name] = (module, attribute)


def call(name: str) -> Callable[..., Any]:
    """The function that was registered as `name`."""
    module, attribute = _modules[name]
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function
