"""What is kept of a text, and which pieces of it are handed on while it grows."""

from __future__ import annotations

import pytest

from minireduce.core.texts import left_out_note
from minireduce.worker.printing import Printed


def test_a_short_text_is_kept_whole():
    printed = Printed(100)
    for _ in range(10):
        printed.add(b"0123456789")
    assert printed.text() == b"0123456789" * 10


@pytest.mark.parametrize("step", [1, 7, 64, 1000])
def test_of_a_long_text_the_beginning_and_the_end_are_kept_and_the_rest_is_counted(step):
    whole = bytes(number % 251 for number in range(3000))
    printed = Printed(100)
    for begin in range(0, len(whole), step):
        printed.add(whole[begin : begin + step])
    assert printed.text() == whole[:50] + left_out_note(2900).encode() + whole[-50:]


def test_the_beginning_is_handed_on_as_it_comes_and_once():
    printed = Printed(1000)
    printed.add(b"abc")
    assert printed.has_head_to_hand_on(10)
    assert list(printed.pieces(10, 5)) == [(0, b"abc", False)]
    assert not printed.has_head_to_hand_on(10)
    assert list(printed.pieces(10, 5)) == []
    printed.add(b"def")
    assert list(printed.pieces(10, 5)) == [(3, b"def", False)]


@pytest.mark.parametrize("kept", [40, 1000])
def test_of_what_follows_the_beginning_the_latest_end_is_handed_on(kept):
    printed = Printed(kept)
    printed.add(b"0123456789abc")
    assert list(printed.pieces(10, 5)) == [(0, b"0123456789", False), (10, b"abc", True)]
    printed.add(b"de")
    assert list(printed.pieces(10, 5)) == [(10, b"abcde", True)]
    printed.add(b"f" * 100 + b"ghi")
    assert not printed.has_head_to_hand_on(10)
    assert list(printed.pieces(10, 5)) == [(113, b"ffghi", True)]
    assert list(printed.pieces(10, 5)) == []
