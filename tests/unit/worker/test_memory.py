from __future__ import annotations

from pathlib import Path

import psutil

from minireduce.worker.memory import machine_memory_bytes


def test_a_control_group_can_only_lower_the_memory(tmp_path: Path):
    total = psutil.virtual_memory().total
    limit = tmp_path / "limit"
    for text, expected in (("1048576\n", 1 << 20), ("max\n", total), (str(1 << 62), total)):
        limit.write_text(text)
        assert machine_memory_bytes((tmp_path / "missing", limit)) == expected
