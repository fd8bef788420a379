"""What a checker raises."""

from __future__ import annotations

from minireduce.errors import MinireduceError


class Wrong(MinireduceError):
    """A run did what must not be."""
