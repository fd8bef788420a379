"""Random operations on the block store and on a local directory must end the same, errors included."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from scenes.storage import StorageKit

from minireduce.core.replica_messages import RepackBlock, Replica, ReplicaStored
from minireduce.core.storage.requests import (
    AddBlock,
    AppendFile,
    ChangeAttributes,
    CloseFile,
    CommitBlock,
    MakeDirectory,
    RemovePath,
    RenamePath,
)
from minireduce.errors import RequestError

BLOCK_BYTES = 10
MEMORY = Path("/dev/shm")
"""The model is a directory in memory where there is such a file system: it is made and removed 2,000 times."""
NAMES = st.sampled_from("ab")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))


class KitWithBytes(StorageKit):
    """Knows the bytes of every block and generation, whichever workers have them. `pending` are written next."""

    def __init__(self) -> None:
        self.bytes: dict[tuple[int, int], bytes] = {}
        self.pending = b""
        super().__init__(3)

    def write_block(self, file_id: int, position: int, length: int) -> Replica:
        replica = super().write_block(file_id, position, length)
        self.bytes[replica.block_id, replica.generation] = self.pending[:length]
        self.pending = self.pending[length:]
        return replica

    def carry_out(self) -> int:
        for _, command in self.commands:
            if isinstance(command, RepackBlock):
                old = self.bytes[command.replica.block_id, command.replica.generation]
                packed = b"".join(old[part.offset :][: part.length] for part in command.ranges)
                self.bytes[command.packed.block_id, command.packed.generation] = packed
        return super().carry_out()

    def content(self, path: str) -> bytes:
        """A file's bytes, from where its blocks are said to be."""
        found = self.state.file_blocks(path, 0, 1 << 60)
        pieces = []
        for block in found.blocks:
            replica, begins = block.source.replica, block.source.file_offset
            assert block.source.workers, f"nobody has block {replica.block_id} of {path}"
            held = self.bytes[replica.block_id, replica.generation][: replica.length]
            pieces.append(held[max(0, -begins) : found.status.length - begins])
        return b"".join(pieces)


