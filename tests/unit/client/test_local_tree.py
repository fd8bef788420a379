"""What of a local directory is stored."""

from __future__ import annotations

import os

import pytest

from minireduce.client.local_tree import local_tree
from minireduce.errors import RequestError


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("x")
    return tmp_path / "tree"


def test_links_stand_for_what_they_name(tree):
    (tree / "directory").symlink_to("sub")
    (tree / "file").symlink_to("sub/file")
    assert [(place, is_directory) for _, place, is_directory in local_tree(tree, "/t")] == [
        ("/t/directory", True),
        ("/t/directory/file", False),
        ("/t/file", False),
        ("/t/sub", True),
        ("/t/sub/file", False),
    ]


def test_a_link_back_upwards_is_refused_and_never_followed_for_ever(tree):
    (tree / "sub" / "up").symlink_to("..")
    with pytest.raises(RequestError, match="leads back"):
        list(local_tree(tree, "/t"))


def test_a_link_to_nothing_is_refused(tree):
    (tree / "broken").symlink_to("nowhere")
    with pytest.raises(RequestError, match="cannot be read"):
        list(local_tree(tree, "/t"))


def test_a_pipe_is_refused_and_never_waited_for(tree):
    os.mkfifo(tree / "pipe")
    with pytest.raises(RequestError, match="neither a file nor a directory"):
        list(local_tree(tree, "/t"))


def test_a_name_that_the_store_cannot_hold_is_refused_before_anything_is_stored(tree):
    (tree / os.fsdecode(b"\xff")).touch()
    with pytest.raises(RequestError, match="no text"):
        list(local_tree(tree, "/t"))
