"""The work of the bench, its inputs, and who does it: what `run.py` measures and `ours.py` runs."""

from __future__ import annotations

import importlib.util
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import gensort
import hadoop
from text_input import make_text

JOBS = HERE.parent.parent / "jobs"
OURS = "minireduce"
COLUMNS = " columns"
"""Behind our name: the columnar lane."""
WHOLE = " map_records"
"""Behind our name: the record lane with one loop over all records of a split."""

SLOTS = 2
SEED = 11
PAIRS_PER_MIB = 65_536  # lines of `key number`, about 16 bytes each
FILES = 64
ORDERS_PER_MIB, ORDERS_PER_USER = 60_000, 10
POINTS_PER_MIB = 100_000
EDGES_PER_MIB, PAGES_PER_EDGE = 65_536, 0.1
RECORDS_PER_MIB = (1 << 20) // gensort.RECORD_BYTES


@dataclass(frozen=True)
class Work:
    """One kind of work.

    `mebibytes` is about the size of its input at scale 1. `lanes` are our job files by what is put behind our name;
    iterations are programs, which `ours.py` runs. `inputs` are the names of a job's several inputs, each a file.
    """

    name: str
    title: str
    make_input: Callable[[Path, float], Path]
    mebibytes: float
    lanes: dict[str, Path] = field(default_factory=dict)
    is_program: bool = False
    reducers: int = SLOTS
    is_sorted: bool = False  # the output is checked by `gensort.check`, not against the others'
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Peer:
    """A peer: the package and the commands that it needs, and the work that it has a script for."""

    title: str
    script: str
    package: str
    works: frozenset[str]
    needs: tuple[str, ...] = ()
    has_warm: bool = True

    def missing(self, folder: Path) -> str:
        """What keeps it from running here, or nothing."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed"
        for command in self.needs:
            if shutil.which(command) is None:
                return f"there is no {command}"
        return hadoop.fetch(folder) if self.script == "hadoop.py" else ""


def text(folder: Path, mebibytes: float) -> Path:
    path = folder / f"text-{mebibytes:g}.txt"
    make_text(path, int(mebibytes * (1 << 20)))
    return path


def text_files(folder: Path, mebibytes: float) -> Path:
    """The text in files of equal numbers of bytes, cut at lines."""

    def write(target: Path) -> None:
        target.mkdir()
        with text(folder, mebibytes).open("rb") as source:
            size = source.seek(0, 2)
            source.seek(0)
            for number in range(FILES):
                end = size * (number + 1) // FILES
                with (target / f"file-{number:02}").open("wb") as out:
                    out.write(source.read(max(0, end - source.tell())))
                    out.write(source.readline())

    return _made(folder / f"files-{mebibytes:g}", write)


def pairs(folder: Path, mebibytes: float) -> Path:
    """Lines `key number`; a key for every three of them."""
    lines = int(mebibytes * PAIRS_PER_MIB)

    def write(target: Path) -> None:
        draw = random.Random(SEED)
        with target.open("w", encoding="ascii") as out:
            out.writelines(f"k{draw.randrange(lines // 3):08} {draw.randrange(10_000)}\n" for _ in range(lines))

    return _made(folder / f"pairs-{mebibytes:g}.txt", write)


def records(folder: Path, mebibytes: float) -> Path:
    count = int(mebibytes * RECORDS_PER_MIB)
    return _made(folder / f"records-{mebibytes:g}", lambda target: gensort.make(target, count, ascii=True))


def users_and_orders(folder: Path, mebibytes: float) -> Path:
    """Orders of users, a fifth of whom are not known."""
    orders = int(mebibytes * ORDERS_PER_MIB)
    users = orders // ORDERS_PER_USER

    def write(target: Path) -> None:
        target.mkdir()
        draw = random.Random(SEED)
        known = draw.sample(range(users), users * 4 // 5)
        with (target / "users.txt").open("w", encoding="ascii") as out:
            out.writelines(f"u{number:07} name{number * 7919 % users}\n" for number in known)
        with (target / "orders.txt").open("w", encoding="ascii") as out:
            out.writelines(f"u{draw.randrange(users):07} {draw.randrange(100_000)}\n" for _ in range(orders))

    return _made(folder / f"orders-{mebibytes:g}", write)


def points(folder: Path, mebibytes: float) -> Path:
    """Points of the plane around sixteen places."""

    def write(target: Path) -> None:
        draw = random.Random(SEED)
        places = [(draw.randrange(100_000), draw.randrange(100_000)) for _ in range(16)]
        with target.open("w", encoding="ascii") as out:
            for _ in range(int(mebibytes * POINTS_PER_MIB)):
                x, y = draw.choice(places)
                out.write(f"{int(draw.gauss(x, 5000))} {int(draw.gauss(y, 5000))}\n")

    return _made(folder / f"points-{mebibytes:g}.txt", write)


def edges(folder: Path, mebibytes: float) -> Path:
    """Links between pages; few are linked to by many."""
    count = int(mebibytes * EDGES_PER_MIB)
    pages = int(count * PAGES_PER_EDGE)

    def write(target: Path) -> None:
        draw = random.Random(SEED)
        with target.open("w", encoding="ascii") as out:
            for _ in range(count):
                popular = int(pages * draw.random() ** 3)
                out.write(f"p{draw.randrange(pages):07} p{popular:07}\n")

    return _made(folder / f"edges-{mebibytes:g}.txt", write)


def _made(path: Path, write: Callable[[Path], None]) -> Path:
    """`path`, written by `write` if it is not there; whole or not at all."""
    if not path.exists():
        draft = path.with_name(path.name + ".draft")
        if draft.is_dir():
            shutil.rmtree(draft)
        write(draft)
        draft.rename(path)
    return path


WORKS = (
    Work(
        "wordcount",
        "count words",
        text,
        256,
        {
            "": JOBS / "wordcount.py",
            WHOLE: HERE / "jobs" / "wordcount_whole.py",
            COLUMNS: JOBS / "wordcount_columns.py",
        },
    ),
    Work(
        "grep",
        "find lines",
        text,
        256,
        {
            "": HERE / "jobs" / "grep.py",
            WHOLE: HERE / "jobs" / "grep_whole.py",
            COLUMNS: HERE / "jobs" / "grep_columns.py",
        },
        reducers=0,
    ),
    Work("terasort", "sort records of 100 bytes", records, 477, {COLUMNS: JOBS / "terasort.py"}, is_sorted=True),
    Work(
        "inverted_index",
        "index the words of 64 files",
        text_files,
        64,
        {"": HERE / "jobs" / "inverted_index.py", COLUMNS: HERE / "jobs" / "inverted_index_columns.py"},
    ),
    Work(
        "join",
        "join orders with users",
        users_and_orders,
        64,
        {"": HERE / "jobs" / "join.py", COLUMNS: HERE / "jobs" / "join_columns.py"},
        inputs=("users", "orders"),
    ),
    Work(
        "group_by",
        "sum by a key for every three records",
        pairs,
        64,
        {"": HERE / "jobs" / "group_by.py", COLUMNS: HERE / "jobs" / "group_by_columns.py"},
    ),
    Work(
        "kmeans",
        "find 8 centres in 10 rounds",
        points,
        4,
        {"": JOBS / "kmeans.py", COLUMNS: JOBS / "kmeans_columns.py"},
        is_program=True,
    ),
    Work(
        "pagerank",
        "rank pages in 10 rounds",
        edges,
        8,
        {"": JOBS / "pagerank.py", COLUMNS: JOBS / "pagerank_columns.py"},
        is_program=True,
    ),
)
ALL = frozenset(work.name for work in WORKS)
PEERS = (
    Peer("script by hand", "plain.py", "", ALL),
    Peer("GNU coreutils", "coreutils.py", "", ALL - {"inverted_index", "kmeans", "pagerank"}),
    Peer("DuckDB", "duckdb_sql.py", "duckdb", ALL - {"kmeans"}),
    Peer("Polars", "polars_frames.py", "polars", ALL),
    Peer("Hadoop", "hadoop.py", "pyspark", frozenset({"wordcount", "terasort"}), has_warm=False),
    Peer("PySpark RDD", "pyspark_rdd.py", "pyspark", ALL, ("java",)),
    Peer("Spark DataFrame", "pyspark_dataframe.py", "pyspark", ALL - {"kmeans", "pagerank"}, ("java",)),
    Peer("Ray Data", "ray_data.py", "ray", ALL - {"inverted_index", "kmeans", "pagerank"}),
    Peer("Dask bag", "dask_bag.py", "dask", frozenset({"wordcount", "grep", "inverted_index", "group_by"})),
    Peer("mrjob", "mrjob_jobs.py", "mrjob", frozenset({"wordcount", "grep", "join", "group_by"})),
)
