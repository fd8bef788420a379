"""What attempts print, on its way to the master and in its keeping."""

from __future__ import annotations

from scenes.machine import FakeCluster
from scenes.worker import Scene, launch_map, map_attempt, open_job

from minireduce.core.compute.printed import PIECE_COST_BYTES, TABLE
from minireduce.core.messages import AttemptFailed, AttemptPrinted
from minireduce.core.requests import CloseResult
from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import TaskError
from minireduce.core.work.attempts import AttemptEnded, Failed
from minireduce.core.work.printed import TextPrinted

ERROR = TaskError("raised", "ValueError", "bad")


def kept(cluster):
    """(stream, offset, text) of all that the rows hold, in the order of their sequence."""
    rows = sorted((row.values for (table, _), row in cluster.rows.items() if table == TABLE), key=lambda v: v[0])
    return [(offset, data) for _, _, _, offset, _, data in rows]


def test_a_text_goes_to_the_master_before_the_end_of_its_attempt():
    scene = Scene()
    scene.join()
    scene.command(open_job(), launch_map())
    scene.reports()
    scene.see(TextPrinted(map_attempt(), "stdout", 0, b"hello"))
    scene.see(AttemptEnded(map_attempt(), Failed(ERROR)))
    assert scene.reports() == [
        AttemptPrinted(map_attempt(), "stdout", 0, b"hello"),
        AttemptFailed(map_attempt(), ERROR),
    ]


def test_what_is_printed_while_the_master_is_away_waits_for_it_up_to_a_limit():
    scene = Scene(settings=WorkerSettings(printed_waiting_bytes_max=2000))
    scene.join()
    scene.command(open_job(), launch_map())
    scene.reports()
    scene.lose_stream()
    for number in range(10):
        scene.see(TextPrinted(map_attempt(), "stdout", 100 * number, bytes([number]) * 100))
    for number in range(10):
        scene.see(TextPrinted(map_attempt(), "stdout", 1000 + number, b"end", is_end=True))
    scene.open_stream()
    scene.welcome(resumed=True)
    assert [(piece.offset, piece.is_end) for piece in scene.reports() if isinstance(piece, AttemptPrinted)] == [
        (600, False),
        (700, False),
        (800, False),
        (900, False),
        (1009, True),
    ]


def test_the_master_keeps_the_beginning_and_the_latest_end_of_a_text():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    cluster.submit(maps=1)
    (attempt,) = worker.attempts()
    worker.say(AttemptPrinted(attempt, "stdout", 0, b"one"))
    worker.say(AttemptPrinted(attempt, "stdout", 3, b"two"))
    worker.say(AttemptPrinted(attempt, "stdout", 50, b"end", is_end=True))
    worker.say(AttemptPrinted(attempt, "stdout", 90, b"later end", is_end=True))
    assert kept(cluster) == [(0, b"one"), (3, b"two"), (90, b"later end")]


def test_a_piece_that_is_said_again_is_kept_once_and_counted_once():
    cluster = FakeCluster(job_logs_bytes_max=2 * (PIECE_COST_BYTES + 10))
    worker = cluster.worker("w1")
    cluster.submit(maps=1)
    (attempt,) = worker.attempts()
    for _ in range(5):
        worker.say(AttemptPrinted(attempt, "stdout", 0, b"one"))
    assert kept(cluster) == [(0, b"one")]


def test_beyond_the_limit_of_a_job_only_failures_are_kept():
    cluster = FakeCluster(job_logs_bytes_max=4 * (PIECE_COST_BYTES + 10))
    worker = cluster.worker("w1", slots=9)
    job = cluster.submit(maps=9)
    attempts = worker.attempts()
    for attempt in attempts[:5]:
        worker.say(AttemptPrinted(attempt, "stdout", 0, b"0123456789"))
    assert len(kept(cluster)) == 3
    worker.say(AttemptPrinted(attempts[8], "stderr", 0, b"last words", is_of_failure=True))
    assert kept(cluster)[-1] == (0, b"last words")
    assert cluster.machine.views.printed_left_out(job, cluster.now) == 2
    worker.say(AttemptPrinted(attempts[7], "stderr", 0, b"last words", is_of_failure=True))
    assert len(kept(cluster)) == 4


def test_a_restarted_master_knows_how_much_it_keeps():
    cluster = FakeCluster(job_logs_bytes_max=2 * (PIECE_COST_BYTES + 10))
    worker = cluster.worker("w1")
    cluster.submit(maps=2)
    one, two = worker.attempts()
    worker.say(AttemptPrinted(one, "stdout", 0, b"0123456789"))
    again = FakeCluster(cluster.rows, epoch=2, txid=1000, job_logs_bytes_max=2 * (PIECE_COST_BYTES + 10))
    worker = again.worker("w1")
    worker.hello(running=[one, two])
    worker.say(AttemptPrinted(two, "stdout", 0, b"0123456789"))
    assert kept(again) == [(0, b"0123456789")]
    worker.say(AttemptPrinted(one, "stdout", 0, b"abc"))
    assert [values[0] for (table, _), row in again.rows.items() if table == TABLE for values in [row.values]] == [2]


def test_when_all_texts_take_too_much_those_of_the_first_job_go():
    cluster = FakeCluster(logs_bytes_max=PIECE_COST_BYTES + 10)
    worker = cluster.worker("w1", slots=9)
    cluster.submit("key 1", maps=1)
    cluster.submit("key 2", maps=1)
    one, two = worker.attempts()
    worker.say(AttemptPrinted(one, "stdout", 0, b"one"))
    worker.say(AttemptPrinted(two, "stdout", 0, b"two"))
    assert kept(cluster) == [(0, b"two")]
    worker.say(AttemptPrinted(one, "stdout", 3, b"more"))
    assert kept(cluster) == [(0, b"two")], "a text without its beginning helps nobody"


def test_texts_outlive_their_job_and_are_forgotten_with_it():
    cluster = FakeCluster(jobs_kept_max=1)
    worker = cluster.worker("w1")
    jobs = []
    for number in range(2):
        jobs.append(cluster.submit(f"key {number}", maps=1, reducers=0))
        (attempt,) = worker.attempts()
        worker.say(AttemptPrinted(attempt, "stdout", 0, bytes([number])))
        worker.succeed(attempt)
    cluster.ask(CloseResult(jobs[0]))
    assert kept(cluster) == [(0, b"\0"), (0, b"\1")]
    cluster.ask(CloseResult(jobs[1]))
    assert kept(cluster) == [(0, b"\1")]


def test_text_of_a_job_that_nobody_remembers_is_not_kept():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    worker.say(AttemptPrinted(map_attempt(), "stdout", 0, b"one"))
    assert kept(cluster) == []
