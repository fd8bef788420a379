"""The release watermark: nothing is seen before what it rests on is durable, and nothing overtakes."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from minireduce.master.watermark import Watermark


def test_what_rests_on_nothing_is_released_at_once():
    seen = []
    Watermark().hold(partial(seen.append, "a"))
    assert seen == ["a"]


def test_a_read_after_a_commit_waits_for_it_too():
    seen = []
    watermark = Watermark()
    watermark.begin()
    watermark.hold(partial(seen.append, "reply"))
    watermark.hold(partial(seen.append, "read"))
    assert seen == []
    watermark.durable(1)
    assert seen == ["reply", "read"]


def test_a_later_commit_does_not_hold_back_what_was_decided_before_it():
    seen = []
    watermark = Watermark()
    watermark.begin()
    watermark.hold(partial(seen.append, "first"))
    watermark.begin()
    watermark.hold(partial(seen.append, "second"))
    watermark.durable(1)
    assert seen == ["first"]


@given(st.lists(st.sampled_from(["begin", "hold", "durable"]), max_size=40))
def test_whatever_the_order_releases_follow_their_commits_in_order(steps):
    watermark = Watermark()
    begun = durable = 0
    held = []
    released = []
    for step in steps:
        if step == "begin":
            begun += 1
            watermark.begin()
        elif step == "hold":
            held.append((begun, len(held)))
            watermark.hold(partial(released.append, held[-1]))
        elif durable < begun:
            durable += 1
            watermark.durable(1)
        assert released == [(needed, number) for needed, number in held if needed <= durable]
