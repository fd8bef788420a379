"""Outputs in the block store: what is noticed before a job runs."""

from __future__ import annotations

import pytest

from minireduce.client.inputs import Inputs
from minireduce.client.outputs import StoredOutput
from minireduce.core.storage.views import FileStatus
from minireduce.errors import AlreadyExists, NotFound, RequestError


class Store:
    """Holds the file `/f` and the directory `/d`."""

    def stat(self, path: str) -> FileStatus:
        if path not in {"/f", "/d"}:
            raise NotFound(path)
        return FileStatus(path, 2, path == "/d", 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/", RequestError, "root"),
        ("/d", AlreadyExists, "exists"),
        ("/f", AlreadyExists, "no directory"),
        ("/f/out", RequestError, "/f is a file"),
        ("/f/deep/out", RequestError, "/f is a file"),
    ],
)
def test_an_output_that_could_not_be_published_is_refused(path, error, words):
    with pytest.raises(error, match=words):
        StoredOutput(path, Store()).check(overwrite=False)


@pytest.mark.parametrize("path", ["/out", "/d/out", "/missing/deep/out"])
def test_an_output_that_can_be_published_is_not(path):
    StoredOutput(path, Store()).check(overwrite=False)


@pytest.mark.parametrize("path", ["/in/out", "/in/deep/out"])
def test_an_output_inside_an_input_directory_is_refused(path):
    with pytest.raises(RequestError, match="lies inside the input mr:///in"):
        StoredOutput(path, Store()).check_apart(Inputs((), 0, stored_directories=("/in",)))
    StoredOutput("/inner/out", Store()).check_apart(Inputs((), 0, stored_directories=("/in",)))
