"""How a worker keeps in touch with its master."""

from __future__ import annotations

import itertools

from scenes.worker import OUTPUT, Scene, launch_map, map_attempt, open_job, succeeded

from minireduce.core.messages import AttemptFailed, AttemptStarted, AttemptSucceeded, Down, Welcome
from minireduce.core.replica_messages import DirectoriesMeasured
from minireduce.core.task_data import TaskError, TaskOutput
from minireduce.core.work.attempts import AttemptEnded, Failed, Succeeded
from minireduce.core.work.session import (
    CloseStream,
    DownReceived,
    OpenStream,
    Remember,
    SendHello,
    SendUp,
    StopWorker,
    StreamClosed,
    StreamOpened,
    Warn,
    WelcomeReceived,
)
from minireduce.core.worker import StopRequested
from minireduce.errors import Refused, Unavailable

ERROR = TaskError("raised", "ValueError", "no")
EMPTY = TaskOutput(b"digest", 0, 0)


def test_the_first_tick_opens_a_stream_and_hello_lists_everything():
    scene = Scene(outputs=(succeeded(map_attempt(3)),), highest=(2, 7))
    scene.open_stream()
    hello = scene.hello()
    assert (hello.session, hello.highest_epoch, hello.highest_txid) == (0, 2, 7)
    assert hello.outputs == (succeeded(map_attempt(3)),)


def test_nothing_is_said_before_the_master_has_welcomed():
    scene = Scene()
    scene.open_stream()
    assert scene.tick() == []
    scene.welcome()
    assert len(scene.take(SendUp)) == 1


def test_a_broken_stream_is_opened_again_after_a_pause_that_doubles():
    scene = Scene()
    scene.open_stream()
    pauses = []
    for _ in range(4):
        scene.lose_stream()
        began = scene.now
        while not (opened := scene.take(OpenStream)):
            scene.tick(0.001)
        pauses.append(scene.now - began)
        scene.stream = opened[-1].stream
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses))
    assert pauses[-1] <= 0.41


def test_a_master_that_knows_the_session_is_sent_the_rest_of_it():
    scene = Scene().join()
    scene.command(open_job(), launch_map())
    scene.acknowledge()
    scene.reports()
    scene.lose_stream()
    scene.see(AttemptEnded(map_attempt(), Failed(ERROR)))
    assert scene.reports() == []
    scene.open_stream()
    hello = scene.hello()
    assert (hello.session, hello.received, hello.running) == (1, 1, ())
    scene.welcome(resumed=True, received=scene.heard)
    assert scene.reports() == [AttemptFailed(map_attempt(), ERROR)]


def test_a_master_that_forgot_the_session_is_told_everything_and_unheard_ends_count_as_running():
    scene = Scene().join()
    scene.command(open_job(), launch_map(0), launch_map(1))
    scene.acknowledge()
    scene.lose_stream()
    scene.see(AttemptEnded(map_attempt(0), Failed(ERROR)))
    scene.open_stream()
    scene.welcome(epoch=2)
    hello = scene.hello()
    assert hello.session == 0
    assert set(hello.running) == {map_attempt(0), map_attempt(1)}
    scene.reports()
    scene.welcome(epoch=2)
    assert scene.reports() == [AttemptFailed(map_attempt(0), ERROR), AttemptStarted(map_attempt(1))]


def test_commands_of_a_session_that_is_over_are_not_carried_out():
    scene = Scene().join()
    old = Down(scene.session, 1, 0, (open_job(), launch_map()))
    scene.lose_stream()
    scene.open_stream()
    scene.welcome()
    scene.welcome()
    scene.take(SendUp)
    assert scene.see(DownReceived(scene.stream, old)) == []


def test_a_repeated_message_is_carried_out_once():
    scene = Scene().join()
    down = Down(scene.session, 1, 0, (open_job(), launch_map()))
    assert len(scene.see(DownReceived(scene.stream, down))) == 3
    assert scene.see(DownReceived(scene.stream, down)) == []


def test_a_master_without_an_answer_is_given_up_for_another_stream():
    scene = Scene()
    scene.open_stream()
    scene.tick(10.1)
    assert scene.take(CloseStream) == [CloseStream(1)]
    assert scene.open_stream() == 2


def test_a_silent_master_is_given_up_for_another_stream():
    scene = Scene().join()
    scene.tick(10.1)
    assert scene.take(CloseStream) == [CloseStream(1)]


def test_silence_is_broken_by_heartbeats_that_tell_the_free_space():
    scene = Scene().join()
    scene.see(DirectoriesMeasured((), 99))
    scene.take(SendUp)
    scene.tick(1.1)
    (beat,) = scene.take(SendUp)
    assert (beat.up.number, beat.up.free_bytes) == (0, 99)


