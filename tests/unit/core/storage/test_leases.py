"""Which writers count as gone."""

from __future__ import annotations

import random

import pytest

from minireduce.core.effects import Effects
from minireduce.core.storage.leases import Leases, WritingFile

LEASE_S = 60.0


@pytest.mark.parametrize("seed", range(20))
def test_the_files_of_a_writer_that_was_not_heard_for_as_long_as_a_lease_lasts_are_told_once(seed):
    chance = random.Random(seed)
    leases, heard, written, now = Leases(LEASE_S), {}, {}, 0.0
    for number in range(300):
        now += chance.choice([0.0, 0.5, 7.0])
        writer = f"w{chance.randrange(12)}"
        match chance.randrange(4):
            case 0:
                leases.open(WritingFile(number, f"/f{number}", writer, str(number), False, 1, 1), now, Effects())
                heard[writer], written[number] = now, writer
            case 1:
                leases.renew(writer, now)
                heard[writer] = now
            case 2:
                leases.shift_deadlines(30.0)
                heard = {each: at + 30.0 for each, at in heard.items()}
                now += 30.0
            case 3:
                gone = {each for each, at in heard.items() if at + LEASE_S < now}
                told = leases.expired(now)
                assert [file.id for file in told] == [file for file, by in written.items() if by in gone]
                for file in told:
                    leases.end(file, Effects())
                    del written[file.id]
                heard = {each: at for each, at in heard.items() if each not in gone}
    assert len(leases) == len(written)
