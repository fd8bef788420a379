"""A night of random operations on real processes must leave what the same operations leave in a local directory.

`OPERATIONS_SEED=N` repeats a run; the seed is in the test's output when it fails. Workers are killed in between. The
same idea without processes, two thousand times: `tests/unit/core/storage/test_against_a_directory.py`.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.errors import RequestError

OPERATIONS = 400
LOOK_EVERY = 20
KILL_EVERY = 50
SETTINGS = {
    "MINIREDUCE_REPAIR_DELAY_S": "1",
    "MINIREDUCE_WORKER_LOST_S": "2",
    "MINIREDUCE_BLOCK_SIZE": "64KiB",
    "MINIREDUCE_TRASH_KEPT_S": "0",
}


def reason_of(what, kind: type[Exception]) -> str:
    """Why this was refused, with an exception of this kind; empty if it was not."""
    try:
        what()
    except kind as error:
        return repr(error)
    return ""


class Both:
    """The store and the directory, and what is done to both."""

    def __init__(self, files: FileSystem, root: Path, rng: random.Random) -> None:
        self.files = files
        self.root = root
        self.rng = rng

    def path(self) -> str:
        return "/" + "/".join(self.rng.choice("abc") for _ in range(self.rng.randint(1, 3)))

    def local(self, path: str) -> Path:
        return self.root / path[1:]

    def do(self, here, there) -> None:
        """Either both succeed or both refuse."""
        refused = [reason_of(each, kind) for each, kind in ((here, RequestError), (there, OSError))]
        assert bool(refused[0]) == bool(refused[1]), f"refused by the store, by the directory: {refused}"

    def write(self, mode: str) -> None:
        path, data = self.path(), self.rng.randbytes(self.rng.choice([0, 10, 5000, 70_000, 200_000]))

        def here() -> None:
            if mode == "ab":
                self.files.stat(path)
            with self.files.open(path, mode) as stream:
                stream.write(data)

        def there() -> None:
            place = self.local(path)
            if mode == "ab" and not place.is_file():
                raise FileNotFoundError(path)
            above = next(each for each in place.parents if each.exists())
            if not above.is_dir():
                raise NotADirectoryError(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb" if mode == "wb" else "ab") as file:
                file.write(data)

        self.do(here, there)

    def pack(self) -> None:
        directory = f"/packed-{secrets.token_hex(4)}"
        contents = {f"{directory}/{number}": self.rng.randbytes(500) for number in range(10)}
        self.files.put_many(contents.items())
        for path, data in contents.items():
            self.local(path).parent.mkdir(exist_ok=True)
            self.local(path).write_bytes(data)
        for path in self.rng.sample(sorted(contents), 6):
            self.files.rm(path)
            self.local(path).unlink()

    def mkdir(self) -> None:
        path = self.path()
        self.do(lambda: self.files.mkdir(path, parents=False), lambda: self.local(path).mkdir())

    def rename(self) -> None:
        source, target = self.path(), self.path()

        def there() -> None:
            if not self.local(source).exists() or (self.local(target).exists() and source != target):
                raise OSError(source)
            self.local(source).rename(self.local(target))

        self.do(lambda: self.files.rename(source, target), there)

    def remove(self) -> None:
        path, is_recursive = self.path(), self.rng.random() < 0.5

        def there() -> None:
            place = self.local(path)
            if not place.is_dir():
                place.unlink()
            elif is_recursive:
                shutil.rmtree(place)
            else:
                place.rmdir()

        self.do(lambda: self.files.rm(path, recursive=is_recursive), there)

    def compare(self) -> None:
        here = {}
        for entry in self.files.walk("/"):
            if entry.is_directory:
                here[entry.path] = None
            else:
                with self.files.open(entry.path) as stream:
                    here[entry.path] = stream.read()
        there = {
            f"/{each.relative_to(self.root)}": None if each.is_dir() else each.read_bytes()
            for each in self.root.rglob("*")
        }
        assert here.keys() == there.keys()
        assert [path for path in here if here[path] != there[path]] == []


@pytest.mark.nightly
def test_random_operations_on_real_processes_leave_what_a_local_directory_has(tmp_path):
    seed = int(os.environ.get("OPERATIONS_SEED") or secrets.randbelow(1 << 30))
    print(f"OPERATIONS_SEED={seed}")
    rng = random.Random(seed)
    (tmp_path / "model").mkdir()
    (tmp_path / "cluster").mkdir()
    with ProcessCluster(tmp_path / "cluster", workers=4, settings=SETTINGS) as cluster, cluster.connect() as connection:
        both = Both(FileSystem(connection), tmp_path / "model", rng)
        kinds = [lambda: both.write("wb"), lambda: both.write("ab"), both.pack, both.mkdir, both.rename, both.remove]
        for number in range(1, OPERATIONS + 1):
            rng.choices(kinds, weights=(4, 4, 1, 1, 2, 2))[0]()
            if number % LOOK_EVERY == 0:
                both.compare()
            if number % KILL_EVERY == 0:
                victim = f"worker-{rng.randint(1, 4)}"
                cluster.kill(victim)
                both.write("wb")
                cluster.start_worker(victim)
                cluster.await_worker(victim)
        both.compare()
