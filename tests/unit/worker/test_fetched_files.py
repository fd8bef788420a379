"""What becomes of the outputs of a request whose answer cannot be written to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenes.worker import JOB, reduce_attempt, source

from minireduce.core.work.fetches import Fetched, NotReached, Unreachable
from minireduce.core.work.requests import Fetch
from minireduce.disk import RealDisk
from minireduce.wire.many_outputs import OK, encode_head
from minireduce.worker.fetched_files import TOGETHER_BYTES, CalledOff, FetchedFiles
from minireduce.worker.outputs import Outputs


class FullDisk(RealDisk):
    """Has room for so many files."""

    def __init__(self, files_max: int) -> None:
        self.files_left = files_max

    def create(self, path: Path):
        file = super().create(path)
        self.files_left -= 1
        if self.files_left < 0:
            file.close()
            raise OSError(28, "No space left on device")
        return file


def files_of(tmp_path: Path, reduces: tuple[int, ...], files_max: int = 99) -> tuple[Outputs, FetchedFiles]:
    """What is fetched for these reduces, one output of another map each."""
    outputs = Outputs(tmp_path, FullDisk(files_max))
    return outputs, FetchedFiles(outputs, [fetch_of(index, reduce) for index, reduce in enumerate(reduces)])


def fetch_of(index: int, reduce: int) -> Fetch:
    """Of the output of that map, for that reduce."""
    return Fetch(index + 1, reduce_attempt(reduce), source(index), 0, "token")


def run_of(outputs: Outputs, fetch: Fetch) -> bytes:
    path, offset, length = outputs.fetched_run(fetch.attempt, fetch.source.attempt)
    return Path(path).read_bytes()[offset:][:length]


def answer(*outputs: bytes) -> bytes:
    return b"".join(encode_head(OK, len(data)) + data for data in outputs)


def outcomes(ended) -> list[tuple[int, object]]:
    return [(fetch.number, outcome) for fetch, outcome in ended]


def test_each_output_is_told_with_the_piece_that_ends_it_and_lies_where_it_is_said_to(tmp_path: Path):
    outputs, files = files_of(tmp_path, (0, 0, 1, 0))
    whole = answer(b"one", b"", b"three", b"four")
    told = []
    for place in range(len(whole)):
        ended = files.write((whole[place : place + 1],))
        told.extend((fetch.number, outcome, run_of(outputs, fetch)) for fetch, outcome in ended)
    assert files.are_complete
    assert told == [(1, Fetched(3), b"one"), (2, Fetched(0), b""), (3, Fetched(5), b"three"), (4, Fetched(4), b"four")]
    assert outcomes(files.break_off("the end")) == []


def test_what_ended_in_a_piece_that_could_not_be_written_is_not_forgotten(tmp_path: Path):
    _, files = files_of(tmp_path, (0, 0, 1, 0), files_max=1)
    with pytest.raises(OSError, match="No space left"):
        files.write((answer(b"one", b"two", b"three", b"four"),))
    assert not files.are_complete
    expected = [(1, NotReached()), (2, NotReached()), (3, Unreachable("full")), (4, NotReached())]
    assert outcomes(files.break_off("full")) == expected


def test_where_only_the_last_of_a_file_cannot_be_written_its_source_is_given_a_pause(tmp_path: Path, monkeypatch):
    outputs, files = files_of(tmp_path, (0, 0))
    opened = outputs.open_together

    def refusing(attempt, number):
        file, path = opened(attempt, number)

        class Refusing:
            write, tell, close = file.write, file.tell, file.close

            def flush(self) -> None:
                raise OSError(28, "No space left on device")

        return Refusing(), path

    monkeypatch.setattr(outputs, "open_together", refusing)
    with pytest.raises(OSError, match="No space left"):
        files.write((answer(b"one", b"two"),))
    assert outcomes(files.break_off("full")) == [(1, Unreachable("full")), (2, Unreachable("full"))]


def test_a_file_of_which_nobody_knows_is_written_anew(tmp_path: Path):
    outputs, _ = files_of(tmp_path, (0,))
    outputs.open_fetched(reduce_attempt(0), source(0).attempt).close()
    outputs.fetched(reduce_attempt(0), source(0).attempt).write_bytes(b"of a process before this")
    _, files = files_of(tmp_path, (0,))
    assert [wanted.start for wanted in files.wanted()] == [0]
    data = bytes(TOGETHER_BYTES)
    assert outcomes(files.write((answer(data),))) == [(1, Fetched(len(data)))]
    assert outputs.fetched(reduce_attempt(0), source(0).attempt).read_bytes() == data


def test_small_ones_that_are_asked_for_again_lie_behind_what_was_broken_off(tmp_path: Path):
    """As when another fetch of their request is cancelled while the first of them comes."""
    outputs, broken_off = files_of(tmp_path, (0, 0))
    whole = answer(b"one", b"two")
    broken_off.write((whole[: len(answer(b"")) + 2],))
    broken_off.close()
    files = FetchedFiles(outputs, [fetch_of(0, 0), fetch_of(1, 0)])
    assert [wanted.start for wanted in files.wanted()] == [0, 0]
    assert outcomes(files.write((whole,))) == [(1, Fetched(3)), (2, Fetched(3))]
    files.close()
    assert [run_of(outputs, fetch) for fetch in (fetch_of(0, 0), fetch_of(1, 0))] == [b"one", b"two"]


@pytest.mark.parametrize("came", [(b"one",), (b"one", b"tw"), (b"one", b"two")], ids=["one", "half of two", "two"])
def test_what_was_called_off_leaves_nothing_where_all_was_removed(tmp_path: Path, came: tuple[bytes, ...]):
    outputs, files = files_of(tmp_path, (0, 0, 1))
    whole = answer(b"one", b"two", bytes(TOGETHER_BYTES))
    cut = len(answer(*came))
    assert len(files.write((whole[:cut],))) == len([data for data in came if len(data) == 3])
    files.call_off()
    outputs.remove_job(JOB)
    with pytest.raises(CalledOff):
        files.write((whole[cut:],))
    files.close()
    assert list((tmp_path / "jobs").iterdir()) == []
    assert (outputs._together, outputs._begun, outputs._placed) == ({}, {}, {})
