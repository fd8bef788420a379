"""Which machine this is."""

from __future__ import annotations

import subprocess
import sys

from minireduce.machine import machine_id


def test_two_processes_on_one_machine_agree_on_its_name() -> None:
    other = subprocess.run(
        [sys.executable, "-c", "from minireduce.machine import machine_id; print(machine_id())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == machine_id()
    assert len(machine_id()) == 16
