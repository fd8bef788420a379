"""Modes as people type them, against what the `chmod` of this machine makes of the same."""

from __future__ import annotations

import subprocess

import pytest

from minireduce.cli.modes import mode_after
from minireduce.errors import RequestError

TYPED = ("640", "u+x", "go-w", "a=r", "=rw", "+x", "u=rwx,g=rx,o=", "a+X", "ug-r,o+w", "u+X,g=X", "o-rwx")


@pytest.mark.parametrize("is_directory", [False, True])
@pytest.mark.parametrize("typed", TYPED)
def test_a_mode_becomes_what_chmod_makes_of_it(tmp_path, typed, is_directory):
    place = tmp_path / "it"
    if is_directory:
        place.mkdir()
    else:
        place.touch()
    for before in (0o644, 0o755, 0o600, 0o777):
        place.chmod(before)
        subprocess.run(["chmod", typed, place], check=True, umask=0)
        assert oct(mode_after(typed, before, is_directory=is_directory)) == oct(place.stat().st_mode & 0o777)


@pytest.mark.parametrize("typed", ["", "rw", "u+q", "x+r", "u+x;g+x", "8", "u+x,", "-1"])
def test_what_is_no_mode_is_refused(typed):
    with pytest.raises(RequestError, match="is no mode"):
        mode_after(typed, 0o644, is_directory=False)
