"""Several inputs on a real cluster, from Python and from the command line: the same to the byte as in one process."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from minireduce import Csv, Identity, Job, JobFailed, LocalCluster, Range, Sum, Text, columns
from minireduce.errors import RequestError

JOB_FILE = Path(__file__).parents[2] / "jobs" / "join.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("MINIREDUCE_MASTER", raising=False)
        with LocalCluster(workers=2, slots=1) as started:
            yield started


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    chance = random.Random(7)
    folder = tmp_path_factory.mktemp("tables")
    (folder / "orders").mkdir()
    users = [(f"u{n}", f'Name {n}, "{n}"') for n in range(300)]
    _write(folder / "users.csv", ("id", "name"), users)
    for index in range(2):
        orders = [(f"u{chance.randrange(400)}", f"item {chance.randrange(50)}") for _ in range(3000)]
        _write(folder / "orders" / f"{index}.csv", ("user", "item"), orders)
    return {"users": folder / "users.csv", "orders": folder / "orders"}


def _write(path: Path, header: tuple[str, ...], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def oracle(tables: dict[str, Path]) -> list[tuple[str, str]]:
    names = {row["id"]: row["name"] for row in rows(tables["users"])}
    orders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(tables["orders"].iterdir()):
        for row in rows(path):
            orders[row["user"]].append(row["item"])
    return [(names[user], item) for user in sorted(orders) if user in names for item in orders[user]]


def of_user(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield row["id"], row["name"]


def of_order(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield row["user"], row["item"]


def join(_: str, users: Collection[str], orders: Iterator[str]) -> Iterator[tuple[str, str]]:
    yield from ((name, item) for item in orders for name in users)


JOIN: Job[str, str] = Job({"users": of_user, "orders": of_order}, join, input=Csv())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def test_a_join_gives_the_same_in_plain_python_inline_and_on_a_cluster(
    tables: dict[str, Path], cluster: LocalCluster, tmp_path: Path
) -> None:
    named = {name: str(path) for name, path in tables.items()}
    options: dict[str, Any] = {"reducers": 3, "split_size": "16KiB"}
    on_cluster = JOIN.run(named, master=cluster, **options)
    assert sorted(on_cluster) == sorted(oracle(tables))
    assert list(JOIN.run(named, inline=True, **options)) == list(on_cluster)
    JOIN.run(named, inline=True, output=tmp_path / "inline", **options)
    JOIN.run(named, master=cluster, output=tmp_path / "cluster", **options)
    assert bytes_of(tmp_path / "inline") == bytes_of(tmp_path / "cluster") != {}
    assert list(JOIN.run(named, inline=True, reducers=1)) == oracle(tables)


def test_stored_and_local_files_and_results_are_joined_in_one_job(
    tables: dict[str, Path], cluster: LocalCluster
) -> None:
    with cluster.connect() as connection:
        connection.fs.put(tables["users"], "/users.csv")
    users = Job(of_user, input=Csv()).run("mr:///users.csv", master=cluster)
    over_result: Job[str, str] = Job({"users": None, "orders": of_order}, join, input={"users": users, "orders": Csv()})
    found = over_result.run({"orders": tables["orders"]}, master=cluster)
    assert sorted(found) == sorted(oracle(tables))
    stored = JOIN.run({"users": "mr:///users.csv", "orders": tables["orders"]}, master=cluster, split_size="8KiB")
    assert sorted(stored) == sorted(oracle(tables))


def test_rows_and_keys_that_cannot_be_computed_are_left_out_of_both_inputs(
    tables: dict[str, Path], cluster: LocalCluster, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,name\nu1,one,more\nu2,two\nu3,three\n")

    def picky(key: str, users: Collection[str], orders: Iterator[str]) -> Iterator[tuple[str, str]]:
        if key == "u3":
            raise ValueError(key)
        yield from join(key, users, orders)

    job: Job[str, str] = Job({"users": of_user, "orders": of_order}, picky, input=Csv())
    named = {"users": bad, "orders": tables["orders"]}
    with pytest.raises(JobFailed, match=r"bad.csv at offset 8 has 3 fields"):
        job.run(named, master=cluster)
    result = job.run(named, master=cluster, skip_bad_records=2)
    orders = [row["item"] for path in sorted(tables["orders"].iterdir()) for row in rows(path) if row["user"] == "u2"]
    assert list(result) == [("two", item) for item in orders]
    assert len(result.skipped) == 2


def submit(*arguments: object, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minireduce.cli", "submit", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("flags", [(), ("--inline",)], ids=["embedded", "inline"])
def test_inputs_are_named_on_the_command_line(
    tables: dict[str, Path], tmp_path: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    first, second = sorted(tables["orders"].iterdir())
    done = submit(JOB_FILE, f"users={tables['users']}", f"orders={first}", f"orders={second}", "--reducers", 1, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{name}\t{item}\n" for name, item in oracle(tables))


def test_one_of_the_inputs_may_come_on_standard_input(
    tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    orders = f"orders={tables['orders']}"
    done = submit(JOB_FILE, "users=-", orders, "--inline", "--reducers", 1, given=tables["users"].read_text())
    assert done.stdout == "".join(f"{name}\t{item}\n" for name, item in oracle(tables)), done.stderr


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (("users=x",), "no input is named for orders of join"),
        (("users=x", "order=x"), "join has no input order=x"),
        (("x",), "join has no input x"),
        (("users=",), "join has no input users="),
    ],
)
def test_wrong_names_on_the_command_line_are_refused(
    tmp_path: Path, written: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("x").write_text("id,name\n")
    done = submit(JOB_FILE, *written, "--inline")
    assert done.returncode == 2
    assert said in done.stderr


def test_the_files_of_a_bad_name_are_told(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        JOIN.run({"users": tmp_path / "none.csv", "orders": tmp_path / "none.csv"}, master=cluster)


def users_batch(batch: Any) -> Any:
    return columns.pairs(batch["id"], batch["name"])


def orders_batch(batch: Any) -> Any:
    return columns.pairs(batch["user"], batch["item"])


BY_BATCH: Job[str, str] = Job(map_batch={"users": users_batch, "orders": orders_batch}, reduce=join, input=Csv())


def join_batches(users: Any, orders: Any) -> Any:
    found = columns.join(users, orders)
    return columns.pairs(found["left"], found["right"])


BY_GROUPS: Job[str, str] = Job(
    map_batch={"users": users_batch, "orders": orders_batch}, reduce_batch=join_batches, input=Csv()
)
MIXED: Job[str, str] = Job({"users": of_user}, join, map_batch={"orders": orders_batch}, input=Csv())


@pytest.mark.parametrize("job", [BY_BATCH, BY_GROUPS, MIXED], ids=["batches", "groups", "records and batches"])
def test_inputs_that_are_mapped_in_batches_join_to_the_same_bytes(
    job: Job[str, str], tables: dict[str, Path], cluster: LocalCluster, tmp_path: Path
) -> None:
    named = {name: str(path) for name, path in tables.items()}
    options: dict[str, Any] = {"reducers": 3, "split_size": "16KiB"}
    JOIN.run(named, inline=True, output=tmp_path / "records", **options)
    job.run(named, inline=True, output=tmp_path / "inline", **options)
    job.run(named, master=cluster, output=tmp_path / "cluster", **options)
    assert bytes_of(tmp_path / "inline") == bytes_of(tmp_path / "cluster") == bytes_of(tmp_path / "records") != {}


def test_a_row_that_an_inputs_batches_cannot_compute_is_left_out(
    tables: dict[str, Path], cluster: LocalCluster, tmp_path: Path
) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("1\n2\nthree\n4\n")

    def of_numbers(batch: Any) -> Any:
        return columns.pairs(batch["line"], batch["line"].cast("int64"))

    job: Job[str, Any] = Job(
        {"users": lambda row: [(row["id"], 1)]},
        Sum(),
        map_batch={"numbers": of_numbers},
        input={"users": Csv(), "numbers": Text()},
    )
    named = {"users": tables["users"], "numbers": numbers}
    with pytest.raises(JobFailed, match=r"'three' of .*numbers\.txt"):
        job.run(named, inline=True)
    expected = sorted([*((row["id"], 1) for row in rows(tables["users"])), ("1", 1), ("2", 2), ("4", 4)])
    for where in ({"inline": True}, {"master": cluster}):
        found = job.run(named, skip_bad_records=1, **where)
        assert list(found) == expected
        assert [each.record for each in found.skipped] == ["three"]


def test_a_range_is_sampled_from_inputs_mapped_in_batches(tables: dict[str, Path], cluster: LocalCluster) -> None:
    job: Job[Any, Any] = Job(
        map_batch={"users": users_batch, "orders": orders_batch}, reduce=Identity(), input=Csv(), partition=Range()
    )
    named = {name: str(path) for name, path in tables.items()}
    found = [key for key, _ in job.run(named, master=cluster, reducers=3, split_size="16KiB")]
    assert found == sorted(found)
    assert len(found) == 6300


def test_an_earlier_result_is_sorted_through_all_parts(tables: dict[str, Path], cluster: LocalCluster) -> None:
    names = JOIN.run({name: str(path) for name, path in tables.items()}, master=cluster, reducers=3)
    job: Job[str, str] = Job(lambda name, item: [(item, name)], Identity(), input=names, partition=Range())
    found = list(job.run(master=cluster, reducers=3))
    assert [item for item, _ in found] == sorted(item for _, item in oracle(tables))
    assert sorted(found) == sorted((item, name) for name, item in oracle(tables))
