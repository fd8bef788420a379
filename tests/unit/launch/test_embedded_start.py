"""What keeps an embedded cluster from starting."""

from __future__ import annotations

import errno
import os
import tempfile

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
