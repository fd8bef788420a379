"""What is lost for good is told by name, and never shows as wrong bytes."""

from __future__ import annotations

import pytest

from minireduce.checksums import crc_of
from minireduce.testing import detection
from minireduce.testing.detection import Loss, loss_of, run_seed
from minireduce.testing.planted import PLANTED
from minireduce.worker import replica_files

pytestmark = pytest.mark.timeout(600)


def error_of_first(losses: set[Loss]) -> str:
    """What the first of forty seeds with such a loss says that does not hold; "" when all do."""
    seeds = (seed for seed in range(40) if loss_of(seed) in losses)
    return next((error for error in (run_seed(seed).error for seed in seeds) if error.startswith("Wrong")), "")


def test_twenty_seeds_hold_and_each_loss_is_told(capsys):
    status = detection.main(["--seeds", "0:20"])
    said = capsys.readouterr().out
    assert status == 0, said
    assert said.count("told") == len(Loss)


def test_a_worker_that_does_not_verify_what_it_reads_is_found(monkeypatch):
    def believed(replica, data, sums, begin, count):
        del replica, sums
        data.seek(begin)
        packet = data.read(count)
        yield crc_of(packet)
        yield packet

    monkeypatch.setattr(replica_files, "verified", believed)
    assert error_of_first({Loss.REPLICAS_DAMAGED})


def test_a_master_that_goes_on_with_damaged_metadata_is_found():
    bug = next(bug for bug in PLANTED if bug.name == "stale epoch accepted")
    with bug.planted():
        assert error_of_first({Loss.LOG_CUT, Loss.LOG_DAMAGED})
