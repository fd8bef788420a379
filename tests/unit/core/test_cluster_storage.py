"""The block store inside the master's machine: files through requests, replicas through reports."""

from __future__ import annotations

from minireduce.core.cluster import (
    ClusterState,
    HelloReceived,
    Persist,
    Refuse,
    Reply,
    RequestReceived,
    SendDown,
    SendWelcome,
    Ticked,
    UpReceived,
)
from minireduce.core.messages import Hello, Up, WorkerProfile
from minireduce.core.replica_messages import Replica, ReplicateBlock
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import StoredRange
from minireduce.core.storage.requests import AddBlock, CloseFile, CommitBlock, CreateFile, RemovePath
from minireduce.core.task_data import StoredInput
from minireduce.errors import NotFound

GIB = 1 << 30


class SmallCluster:
    def __init__(self) -> None:
        self.now = 0.0
        self.requests = 0
        self.sessions: dict[int, int] = {}
        self.told: list[tuple[int, object]] = []
        self.answers: dict[int, object] = {}
        self.machine = ClusterState(
            cluster_id="abcdef",
            epoch=1,
            txid=0,
            settings=ClusterSettings(),
            rows=[],
            make_read_token=lambda job: f"read {job}",
            now=0.0,
        )

    def advance(self, event):
        actions = self.machine.advance(event, self.now)
        for action in actions:
            match action:
                case SendWelcome(stream, welcome):
                    self.sessions[stream] = welcome.session
                case SendDown(stream, down):
                    self.told.extend((stream, command) for command in down.commands)
                case Reply(request, value) | Refuse(request, value):
                    self.answers[request] = value
        return actions

    def join(self, number: int, *replicas: Replica) -> None:
        name = f"w{number}"
        profile = WorkerProfile(
            name, 1, "h", "/r", 1, GIB, f"{name}:1", f"m{number}", "0", capacity_bytes=100 * GIB, free_bytes=50 * GIB
        )
        self.advance(HelloReceived(number, Hello(profile, 0, 0, 0, 0, replicas=replicas)))

    def ask(self, body):
        self.requests += 1
        actions = self.advance(RequestReceived(self.requests, body, 0.0))
        return self.answers[self.requests], actions

    def pass_time(self, seconds: int, *speaking: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            for stream in speaking:
                self.advance(UpReceived(stream, Up(self.sessions[stream], 0, 0)))
            self.advance(Ticked())

    def write(self, path: str, length: int):
        opened, _ = self.ask(CreateFile(path, "lease", "key"))
        placed, _ = self.ask(AddBlock(opened.file_id, "lease", 0))
        replica = Replica(placed.block_id, placed.generation, length)
        workers = tuple(target.worker for target in placed.targets)
        self.ask(CommitBlock(opened.file_id, "lease", replica, workers))
        status, actions = self.ask(CloseFile(opened.file_id, "lease", length))
        assert isinstance(actions[0], Persist)
        assert any(isinstance(action, Reply) for action in actions[1:])
        return status, replica


def test_a_lost_worker_is_repaired_by_a_command_on_the_stream_of_another():
    cluster = SmallCluster()
    for number in (1, 2, 3):
        cluster.join(number)
    _, replica = cluster.write("/f", 100)
    cluster.join(4)
    cluster.pass_time(80, 1, 2, 4)
    orders = [(stream, told) for stream, told in cluster.told if isinstance(told, ReplicateBlock)]
    assert orders
    assert {(order.replica, order.target) for _, order in orders} == {(replica, "w4")}
    assert {stream for stream, _ in orders} <= {1, 2}


def test_a_map_task_over_a_stored_file_gets_its_blocks_and_a_removed_file_gives_none():
    cluster = SmallCluster()
    for number in (1, 2, 3):
        cluster.join(number)
    status, replica = cluster.write("/f", 100)
    stored = StoredRange("/f", status.inode, 10, 20)
    located = cluster.machine.storage.locate_input(stored, "w2")
    assert isinstance(located, StoredInput)
    assert located.file_bytes == 100
    assert [block.replica for block in located.blocks] == [replica]
    assert located.blocks[0].workers[0] == "w2"
    cluster.ask(RemovePath("/f", status.inode, skip_trash=True))
    assert cluster.machine.storage.locate_input(stored, "w2").blocks == ()


def test_workers_show_how_many_blocks_they_hold_and_refusals_reach_the_caller():
    cluster = SmallCluster()
    cluster.join(1)
    cluster.write("/f", 100)
    assert [view.blocks for view in cluster.machine.views.workers(0.0)] == [1]
    error, _ = cluster.ask(CloseFile(99, "lease", 0))
    assert isinstance(error, NotFound)
