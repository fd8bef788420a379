"""What is lost for good is told by name, and never shows as wrong bytes."""

from __future__ import annotations

from minireduce.testing import detection
from minireduce.testing.detection import Loss, run_seed
from minireduce.testing.planted import PLANTED
from minireduce.wire.packets import crc_of
from minireduce.worker import replica_files


def test_thirty_seeds_hold_and_each_loss_is_told(capsys):
    status = detection.main(["--seeds", "0:30"])
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
    errors = [found.error for found in map(run_seed, range(30)) if found.loss is Loss.REPLICAS_DAMAGED]
    assert any("Wrong" in error for error in errors), errors


def test_a_master_that_goes_on_with_damaged_metadata_is_found():
    bug = next(bug for bug in PLANTED if bug.name == "stale epoch accepted")
    with bug.planted():
        errors = [found.error for found in map(run_seed, range(12)) if found.loss in {Loss.LOG_CUT, Loss.LOG_DAMAGED}]
    assert any("Wrong" in error for error in errors), errors
