"""What keeps an embedded cluster from starting, and what would only make that slower."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from minireduce.errors import RequestError
from minireduce.launch.embedded import EmbeddedCluster


def test_a_disk_without_room_for_a_temporary_directory_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**_options: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(RequestError, match="No space left on device") as refused:
        EmbeddedCluster()
    assert "TMPDIR" in str(refused.value.hint)


SUBMITTING = "minireduce.cli.submit, minireduce.launch.submission, minireduce.attempt.load, minireduce.client.result"
PUBLISHING = "minireduce.client.jobs, minireduce.client.parts, minireduce.client.publish, minireduce.client.job_spec"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "minireduce.cli.main",
            "minireduce.core.messages minireduce.core.task_data numpy pyarrow grpc msgpack sqlalchemy asyncio aiohttp",
        ),
        (
            "minireduce.launch.embedded",
            "minireduce.core.messages minireduce.core.task_data numpy pyarrow grpc sqlalchemy asyncio aiohttp",
        ),
        (f"{SUBMITTING}, {PUBLISHING}", "numpy pyarrow sqlalchemy aiohttp cryptography http.client email"),
        ("minireduce.launch.worker_main", "asyncio grpc minireduce.attempt.zygote minireduce.core.messages"),
        (
            "minireduce.launch.worker_serving, minireduce.worker.whole",
            "numpy pyarrow grpc aiohttp minireduce.attempt.task",
        ),
        ("minireduce.launch.master_serving, minireduce.master.server", "numpy pyarrow sqlalchemy aiohttp"),
    ],
)
def test_a_process_imports_no_more_than_it_needs_so_far(modules: str, heavy: str) -> None:
    code = f"import sys, {modules}; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_keeps_both_daemons_from_starting_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grpc.py").write_text("raise RuntimeError('grpc is broken here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cluster = EmbeddedCluster()
    with pytest.raises(RequestError, match=r"worker-1 ended at its start with status 1: .*grpc is broken here"):
        assert cluster.address
