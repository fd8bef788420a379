"""How often workers are to be heard."""

from __future__ import annotations

from minireduce.core.membership import HEARTBEATS_PER_LOSS_MIN, Membership
from minireduce.core.messages import Hello, WorkerProfile
from minireduce.core.settings import ClusterSettings


def _with_workers(count: int, settings: ClusterSettings) -> Membership:
    membership = Membership(settings)
    for number in range(count):
        profile = WorkerProfile(f"w{number}", 1, "h", "/r", 1, 1 << 30, "h:1", "m", "0.1.0")
        membership.enter(number + 1, Hello(profile, 0, 0, 0, 0), 0.0)
    return membership


def test_a_few_workers_are_heard_as_often_as_is_set():
    assert _with_workers(20, ClusterSettings()).heartbeat_interval_s == ClusterSettings().heartbeat_interval_s


def test_many_workers_together_say_no_more_heartbeats_than_the_limit():
    settings = ClusterSettings(heartbeats_per_s_max=10, worker_lost_s=100.0)
    assert _with_workers(50, settings).heartbeat_interval_s == 5.0


def test_however_many_there_are_several_heartbeats_must_fail_before_one_is_lost():
    settings = ClusterSettings(heartbeats_per_s_max=10, worker_lost_s=10.0)
    interval_s = _with_workers(500, settings).heartbeat_interval_s
    assert interval_s * HEARTBEATS_PER_LOSS_MIN <= settings.worker_lost_s