def test_news_of_streams_that_were_given_up_is_ignored():
    scene = Scene()
    scene.open_stream()
    scene.lose_stream()
    assert scene.see(StreamOpened(1)) == []
    assert scene.see(StreamClosed(1)) == []
    assert scene.see(WelcomeReceived(1, Welcome(1, 1, False, 0, 1.0, 10.0))) == []


def test_a_refusal_ends_the_worker_and_an_outage_does_not():
    scene = Scene()
    scene.open_stream()
    refusal = Refused("wrong token")
    assert scene.see(StreamClosed(1, refusal)) == [StopWorker(refusal)]
    scene = Scene()
    scene.open_stream()
    assert scene.see(StreamClosed(1, Unavailable("starting"))) == []
    assert scene.open_stream() == 2


def test_a_master_of_an_older_epoch_is_not_followed():
    scene = Scene(highest=(3, 5))
    scene.open_stream()
    scene.welcome(epoch=2)
    assert scene.take(CloseStream) == [CloseStream(1)]
    assert "epoch 2" in scene.take(Warn)[0].message
    assert scene.take(SendUp) == []


def test_a_new_epoch_is_remembered_at_once_and_commits_within_it_soon():
    scene = Scene().join()
    assert scene.take(Remember) == [Remember(1, 0)]
    scene.command(txid=4)
    scene.command(txid=5)
    assert scene.take(Remember) == []
    scene.tick(1.1)
    assert scene.take(Remember) == [Remember(1, 5)]
    scene.tick(1.1)
    assert scene.take(Remember) == []


def test_the_cluster_that_took_the_worker_in_is_remembered_and_named_from_then_on():
    scene = Scene(highest=(1, 0))
    scene.open_stream()
    assert scene.hello().cluster == ""
    scene.see(WelcomeReceived(1, Welcome(1, 1, False, 0, 1.0, 10.0, "c0ffee")))
    assert scene.take(Remember) == [Remember(1, 0, "c0ffee")]
    scene.see(StreamClosed(1))
    scene.open_stream()
    assert scene.hello().cluster == "c0ffee"


def test_a_hello_that_was_repeated_on_the_way_leads_to_a_new_one():
    scene = Scene().join()
    scene.take(SendHello)
    scene.welcome()
    assert scene.hello().session == 0
    scene.welcome()
    assert scene.machine._session.number == 3


def test_a_repeated_request_to_list_everything_does_not_begin_a_session():
    scene = Scene().join()
    scene.lose_stream()
    scene.open_stream()
    scene.welcome(session=0)
    assert scene.hello().session == 0
    assert scene.welcome(session=0) == []
    scene.welcome(session=2)
    assert scene.machine._session.number == 2


def test_what_succeeded_while_the_master_was_away_is_listed_as_an_output():
    scene = Scene().join()
    scene.command(open_job(), launch_map())
    scene.lose_stream()
    scene.see(AttemptEnded(map_attempt(), Succeeded(OUTPUT, ())))
    scene.open_stream()
    scene.welcome(epoch=2)
    hello = scene.hello()
    assert (hello.running, hello.outputs) == ((), (succeeded(map_attempt()),))


def test_a_stopped_worker_leaves_when_the_master_has_heard_of_everything():
    scene = Scene().join()
    scene.command(open_job(), launch_map())
    scene.see(StopRequested())
    assert scene.take(StopWorker) == []
    scene.see(AttemptEnded(map_attempt(), Failed(ERROR)))
    assert scene.take(StopWorker) == []
    scene.acknowledge()
    assert scene.take(StopWorker) == [StopWorker(None)]


def test_a_stopped_worker_waits_no_longer_than_its_limit():
    scene = Scene().join()
    scene.command(open_job(), launch_map())
    scene.see(StopRequested())
    scene.tick(5.1)
    assert scene.take(StopWorker) == [StopWorker(None)]


def test_a_part_without_pairs_is_listed_until_the_master_has_heard_of_it_and_never_again():
    scene = Scene().join()
    scene.command(open_job(reducers=0), launch_map())
    scene.lose_stream()
    scene.see(AttemptEnded(map_attempt(), Succeeded(EMPTY, ())))
    scene.open_stream()
    scene.welcome(epoch=2)
    assert scene.hello().outputs == (AttemptSucceeded(map_attempt(), EMPTY, ()),)
    scene.welcome(epoch=2)
    assert AttemptSucceeded(map_attempt(), EMPTY, ()) in scene.reports()
    scene.acknowledge()
    scene.lose_stream()
    scene.open_stream()
    scene.welcome(epoch=3)
    assert scene.hello().outputs == ()
