"""Who makes the tokens that open one block: the shell, since the machine holds no secret and knows no wall clock."""

from __future__ import annotations

from typing import Protocol


class BlockTokens(Protocol):
    """Makes tokens for one generation of one block."""

    def read(self, block_id: int, generation: int) -> str:
        """A token with which this block can be read."""

    def write(self, block_id: int, generation: int) -> str:
        """A token with which this block can be written."""


class NoTokens:
    """For clusters without doors, such as simulated ones."""

    def read(self, block_id: int, generation: int) -> str:
        return f"read-{block_id}-{generation}"

    def write(self, block_id: int, generation: int) -> str:
        return f"write-{block_id}-{generation}"
