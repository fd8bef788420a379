"""Which workers there are, which of them can be heard, and the session each one speaks in.

A worker is *expected* when it is known from before a restart of the master, *live* from its `Hello` on, and *lost*
after `worker_lost_s` of silence. A broken stream alone loses nobody: the worker may open another and go on with its
session.

Fencing: what counts is said in the session that is current for the worker, on that session's stream. A worker whose
process started again has a higher incarnation and gets a new session; a lower incarnation is refused. So a worker that
was taken for lost and comes back cannot slip old news in: it must say `Hello` again, with all that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from enum import StrEnum

from minireduce.core.link import Link
from minireduce.core.messages import Command, Hello, Up, WorkerProfile
from minireduce.core.replica_messages import DataDirectory
from minireduce.core.settings import ClusterSettings
from minireduce.errors import MinireduceError, Refused
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

HEARTBEATS_PER_LOSS_MIN = 4
"""So many heartbeats of a worker must fail to come before it counts as lost, however many workers there are."""


class MemberState(StrEnum):
    """What the master thinks of a worker."""

    EXPECTED = "expected"
    LIVE = "live"
    LOST = "lost"


@dataclass(slots=True)
class Member:
    """One worker. `stream` 0: it has none now."""

    profile: WorkerProfile
    state: MemberState
    heard_at_s: float
    session: int = 0
    stream: int = 0
    link: Link[Command] = field(default_factory=Link)
    free_bytes: int = 0
    is_stopping: bool = False  # it takes in no more attempts
    directories: tuple[DataDirectory, ...] = ()
    is_draining: bool = False  # what it holds is brought elsewhere, until it can be done without
    id: WorkerId = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.profile.worker  # a plain field, since it is asked for many times an event

    @property
    def takes_work(self) -> bool:
        """Whether it may be given attempts, parts and replicas."""
        return not self.is_stopping and not self.is_draining

    @property
    def is_live(self) -> bool:
        return self.state is MemberState.LIVE


@dataclass(frozen=True, slots=True)
class Entrance:
    """What became of a `Hello`: refused with an error, resumed, or taken in anew.

    Neither member nor error: the session that it named is over, and it must say `Hello` again with full lists.
    """

    member: Member | None = None
    error: MinireduceError | None = None
    is_resumed: bool = False
    superseded_stream: int = 0


class Membership:
    """All workers by id, in the order in which they came."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._members: dict[WorkerId, Member] = {}
        self._by_stream: dict[int, Member] = {}
        self._expected: dict[WorkerId, None] = {}
        self._draining: dict[WorkerId, None] = {}
        self._sessions = 0

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, worker: WorkerId) -> Member | None:
        """The worker of this id, in whatever state."""
        return self._members.get(worker)

    def live(self) -> list[Member]:
        """The workers that can be heard."""
        return [member for member in self._members.values() if member.is_live]

    @property
    def is_anyone_expected(self) -> bool:
        return bool(self._expected)

    def expect(self, worker: WorkerId, incarnation: int, now: float) -> None:
        """Remember a worker from before a restart; it has `worker_lost_s` to come back."""
        profile = WorkerProfile(worker, incarnation, "", "", 0, 0, "", "", "")
        self._members[worker] = Member(profile, MemberState.EXPECTED, now, is_draining=worker in self._draining)
        self._expected[worker] = None

    def drain(self, worker: WorkerId, *, is_draining: bool) -> None:
        """Whether this worker shall be done without; remembered while it is away, too."""
        if is_draining:
            self._draining[worker] = None
        else:
            self._draining.pop(worker, None)
        if worker in self._members:
            self._members[worker].is_draining = is_draining

    def is_draining(self, worker: WorkerId) -> bool:
        """Whether this worker, be it there or not, shall be done without."""
        return worker in self._draining

    def enter(self, stream: int, hello: Hello, now: float) -> Entrance:
        """Take a worker's `Hello` in."""
        profile = hello.profile
        known = self._members.get(profile.worker)
        if known is not None and profile.incarnation < known.profile.incarnation:
            return Entrance(error=_older_incarnation(profile, known.profile))
        if hello.session and not self._can_resume(known, hello):
            if known is not None and known.state is not MemberState.LOST:
                known.heard_at_s = now  # it lives, and is about to list what it has
            return Entrance()
        superseded = known.stream if known is not None and known.stream != stream else 0
        self._by_stream.pop(superseded, None)
        if known is not None and hello.session:
            known.stream = stream
            known.heard_at_s = now
            known.link.resume(hello.received, now)
            self._by_stream[stream] = known
            return Entrance(known, is_resumed=True, superseded_stream=superseded)
        return Entrance(self._admit(stream, profile, now), superseded_stream=superseded)

    @staticmethod
    def _can_resume(known: Member | None, hello: Hello) -> bool:
        return (
            known is not None
            and known.is_live
            and hello.session == known.session
            and hello.profile.incarnation == known.profile.incarnation
        )

    @property
    def heartbeat_interval_s(self) -> float:
        """How often a worker that comes now is to be heard. A thousand that each speak once a second would keep the
        master busy with nothing, so many wait longer; those that came before keep to what they were told.
        """
        crowded_s = len(self._by_stream) / self._settings.heartbeats_per_s_max
        longest_s = self._settings.worker_lost_s / HEARTBEATS_PER_LOSS_MIN
        return max(self._settings.heartbeat_interval_s, min(crowded_s, longest_s))

    def _admit(self, stream: int, profile: WorkerProfile, now: float) -> Member:
        self._sessions += 1
        link: Link[Command] = Link(
            heartbeat_interval_s=self.heartbeat_interval_s, resend_after_s=self._settings.resend_after_s
        )
        member = Member(profile, MemberState.LIVE, now, self._sessions, stream, link, profile.free_bytes)
        member.is_draining = profile.worker in self._draining
        self._members[profile.worker] = member
        self._expected.pop(profile.worker, None)
        self._by_stream[stream] = member
        return member

    def hear(self, stream: int, up: Up, now: float) -> Member | None:
        """The member that speaks on `stream` if it may: None when the stream or the session is not the current one."""
        member = self._by_stream.get(stream)
        if member is None or member.session != up.session or not member.is_live:
            return None
        member.heard_at_s = now
        member.free_bytes = up.free_bytes or member.free_bytes
        return member

    def on_stream(self, stream: int) -> Member | None:
        """The member whose current stream this is."""
        return self._by_stream.get(stream)

    def close_stream(self, stream: int) -> Member | None:
        """A stream broke; its worker has `worker_lost_s` to open another. One that said that it stops has ended: it is
        lost at once, and given back.
        """
        member = self._by_stream.pop(stream, None)
        if member is None or member.stream != stream:
            return None
        member.stream = 0
        if not member.is_stopping or not member.is_live:
            return None
        member.state = MemberState.LOST
        return member

    def lose_the_silent(self, now: float) -> list[Member]:
        """Mark as lost whoever was not heard for `worker_lost_s`, and give them back."""
        lost = []
        for member in self._members.values():
            if member.state is not MemberState.LOST and now - member.heard_at_s > self._settings.worker_lost_s:
                member.state = MemberState.LOST
                self._expected.pop(member.id, None)
                lost.append(member)
        if lost:
            self._forget_oldest()
        return lost

    def _forget_oldest(self) -> None:
        """Where each start of a machine makes a new worker, those that are gone would else pile up."""
        gone = [member for member in self._members.values() if member.state is MemberState.LOST]
        gone.sort(key=lambda member: member.heard_at_s)
        for member in gone[: max(0, len(gone) - self._settings.workers_lost_kept_max)]:
            del self._members[member.id]

    def shift_deadlines(self, jump_s: float) -> None:
        """The master itself slept for `jump_s`: nobody's silence in that time counts."""
        for member in self._members.values():
            member.heard_at_s += jump_s


def _older_incarnation(profile: WorkerProfile, known: WorkerProfile) -> Refused:
    return Refused(
        f"worker {profile.worker} speaks as incarnation {profile.incarnation}, but {known.incarnation} started since",
        hint="two workers share one data directory, or an old process still runs: stop one of them",
    )
