"""A long run of seeds goes on where it was interrupted."""

from __future__ import annotations

from minireduce.testing import night


def test_a_night_goes_on_behind_what_its_state_file_holds(tmp_path):
    state = tmp_path / "night.jsonl"
    first = night.run_night(state, events_min=1, processes=1, seeds=1)
    assert [result["first"] for result in first] == [0]
    with state.open("a") as file:
        file.write('{"first": 1, "seeds"')  # interrupted in mid line
    again = night.run_night(state, events_min=first[0]["events"] + 1, processes=1, seeds=1)
    assert [result["first"] for result in again] == [0, 1]
    assert again[0] == first[0]
    assert night.read_state(state) == again
    assert all(not result["failed"] for result in again)
