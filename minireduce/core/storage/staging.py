"""When input that a client uploaded for one job alone is removed; `staged_paths` says where it lies.

A job's staging goes when the job ends. One that no job of now reads, since its client was killed before it submitted,
goes once `staging_keep_s` have passed since the upload began. A job that has not ended keeps its own, however old.
"""

from __future__ import annotations

from collections.abc import Callable

from minireduce.core.effects import Effects
from minireduce.core.storage.inodes import Directory
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.staged_paths import STAGING, staging_path

LOOK_INTERVAL_S = 60.0


class Staging:
    """What is uploaded for jobs, in one namespace. Times are of the wall clock."""

    def __init__(self, namespace: Namespace, kept_s: float) -> None:
        self._namespace = namespace
        self._kept_s = kept_s
        self._look_at = 0.0

    def drop(self, key: str, effects: Effects) -> None:
        """The job of this submission has ended: remove what was uploaded for it, if anything was."""
        path = staging_path(key)
        found = self._namespace.find(path) if path else None
        if found is not None:
            self._namespace.remove(found, effects)

    def expire(self, at: float, is_needed: Callable[[str], bool], effects: Effects) -> None:
        """Remove what has been there for long and belongs to no job that `is_needed` knows by its submission's key."""
        if at < self._look_at:
            return
        self._look_at = at + LOOK_INTERVAL_S
        staging = self._namespace.find(f"/{STAGING}")
        if not isinstance(staging, Directory):
            return
        for name in list(staging.in_order()):
            below = self._namespace.look_up(f"/{STAGING}/{name}")
            if below.modified_at + self._kept_s <= at and not is_needed(name):
                self._namespace.remove(below, effects)