class Store(RuleBasedStateMachine):
    """The master's side with its rows and restarts, and blocks whose bytes are known."""

    def __init__(self) -> None:
        super().__init__()
        self.kit = KitWithBytes()
        self.root = Path(tempfile.mkdtemp(prefix="model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.keys = 0
        self.written = 0

    def fresh(self, count: int) -> bytes:
        """Bytes that differ from those before and after."""
        self.written += count
        return bytes((self.written - count + number) % 251 for number in range(count))

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def local(self, path: str) -> Path:
        return self.root / path[1:]

    def both(self, here, there) -> None:
        """Do it there and here; either both succeed or both refuse."""
        try:
            there()
        except OSError:
            is_refused = True
        else:
            is_refused = False
        try:
            here()
        except RequestError:
            assert is_refused
        else:
            assert not is_refused

    def inode(self, path: str) -> int:
        return self.kit.state.status(path).inode

    @rule(path=PATHS, lengths=st.lists(st.integers(1, BLOCK_BYTES), max_size=3))
    def create(self, path, lengths):
        self.keys += 1
        data = self.kit.pending = self.fresh(sum(lengths))

        def there() -> None:
            self.local(path).parent.mkdir(parents=True, exist_ok=True)
            with self.local(path).open("xb") as file:
                file.write(data)

        before = set(self.root.rglob("*"))
        self.both(lambda: self.kit.write(path, *lengths, key=str(self.keys)), there)
        if not self.local(path).is_file():  # a create that fails makes no directories in the store
            for made in sorted(set(self.root.rglob("*")) - before, reverse=True):
                made.rmdir()

    @rule(paths=st.lists(PATHS, min_size=1, max_size=4), lengths=st.lists(st.integers(0, 4), min_size=4, max_size=4))
    def pack(self, paths, lengths):
        """Several small files at once: all of them or none."""
        self.keys += 1
        files = list(zip(paths, lengths, strict=False))
        contents = [self.fresh(length) for _, length in files]
        self.kit.pending = b"".join(contents)
        made: list[Path] = []

        def there() -> None:
            before = set(self.root.rglob("*"))
            try:
                for (path, _), data in zip(files, contents, strict=True):
                    self.local(path).parent.mkdir(parents=True, exist_ok=True)
                    with self.local(path).open("xb") as file:
                        file.write(data)
            except OSError:
                made.extend(sorted(set(self.root.rglob("*")) - before, reverse=True))
                raise

        self.both(lambda: self.kit.pack(*files, key=str(self.keys), block_size_bytes=16), there)
        for each in made:
            if each.is_dir():
                each.rmdir()
            else:
                each.unlink()

    @rule(path=PATHS, count=st.integers(1, 2 * BLOCK_BYTES))
    def append(self, path, count):
        data = self.fresh(count)

        def here() -> None:
            self.keys += 1
            lease, left = f"append {self.keys}", count
            whole = self.kit.content(path) + data
            opened = self.kit.ask(AppendFile(path, self.inode(path), lease))
            present = [block.source.replica.length for block in self.kit.state.file_blocks(path, 0, 1 << 60).blocks]
            if opened.is_packed:
                present, left = [], left + self.kit.state.status(path).length
            while left:
                if not present or present[-1] >= opened.block_size_bytes:
                    present.append(0)
                length = min(opened.block_size_bytes, present[-1] + left)
                placed = self.kit.ask(AddBlock(opened.file_id, lease, len(present) - 1))
                workers = tuple(target.worker for target in placed.targets)
                replica = Replica(placed.block_id, placed.generation, length)
                for worker in workers:
                    self.kit.disks[worker][replica.block_id] = replica
                    self.kit.report(worker, ReplicaStored(replica))
                begins = sum(present[:-1])
                self.kit.bytes[replica.block_id, replica.generation] = whole[begins : begins + length]
                assert self.kit.ask(CommitBlock(opened.file_id, lease, replica, workers))
                left -= length - present[-1]
                present[-1] = length
            self.kit.ask(CloseFile(opened.file_id, lease, sum(present)))

        def there() -> None:
            if not self.local(path).is_file():
                raise FileNotFoundError
            with self.local(path).open("ab") as file:
                file.write(data)

        self.both(here, there)

    @rule(path=PATHS)
    def mkdir(self, path):
        self.both(lambda: self.kit.ask(MakeDirectory(path)), lambda: self.local(path).mkdir())

    @rule(source=PATHS, to=PATHS)
    def rename(self, source, to):
        def there() -> None:
            if not self.local(source).exists() or (self.local(to).exists() and source != to):
                raise OSError
            self.local(source).rename(self.local(to))

        self.both(lambda: self.kit.ask(RenamePath(source, to, self.inode(source))), there)

    @rule(path=PATHS, is_recursive=st.booleans())
    def delete(self, path, is_recursive):
        def there() -> None:
            place = self.local(path)
            if not place.is_dir():
                place.unlink()
            elif is_recursive:
                shutil.rmtree(place)
            else:
                place.rmdir()

        self.both(lambda: self.kit.ask(RemovePath(path, self.inode(path), is_recursive, skip_trash=True)), there)

    @rule(path=PATHS, replication=st.integers(1, 4))
    def setrep(self, path, replication):
        def there() -> None:
            if not self.local(path).is_file():
                raise OSError

        self.both(lambda: self.kit.ask(ChangeAttributes(path, self.inode(path), replication)), there)

    @rule()
    def pass_time(self):
        self.kit.tick()
        self.kit.carry_out()

    @rule()
    def restart(self):
        self.kit.restart()
        for worker in list(self.kit.places.all):
            self.kit.join(worker)

    @invariant()
    def names_and_bytes_are_the_same(self):
        def below(path: str):
            for entry in self.kit.state.page(path).entries:
                if entry.is_directory:
                    yield entry.path, None
                    yield from below(entry.path)
                else:
                    content = self.kit.content(entry.path)
                    assert len(content) == entry.length
                    yield entry.path, content

        def locally(path: str, folder: Path):
            for each in folder.iterdir():
                if each.is_dir():
                    yield f"{path}/{each.name}", None
                    yield from locally(f"{path}/{each.name}", each)
                else:
                    yield f"{path}/{each.name}", each.read_bytes()

        model = dict(locally("", self.root))
        assert dict(below("/")) == model
        assert self.kit.state.summary("/").bytes == sum(len(content or b"") for content in model.values())


TestStore = pytest.mark.timeout(900)(Store.TestCase)
"""A time limit that strikes in the middle would be taken for a failure that does not repeat."""
TestStore.settings = settings(
    max_examples=2000, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
