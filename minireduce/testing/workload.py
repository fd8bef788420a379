"""Small jobs for a simulated cluster, and what their tasks do: real pairs, so that outputs can be judged byte by byte.

Every step sums the values of each key. The first one maps lines to (word, 1); a later one maps (word, n) of the step
before to (the word without its last letter, n). A step without reducers passes on what it mapped. Nothing of the real
engine is needed here: what a simulation judges is that each task's output is used once, whoever made it.

`sequential` is the same job as one plain loop, written apart from the tasks on purpose: it is what runs are held to.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from minireduce.core.spec import (
    DEFAULT_QUEUE,
    JobSpec,
    LocalFiles,
    LocalRange,
    OutputKind,
    Program,
    Split,
    StepSpec,
    StoredRange,
)
from minireduce.core.task_data import Counters, TaskOutput
from minireduce.errors import Corruption
from minireduce.frozen import dataclass
from minireduce.ids import TaskId, TaskKind

Pair = tuple[str, int]
ANY_MACHINE = ""
"""Where the input is: all simulated machines see it, as on a network file system."""

COUNTER_GROUP = "words"
FAILS_ALWAYS = 1_000_000


class How(StrEnum):
    """What a bad line does to the process that computes it. WAVERS: raises in a task's first attempt, but not alone."""

    RAISES = "raises"
    CRASHES = "crashes"
    WAVERS = "wavers"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that user code cannot compute: its place in the input of a task of the first step."""

    task: str
    position: int
    how: How


@dataclass(frozen=True, slots=True)
class SimJob:
    """A job: one split a text, `reducers` of each step. `failing` names tasks and how many of their attempts raise;
    `is_result`: the parts stay in the cluster until the client closes the result, else it publishes them itself.
    `failing_on` is a worker on which all attempts raise; `wavering` names tasks whose attempts all say that they wrote
    other pairs than any before. `speculation`: stragglers get backups. With `split_bytes` all texts are one file of the
    block store, cut every so many bytes, wherever lines end. `bad` lines cannot be computed, and up to `skipped_max` of
    them may be left out.
    """

    key: str
    texts: tuple[str, ...]
    reducers: tuple[int, ...]
    failing: tuple[tuple[str, int], ...] = ()
    attempts_max: int = 4
    losses_max: int = 100
    is_result: bool = False
    wavering: tuple[str, ...] = ()
    failing_on: str = ""
    speculation: bool = False
    memory_bytes: int = 1 << 20
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    weight: float = 1.0
    time_limit_s: float = 0.0
    split_bytes: int = 0
    replication: int = 3
    is_real: bool = False  # its tasks are computed by the real engine
    bad: tuple[BadLine, ...] = ()
    skipped_max: int = 0

    @property
    def left_out(self) -> list[BadLine]:
        """The bad lines that the output of the job lacks, if that many may be left out."""
        return [line for line in self.bad if line.how is not How.WAVERS]

    @property
    def is_stored(self) -> bool:
        """Whether the input lies in the block store."""
        return self.split_bytes > 0

    @property
    def data(self) -> bytes:
        """The stored input."""
        return "".join(f"{line}\n" for text in self.texts for line in text.splitlines()).encode()

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """Offset and length of each split of a stored input."""
        size = len(self.data)
        return [(begin, min(self.split_bytes, size - begin)) for begin in range(0, size, self.split_bytes)]

    @property
    def splits_total(self) -> int:
        return len(self.cuts) if self.is_stored else len(self.texts)

    @property
    def body(self) -> bytes:
        return self.key.encode()

    @property
    def is_doomed(self) -> bool:
        """Whether user code fails so often that the job must."""
        if len(self.left_out) > self.skipped_max:
            return True
        return any(times >= self.attempts_max for _, times in self.failing)

    @property
    def tasks_total(self) -> int:
        """How many tasks all steps have."""
        total, maps = 0, self.splits_total
        for reducers in self.reducers:
            total += maps + reducers
            maps = reducers or maps
        return total

    def spec(self, file_id: int = 0, path: str = "") -> JobSpec:
        """What a client submits; `file_id` and `path` are those of a stored input."""
        return JobSpec(
            name=self.key,
            program=Program("source", self.body, hashlib.sha256(self.body).hexdigest()),
            steps=tuple(
                StepSpec(reducers, self.memory_bytes, 600.0, skips_bad_records=self.skipped_max > 0)
                for reducers in self.reducers
            ),
            splits=tuple(StoredRange(path, file_id, *cut) for cut in self.cuts) if self.is_stored else self._local(),
            output=OutputKind.RESULT if self.is_result else OutputKind.TEXT,
            output_path="" if self.is_result else f"/output/{self.key}",
            attempts_max=self.attempts_max,
            losses_max=self.losses_max,
            speculation=self.speculation,
            queue=self.queue,
            priority=self.priority,
            weight=self.weight,
            time_limit_s=self.time_limit_s,
            skipped_max=self.skipped_max,
        )

    def _local(self) -> tuple[Split, ...]:
        return tuple(
            LocalFiles(ANY_MACHINE, (LocalRange(f"/input/{index}", 0, len(text), "fingerprint"),))
            for index, text in enumerate(self.texts)
        )


def short_name(task: TaskId) -> str:
    """A task within its job: "s0_m2" is the third map of the first step."""
    return f"s{task.step}_{task.kind[0]}{task.index}"


# ── what a task does ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Product:
    """What a task made: the bytes of each partition (one, for a part), and its report."""

    partitions: tuple[bytes, ...]
    output: TaskOutput
    counters: Counters


def waver(product: Product, attempt: int) -> Product:
    """The same with a digest of this attempt alone: what machines see of code that is not deterministic."""
    digest = hashlib.sha256(product.output.digest + bytes([attempt % 256])).digest()
    return replace(product, output=replace(product.output, digest=digest))


def lines_of_split(data: bytes, offset: int, length: int) -> list[str]:
    """The lines that begin in a split. `data` holds the split, the byte before it, and the end of its last line."""
    at = data.index(b"\n") + 1 if offset and b"\n" in data else 0
    end = length + (1 if offset else 0)
    lines = []
    while at < min(end, len(data)):
        after = data.index(b"\n", at) + 1
        lines.append(data[at : after - 1].decode())
        at = after
    return lines


def run_first_map(job: SimJob, lines: list[str], skips: Iterable[int] = ()) -> Product:
    """Map a split of the input, without the lines at these positions."""
    skipped = sorted({position for position in skips if position < len(lines)})
    kept = [line for position, line in enumerate(lines) if position not in skipped]
    product = _map(job, 0, [(word, 1) for line in kept for word in line.split()], len(kept))
    return replace(product, output=replace(product.output, skipped=tuple(skipped)))


def run_later_map(job: SimJob, step: int, part: bytes) -> Product:
    """Map a part of the step before."""
    pairs = unpack(part)
    return _map(job, step, [(word[:-1] or word, count) for word, count in pairs], len(pairs))


def run_reduce(inputs: Iterable[bytes]) -> Product:
    """Sum what all maps have for one partition."""
    pairs = [pair for data in inputs for pair in unpack(data)]
    sums: Counter[str] = Counter()
    for word, count in pairs:
        sums[word] += count
    return _product([sorted(sums.items())], (("REDUCE_INPUT", len(pairs)), ("REDUCE_OUTPUT", len(sums))), is_part=True)


def _map(job: SimJob, step: int, pairs: list[Pair], records: int) -> Product:
    counts = (("MAP_INPUT", records), ("MAP_OUTPUT", len(pairs)))
    reducers = job.reducers[step]
    if reducers == 0:
        return _product([pairs], counts, is_part=True)
    partitions: list[list[Pair]] = [[] for _ in range(reducers)]
    for pair in pairs:
        partitions[zlib.crc32(pair[0].encode()) % reducers].append(pair)
    return _product([sorted(partition) for partition in partitions], counts, is_part=False)


def _product(partitions: list[list[Pair]], counts: tuple[tuple[str, int], ...], *, is_part: bool) -> Product:
    records = sum(map(len, partitions))
    return product_of(tuple(pack(pairs) for pairs in partitions), counts, records=records, is_part=is_part)


def product_of(data: tuple[bytes, ...], counts: tuple[tuple[str, int], ...], *, records: int, is_part: bool) -> Product:
    """What a task reports that made these bytes."""
    output = TaskOutput(
        digest=digest_of(data),
        bytes_total=sum(map(len, data)),
        records=records,
        partition_bytes_log2=b"" if is_part else bytes(len(piece).bit_length() for piece in data),
    )
    return Product(data, output, tuple((COUNTER_GROUP, name, count) for name, count in counts))


def digest_of(partitions: Iterable[bytes]) -> bytes:
    """What two attempts of one task agree on."""
    return hashlib.sha256(b"\0".join(partitions)).digest()


def pack(pairs: Iterable[Pair]) -> bytes:
    """Pairs as text, one a line."""
    return "".join(f"{word}\t{count}\n" for word, count in pairs).encode()


def unpack(data: bytes) -> list[Pair]:
    """The pairs that `pack` was given. Raises Corruption."""
    try:
        cells = [line.split("\t") for line in data.decode().splitlines()]
        return [(word, int(count)) for word, count in cells]
    except ValueError as error:
        raise Corruption(f"{data[:40]!r} is no list of pairs") from error


# ── what the job must give ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Expected:
    """The parts of the last step in order, and the counters over all steps that are not 0."""

    parts: tuple[bytes, ...]
    counters: Counters


def sequential(job: SimJob) -> Expected:
    """The job as one loop over its input, with no tasks, attempts or partitions on the way."""
    counters: Counter[str] = Counter()
    inputs: list[list[Pair]] = []
    left_out = {(line.task, line.position) for line in job.left_out}
    for split, split_lines in enumerate(lines_of_splits(job)):
        lines = [line for at, line in enumerate(split_lines) if (f"s0_m{split}", at) not in left_out]
        counters["MAP_INPUT"] += len(lines)
        inputs.append([(word, 1) for line in lines for word in line.split()])
    for step, reducers in enumerate(job.reducers):
        if step:
            counters["MAP_INPUT"] += sum(map(len, inputs))
            inputs = [[(word[:-1] or word, count) for word, count in pairs] for pairs in inputs]
        counters["MAP_OUTPUT"] += sum(map(len, inputs))
        if reducers:
            totals: Counter[str] = Counter()
            for word, count in (pair for pairs in inputs for pair in pairs):
                totals[word] += count
                counters["REDUCE_INPUT"] += 1
            counters["REDUCE_OUTPUT"] += len(totals)
            inputs = [
                [(word, totals[word]) for word in sorted(totals) if zlib.crc32(word.encode()) % reducers == part]
                for part in range(reducers)
            ]
    return Expected(
        tuple(pack(pairs) for pairs in inputs),
        tuple((COUNTER_GROUP, name, counters[name]) for name in sorted(counters) if counters[name]),
    )


def lines_of_splits(job: SimJob) -> list[list[str]]:
    """Each split's lines: of a stored input those that begin in it."""
    texts = [text.splitlines() for text in job.texts]
    if not job.is_stored:
        return texts
    splits: list[list[str]] = [[] for _ in range(job.splits_total)]
    begin = 0
    for line in (line for lines in texts for line in lines):
        splits[begin // job.split_bytes].append(line)
        begin += len(line.encode()) + 1
    return splits


def is_last(job: SimJob, task: TaskId) -> bool:
    """Whether the task's output is a part of the result."""
    if task.step != len(job.reducers) - 1:
        return False
    return task.kind is TaskKind.REDUCE or job.reducers[task.step] == 0
