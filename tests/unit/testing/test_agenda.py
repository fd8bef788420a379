from __future__ import annotations

from minireduce.testing.agenda import Agenda, Node
from minireduce.testing.clock import ManualClock


def run_all(agenda: Agenda) -> None:
    while agenda.next_time() is not None:
        agenda.happen()


def test_entries_happen_in_order_of_time_and_then_of_entering():
    agenda, told = Agenda(ManualClock()), []
    for name, seconds in (("b", 1.0), ("a", 0.5), ("c", 1.0)):
        agenda.after(seconds, None, lambda name=name: told.append((agenda.clock.now(), name)))
    run_all(agenda)
    assert told == [(0.5, "a"), (1.0, "b"), (1.0, "c")]


def test_what_a_process_had_planned_ends_with_it():
    agenda, node, told = Agenda(ManualClock()), Node("n"), []
    node.start()
    agenda.after(1.0, node, lambda: told.append("first life"))
    node.end()
    node.start()
    agenda.after(1.0, node, lambda: told.append("second life"))
    run_all(agenda)
    assert told == ["second life"]
    assert agenda.happened == 1


def test_a_paused_process_does_what_it_missed_in_order_when_it_goes_on():
    agenda, node, told = Agenda(ManualClock()), Node("n"), []
    node.start()
    agenda.pause(node)
    agenda.after(1.0, node, lambda: told.append("early"))
    agenda.after(2.0, node, lambda: told.append("late"))
    agenda.after(5.0, None, lambda: agenda.resume(node))
    run_all(agenda)
    assert told == ["early", "late"]
    assert agenda.clock.now() == 5.0


def test_a_paused_process_that_ends_does_nothing_of_what_it_missed():
    agenda, node, told = Agenda(ManualClock()), Node("n"), []
    node.start()
    agenda.pause(node)
    agenda.after(1.0, node, lambda: told.append("never"))
    run_all(agenda)
    node.end()
    node.start()
    agenda.resume(node)
    run_all(agenda)
    assert told == []
