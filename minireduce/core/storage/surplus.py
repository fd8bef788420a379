"""Remove good replicas that are too many: only once their holders have been asked, and have answered.

A worker that died a moment ago still counts as live, and with it what it holds. A replica that is given up because of
that one may be the last. So whoever is thought to have a good replica of a block with too many is asked first, which
costs it no look at its disk; among those that answer, what is more than `wanted` goes. An answer shows that its worker
lived, with its replica, after the question was put. Answers to an older question count no longer, nor do any once a
worker has come, gone, or is to be done without.

Invariants: a replica goes only while `wanted` others have answered the same question, all within `worker_lost_s`. Who
does not answer keeps its replica.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import ConfirmReplica, ReplicaConfirmed
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.placement import PlacementPolicy
from minireduce.core.storage.places import Place
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId


@dataclass(slots=True)
class _Question:
    """Who was asked for a replica since `asked_at_s`, and whether it has answered."""

    number: int
    generation: int
    asked_at_s: float
    answered: dict[WorkerId, bool] = field(default_factory=dict)


class Surplus:
    """The blocks with too many replicas, and what was asked about them."""

    def __init__(self, settings: ClusterSettings, blocks: Blocks, policy: PlacementPolicy) -> None:
        self._settings = settings
        self._blocks = blocks
        self._policy = policy
        self._questions: dict[int, _Question] = {}  # by block
        self._number = 0

    def answered(self, worker: WorkerId, answer: ReplicaConfirmed, now: float) -> None:
        """A worker still has the replica that it was asked for. One that took too long makes all be asked again."""
        question = self._questions.get(answer.replica.block_id)
        if question is not None and question.number == answer.question and worker in question.answered:
            question.answered[worker] = True
            if now - question.asked_at_s > self._settings.worker_lost_s:
                self.drop(answer.replica.block_id)
            self._blocks.unsettle(answer.replica.block_id)

    def forget_worker(self, worker: WorkerId) -> None:
        """What was asked while this worker stood otherwise is to be asked again."""
        self._forget([block_id for block_id, question in self._questions.items() if worker in question.answered])

    def forget_all(self) -> None:
        """Nobody could answer for a while."""
        self._forget(list(self._questions))

    def _forget(self, block_ids: Sequence[int]) -> None:
        for block_id in block_ids:
            del self._questions[block_id]
            self._blocks.unsettle(block_id)

    def drop(self, block_id: int) -> None:
        """The block has none too many, or is gone."""
        self._questions.pop(block_id, None)

    def remove(
        self, block: Block, holders: Mapping[WorkerId, Place], moving: WorkerId, now: float, effects: Effects
    ) -> bool:
        """Remove what is too many among `holders`, that of `moving` first; False while answers are waited for."""
        if len(holders) <= block.wanted:
            self.drop(block.id)
            return True
        question = self._ask(block, holders, now, effects)
        sure = [worker for worker in holders if question.answered[worker]]
        is_enough = len(sure) > block.wanted
        while len(sure) > block.wanted:
            going = moving if moving in sure else self._policy.choose_surplus([holders[each] for each in sure]).worker
            sure.remove(going)
            del question.answered[going]
            self._blocks.ask_removal(block, going, effects)
        return is_enough

    def _ask(self, block: Block, holders: Mapping[WorkerId, Place], now: float, effects: Effects) -> _Question:
        """The question that is open about a block, put to those of `holders` to whom it was not."""
        question = self._questions.get(block.id)
        if question is None or question.generation != block.generation:
            self._number += 1
            question = self._questions[block.id] = _Question(self._number, block.generation, now)
        for worker in holders:
            if worker not in question.answered:
                question.answered[worker] = False
                effects.command(worker, ConfirmReplica(block.replica, question.number))
        return question
