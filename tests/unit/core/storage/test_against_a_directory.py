"""Random operations on the block store and on a local directory must end the same, errors included."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from scenes.storage import StorageKit

from minireduce.core.messages import Replica
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
NAMES = st.sampled_from("ab")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))


class Store(RuleBasedStateMachine):
    """A file's content is its length here: what its bytes are is the business of other tests."""

    def __init__(self) -> None:
        super().__init__()
        self.kit = StorageKit(3)
        self.root = Path(tempfile.mkdtemp(prefix="model-"))
        self.keys = 0

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

        def there() -> None:
            self.local(path).parent.mkdir(parents=True, exist_ok=True)
            with self.local(path).open("xb") as file:
                file.write(bytes(sum(lengths)))

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
        made: list[Path] = []

        def there() -> None:
            before = set(self.root.rglob("*"))
            try:
                for path, length in files:
                    self.local(path).parent.mkdir(parents=True, exist_ok=True)
                    with self.local(path).open("xb") as file:
                        file.write(bytes(length))
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
        def here() -> None:
            self.keys += 1
            lease, left = f"append {self.keys}", count
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
                assert self.kit.ask(CommitBlock(opened.file_id, lease, replica, workers))
                left -= length - present[-1]
                present[-1] = length
            self.kit.ask(CloseFile(opened.file_id, lease, sum(present)))

        def there() -> None:
            if not self.local(path).is_file():
                raise FileNotFoundError
            with self.local(path).open("ab") as file:
                file.write(bytes(count))

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
    def lists_are_the_same(self):
        def below(path: str):
            for entry in self.kit.state.page(path).entries:
                yield entry.path, None if entry.is_directory else entry.length
                if entry.is_directory:
                    yield from below(entry.path)

        model = {
            f"/{each.relative_to(self.root)}": None if each.is_dir() else each.stat().st_size
            for each in self.root.rglob("*")
        }
        assert dict(below("/")) == model
        assert self.kit.state.summary("/").bytes == sum(length or 0 for length in model.values())


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
