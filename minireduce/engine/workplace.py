"""Where one attempt at a task works, and within what: what a map, a reduce and all that they call have in common.

Whoever runs tasks makes one for each attempt; nothing in it depends on what the task is.
"""

from __future__ import annotations

from pathlib import Path

from minireduce.api.step import Step
from minireduce.disk import Disk
from minireduce.engine.bad_records import Care
from minireduce.engine.context import TaskContext
from minireduce.engine.kinds import Kinds
from minireduce.engine.part import PartForm, PartWriter
from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Workplace:
    """Files of the attempt lie in `directory`. A part gets the name and the form that stand here."""

    directory: Path | str  # a text where it comes as one: a path costs as much as a small task
    part_name: str
    form: PartForm
    memory_limit_bytes: int
    context: TaskContext
    disk: Disk
    care: Care | None = None
    index: int = 0  # the number of the task among those of its kind
    writes_text: bool = (
        False  # whether the job does, so that what is given aside on the way there must be able to be text
    )

    @property
    def passes_bad(self) -> bool:
        """Whether readers hand on what they cannot read, so that it is found to be bad where records are computed."""
        return self.care is not None and not self.care.is_plain

    def part(self, step: Step, role: str, kinds: Kinds) -> PartWriter:
        """The part that a `role`, map or reduce, writes; its keys are held to `kinds`."""
        return PartWriter(
            f"{self.directory}/{self.part_name}",
            self.form,
            role=role,
            kinds=kinds,
            disk=self.disk,
            form=step.output,
            aside=self.context.aside,
        )
