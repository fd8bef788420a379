"""Seeds of the block store, and bugs that they must find."""

from __future__ import annotations

from contextlib import suppress
from unittest.mock import patch

import pytest

from minireduce.core.storage.blocks import Blocks
from minireduce.core.storage.ids import IdSequence
from minireduce.core.storage.leases import Leases
from minireduce.core.storage.repair import Repair
from minireduce.testing.sim_storage import main, run_seed
from minireduce.testing.wrong import Wrong

FAULTS = {
    "block appended",
    "connection broken",
    "container opened ahead and left",
    "disk lost",
    "dead worker taken back",
    "drained worker thrown away",
    "file brought back",
    "file removed",
    "files moved",
    "files packed",
    "last block committed with the close",
    "master started again",
    "orders left waiting",
    "replica damaged",
    "replica suspected",
    "replication changed",
    "suspect verified",
    "request or answer lost",
    "worker died",
    "worker drained",
    "writer died",
    "writer died while it appended",
}


def test_two_hundred_seeds_hold_and_every_fault_strikes(capsys):
    status = main(["--seeds", "0:200"])
    said = capsys.readouterr().out
    assert status == 0, said
    struck = {line.rpartition("  ")[0].strip() for line in said.splitlines()[1:]}
    assert struck == FAULTS


def test_a_seed_repeats_itself():
    assert run_seed(7) == run_seed(7)


def remove_all_but_one(self, block, round_):
    wanted, block.wanted = block.wanted, 1
    with suppress(IndexError):
        real_remove_surplus(self, block, round_)
    block.wanted = wanted


real_remove_surplus = Repair._remove_surplus


BUGS = {
    "replicas of removed files are kept": (IdSequence, "was_given", lambda self, number: False),
    "what a lost worker held still counts": (Blocks, "lose", lambda self, worker: None),
    "damage is not noted": (Blocks, "damage", lambda self, block, worker, **_: None),
    "too many are taken for surplus": (Repair, "_remove_surplus", remove_all_but_one),
    "copies that were cut off are waited for": (Repair, "_expire", lambda self, now: None),
    "leases never end": (Leases, "expired", lambda self, now: []),
}


def run_seeds(seeds: range) -> None:
    for seed in seeds:
        run_seed(seed)


@pytest.mark.parametrize(("owner", "name", "bug"), BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_found(owner, name, bug):
    with patch.object(owner, name, bug), pytest.raises(Wrong):
        run_seeds(range(600))
