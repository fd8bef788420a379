"""A job with each setting of `spill_compression`, on a disk that is held to so many MB/s and on the same as it is.

Records of 100 bytes (`gensort.py`), or as many bytes of chance, are mapped as arrays under a limit of 64 MiB and
reduced to one for each first byte, so nearly all that is written are map outputs. The cluster's files lie in a file
system of its own on a loop device. Its reads and writes are held to `--mb-s` by the `blkio` controller, and its share
of the page cache to 64 MiB, so that writes take the disk's time, as they do where more is written than memory takes.

Whole commands, the settings in turn, outputs compared. Needs root, Linux and cgroups of the first version; what it made
is taken back at the end.

    python bench/slow_disk.py [--mb-s 50] [--rounds 3] [--mib 256]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gensort import RECORD_BYTES, make

SETTINGS = ("never", "always", "auto")
CACHED_BYTES = 64 << 20
LIMIT = "64MiB"
SLOTS = 2
SECTOR_BYTES = 512
_BLKIO = Path("/sys/fs/cgroup/blkio")
_JOB = """
from minireduce import FixedWidth, Job, columns


def cut(batch):
    record = batch["record"]
    return columns.pairs(columns.cut(record, 0, 1), columns.cut(record, 1, 100))


def least(key, values):
    yield key, min(values)


job = Job(map_batch=cut, reduce=least, input=FixedWidth(100), name="least")
"""


@dataclass
class Seen:
    """What the runs with one setting took."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    written_bytes: list[int] = field(default_factory=list)


@contextmanager
def loop_device(work: Path) -> Iterator[tuple[Path, str]]:
    """A mounted file system of its own, and the number of its device."""
    image, place = work / "slow-disk.img", work / "slow-disk"
    with image.open("wb") as file:
        file.truncate(8 << 30)
    device = _called("losetup", "-f", "--show", "--direct-io=on", str(image))
    try:
        _called("mkfs.ext4", "-q", "-O", "^has_journal", device)
        place.mkdir(exist_ok=True)
        _called("mount", device, str(place))
        try:
            number = Path(device).stat().st_rdev
            yield place, f"{os.major(number)}:{os.minor(number)}"
        finally:
            _called("umount", str(place))
    finally:
        _called("losetup", "-d", device)
        image.unlink()


@contextmanager
def held_to(number: str, bytes_per_s: int) -> Iterator[None]:
    """The device is that slow, and pages of it that are not written yet are few."""
    cache = Path("/sys/class/bdi", number)
    (cache / "strict_limit").write_text("1")
    (cache / "max_bytes").write_text(str(CACHED_BYTES))
    limits = [_BLKIO / f"blkio.throttle.{way}_bps_device" for way in ("read", "write")]
    for limit in limits:
        limit.write_text(f"{number} {bytes_per_s}")
    try:
        yield
    finally:
        for limit in limits:
            limit.write_text(f"{number} 0")
        (cache / "strict_limit").write_text("0")
        (cache / "max_ratio").write_text("100")


def run(source: Path, place: Path, number: str, setting: str, seen: Seen) -> str:
    """One command from a cold start, and what its output holds."""
    os.sync()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    written = _written_bytes(number)
    job = source.parent / "slow_disk_job.py"
    job.write_text(_JOB)
    settings = {"TMPDIR": str(place), "MINIREDUCE_MEMORY_LIMIT": LIMIT, "MINIREDUCE_SPILL_COMPRESSION": setting}
    command = [sys.executable, "-m", "minireduce.cli", "submit", str(job), str(source)]
    output = _called(*command, "--slots", str(SLOTS), "--reducers", str(SLOTS), "-q", environment=settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen.wall_s.append(time.perf_counter() - began)
    seen.cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    seen.written_bytes.append(_written_bytes(number) - written)
    return "\n".join(sorted(output.splitlines()))


def _written_bytes(number: str) -> int:
    return int(Path(f"/sys/dev/block/{number}/stat").read_text(encoding="ascii").split()[6]) * SECTOR_BYTES


def _called(*command: str, environment: dict[str, str] | None = None) -> str:
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})})
    return made.stdout.decode().strip()


def main() -> None:
    """Make the records, run the settings in turn on the slow disk and on the fast, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb-s", type=int, default=50)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    records = (asked.mib << 20) // RECORD_BYTES
    sources = {"records": asked.work / f"slow-{asked.mib}.dat", "chance": asked.work / f"slow-{asked.mib}-chance.dat"}
    if not sources["records"].exists():
        make(sources["records"], records, ascii=True)
    if not sources["chance"].exists():
        with sources["chance"].open("wb") as file:
            for begin in range(0, records, 1 << 14):
                file.write(os.urandom(min(records - begin, 1 << 14) * RECORD_BYTES))
    print(f"{asked.mib} MiB, {SLOTS} slots, {asked.rounds} rounds, {os.cpu_count()} cores\n")
    print("| disk | what | setting | median s | min to max s | CPU s | MB written |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with loop_device(asked.work) as (place, number):
        with held_to(number, asked.mb_s * 1_000_000):
            _compare(f"{asked.mb_s} MB/s", sources, place, number, asked.rounds)
        _compare("as it is", sources, place, number, asked.rounds)


def _compare(disk: str, sources: dict[str, Path], place: Path, number: str, rounds: int) -> None:
    for what, source in sources.items():
        seen = {setting: Seen() for setting in SETTINGS}
        outputs = {run(source, place, number, each, seen[each]) for _ in range(rounds) for each in SETTINGS}
        if len(outputs) != 1:
            sys.exit(f"the settings give {len(outputs)} different outputs of {what}")
        for setting, took in seen.items():
            print(
                f"| {disk} | {what} | `{setting}` | {statistics.median(took.wall_s):.2f} | "
                f"{min(took.wall_s):.2f} to {max(took.wall_s):.2f} | {statistics.median(took.cpu_s):.2f} | "
                f"{statistics.median(took.written_bytes) / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
