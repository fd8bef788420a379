"""Both ends of a session over a stream that loses, repeats and reorders."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.core.link import Link, Message


def take(link: Link[str], message: Message[str], now: float) -> tuple[str, ...]:
    return message.items if link.received(message.number, message.ack, now) else ()


def test_pushed_items_share_one_message_and_are_sent_once():
    link = Link[str]()
    link.push("a", "b")
    link.push("c")
    assert link.due(0.0) == [Message(1, 0, ("a", "b", "c"))]
    assert link.due(0.5) == []


def test_a_message_holds_at_most_its_limit_of_items():
    link = Link[str](items_per_message_max=2)
    link.push("a", "b", "c")
    assert [message.items for message in link.due(0.0)] == [("a", "b"), ("c",)]


def test_what_is_not_acknowledged_is_sent_again_after_the_timeout_and_taken_in_once():
    sender, receiver = Link[str](resend_after_s=2.0), Link[str]()
    sender.push("a")
    (first,) = sender.due(0.0)
    (again,) = (message for message in sender.due(2.0) if message.number)
    assert again == first
    assert take(receiver, first, 2.0) == ("a",)
    assert take(receiver, again, 2.0) == ()


def test_new_messages_do_not_put_off_the_repetition_of_older_ones():
    link = Link[str](resend_after_s=2.0)
    link.push("a")
    link.due(0.0)
    link.push("b")
    assert [message.number for message in link.due(1.5)] == [2]
    assert [message.number for message in link.due(2.0)] == [1, 2]


def test_each_repetition_waits_longer_than_the_one_before_until_something_new_is_acknowledged():
    link = Link[str](resend_after_s=2.0)
    link.push("a")
    times = [now for now in range(0, 40, 2) if any(message.number for message in link.due(float(now)))]
    assert times == [0, 2, 6, 14, 22, 30, 38]
    link.received(0, 1, 39.0)
    link.push("b")
    times = [now for now in range(40, 48, 2) if any(message.number for message in link.due(float(now)))]
    assert times == [40, 42, 46]


def test_who_is_heard_again_after_a_silence_is_sent_at_once_what_waited_longer_and_longer():
    link = Link[str](resend_after_s=2.0)
    link.received(0, 0, 0.0)
    link.push("a")
    for now in (0.0, 2.0, 6.0):
        assert [message.number for message in link.due(now)] == [1]
    link.received(0, 0, 7.0)
    assert [message.number for message in link.due(7.0)] == [1]
    link.received(0, 0, 8.0)
    assert not any(message.number for message in link.due(8.0))
    assert [message.number for message in link.due(11.0)] == [1]


def test_an_acknowledged_message_is_forgotten():
    link = Link[str]()
    link.push("a")
    link.due(0.0)
    link.received(0, 1, 0.1)
    assert link.unacknowledged == ()
    assert all(message.number == 0 for message in link.due(60.0))


def test_an_acknowledgement_of_what_was_never_sent_is_ignored():
    link = Link[str]()
    link.push("a")
    link.due(0.0)
    link.received(0, 7, 0.1)
    assert link.unacknowledged == ("a",)


def test_a_message_behind_a_gap_is_dropped_until_the_gap_is_filled():
    receiver = Link[str]()
    assert not receiver.received(2, 0, 0.0)
    assert receiver.received(1, 0, 0.0)
    assert receiver.received(2, 0, 0.0)
    assert receiver.received_number == 2


def test_an_acknowledgement_waits_a_moment_for_company():
    link = Link[str](ack_after_s=0.1)
    link.due(0.0)
    link.received(1, 0, 0.2)
    assert link.due(0.25) == []
    assert link.due(0.31) == [Message(0, 1)]
    assert link.due(0.35) == []


def test_a_repeated_message_is_acknowledged_again():
    link = Link[str]()
    link.received(1, 0, 0.0)
    link.due(0.2)
    link.received(1, 0, 0.3)
    assert link.due(0.5) == [Message(0, 1)]


def test_silence_is_broken_by_a_heartbeat():
    link = Link[str](heartbeat_interval_s=1.0)
    assert link.due(0.0) == [Message(0, 0)]
    assert link.due(0.9) == []
    assert link.due(1.0) == [Message(0, 0)]


def test_the_window_bounds_what_is_under_way():
    link = Link[str](items_per_message_max=1, window_messages_max=2)
    link.push("a", "b", "c")
    assert [message.number for message in link.due(0.0)] == [1, 2]
    link.received(0, 1, 0.1)
    assert [message.number for message in link.due(0.1)] == [3]


def test_what_is_not_acknowledged_can_be_listed_in_order():
    link = Link[str](items_per_message_max=1, window_messages_max=2)
    link.push("a", "b", "c")
    link.due(0.0)
    link.received(0, 1, 0.1)
    assert link.unacknowledged == ("b", "c")


def test_a_resumed_session_sends_the_rest_at_once():
    link = Link[str](items_per_message_max=1)
    link.push("a", "b", "c")
    link.due(0.0)
    link.resume(1, 0.5)
    assert [message.number for message in link.due(0.5)] == [2, 3]


@given(seed=st.integers(0, 2**32), count=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_every_item_arrives_once_and_in_order_whatever_the_stream_does(seed: int, count: int):
    rng = Random(seed)
    ends = (Link[str](items_per_message_max=3), Link[str](items_per_message_max=3))
    wire: list[tuple[int, Message[str]]] = []
    taken: tuple[list[str], list[str]] = ([], [])
    for index in range(count):
        ends[0].push(f"up {index}")
        ends[1].push(f"down {index}")
    now = 0.0
    faults_until = 50.0
    while now < 200.0:
        now += rng.random()
        for sender in (0, 1):
            for message in ends[sender].due(now):
                copies = rng.choice((0, 1, 1, 2)) if now < faults_until else 1
                wire.extend([(1 - sender, message)] * copies)
        if now < faults_until:
            rng.shuffle(wire)
        for receiver, message in wire[: rng.randrange(1, 6)]:
            taken[receiver].extend(take(ends[receiver], message, now))
        del wire[:5]
    assert taken == ([f"down {index}" for index in range(count)], [f"up {index}" for index in range(count)])
    assert ends[0].unacknowledged == ends[1].unacknowledged == ()
