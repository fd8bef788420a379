"""`cluster up`, jobs on it, and `cluster down`: as separate commands, the way people type them."""

from __future__ import annotations

import os
import select
import signal
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minireduce.auth import tokens

WORDCOUNT = Path(__file__).parents[2] / "jobs" / "wordcount.py"


@pytest.fixture
def address(minireduce) -> Iterator[str]:
    """A cluster of two workers, started and ended by commands."""
    started = minireduce("cluster", "up", "-n", 2, "--port", 0, "--http-port", 0, "--json")
    assert started.status == 0, started.err
    yield started.json["address"]
    ended = minireduce("cluster", "down", "--json")
    assert ended.status == 0, ended.err
    assert [each["name"] for each in ended.json["daemons"] if _runs(each["pid"])] == []
    assert minireduce("cluster", "down").status == 2


def _runs(pid: int) -> bool:
    """Whether there is more of this process than an exit status that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_day_in_the_life_of_a_cluster(minireduce, address: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b a\n")
    workers = minireduce("cluster", "workers", "--master", address, "--json").json
    assert [each["state"] for each in workers] == ["live", "live"]
    assert [each["slots"] for each in workers] == [max(1, (os.cpu_count() or 1) // 2)] * 2

    again = minireduce("cluster", "up", "--port", 0, "--http-port", 0)
    assert again.status == 2
    assert f"a cluster runs at {address}" in again.err

    ran = minireduce("submit", WORDCOUNT, "in.txt", "-o", "out", MINIREDUCE_MASTER=address)
    assert ran.status == 0, ran.err
    assert (tmp_path / "out" / "part-00000").read_text() == "a\t2\nb\t1\n"

    detached = minireduce("--master", address, "submit", WORDCOUNT, "in.txt", "--detach")
    assert detached.status == 0, detached.err
    job = detached.out.strip()
    assert minireduce("wait", job, "--master", address).status == 0
    assert minireduce("status", "@", "--master", address, "--json").json["job"] == job
    assert [each["state"] for each in minireduce("jobs", "--master", address, "--json").json] == ["succeeded"] * 2
    counted = minireduce("counters", job, "--master", address, "--json").json
    assert counted["minireduce"]["MAP_INPUT_RECORDS"] == 1
    assert minireduce("logs", job, "--master", address).out == "2 attempts more, which printed nothing\n"
    assert minireduce("doctor", "--master", address).status == 0


def test_a_cluster_whose_master_was_killed_is_told_from_one_that_runs(minireduce) -> None:
    started = minireduce("cluster", "up", "-n", 1, "--port", 0, "--http-port", 0, "--json")
    assert started.status == 0, started.err
    master = next(each["pid"] for each in started.json["daemons"] if each["name"] == "master")
    ending = os.pidfd_open(master)
    os.kill(master, signal.SIGKILL)
    select.select([ending], [], [])
    os.close(ending)
    again = minireduce("cluster", "up", "--port", 0, "--http-port", 0)
    assert again.status == 2
    assert "master ended, and the others run" in again.err
    assert minireduce("cluster", "down").status == 0


def test_stored_files_are_input_and_come_out_as_they_went_in(minireduce, address: str, tmp_path: Path) -> None:
    lines = [f"line {number % 1000:03d} of many\n" for number in range(20_000)]
    (tmp_path / "in.txt").write_text("".join(lines))
    stored = minireduce("fs", "put", "in.txt", "/books/in.txt", "--block-size", "64KiB", "--master", address)
    assert stored.status == 0, stored.err
    ran = minireduce(
        "submit", WORDCOUNT, "mr:///books", "-o", "out", "--master", address, "--reducers", 1,
        MINIREDUCE_SPLIT_SIZE="50KiB",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    pairs = dict(line.split("\t") for line in (tmp_path / "out" / "part-00000").read_text().splitlines())
    assert pairs == {f"{number:03d}": "20" for number in range(1000)} | dict.fromkeys(("line", "of", "many"), "20000")
    assert minireduce("fs", "cat", "/books/in.txt", "--master", address).out == "".join(lines)
    missing = minireduce("submit", WORDCOUNT, "mr:///nowhere", "--master", address)
    assert missing.status == 2


def test_an_output_in_the_block_store_appears_whole_and_is_replaced_at_once(
    minireduce, address: str, tmp_path: Path
) -> None:
    def submit(text: str, *flags: str):
        (tmp_path / "in.txt").write_text(text)
        return minireduce("submit", WORDCOUNT, "in.txt", "-o", "mr:///out/counts", "--master", address, *flags)

    def stored() -> dict[str, str]:
        listed = minireduce("fs", "ls", "-R", "-a", "/out", "--master", address, "--json").json
        paths = [each["path"] for each in listed if not each["is_directory"]]
        return {path: minireduce("fs", "cat", path, "--master", address).out for path in paths}

    first = submit("a b a\n")
    assert first.status == 0, first.err
    assert stored() == {"/out/counts/_SUCCESS": "", "/out/counts/part-00000": "a\t2\nb\t1\n"}
    taken = submit("c\n")
    assert taken.status == 2
    assert "output mr:///out/counts exists" in taken.err
    second = submit("c\n", "--overwrite")
    assert second.status == 0, second.err
    assert stored() == {"/out/counts/_SUCCESS": "", "/out/counts/part-00000": "c\t1\n"}
    again = minireduce("submit", WORDCOUNT, "mr:///out/counts", "--overwrite", "-o", "mr:///out", "--master", address)
    assert again.status == 2
    assert "holds the input /out/counts/part-00000" in again.err


def test_the_block_store_needs_a_cluster_that_stays(minireduce, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    for flags in (["--inline"], []):
        for arguments in (["in.txt", "-o", "mr:///out"], ["mr:///in.txt"]):
            ran = minireduce("submit", WORDCOUNT, *arguments, *flags)
            assert ran.status == 2
            assert "lies in a block store" in ran.err


def test_every_file_command_answers_in_json(minireduce, address: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b a\n")

    def answer(*arguments: object) -> Any:
        ran = minireduce("fs", *arguments, "--json", "--master", address)
        assert ran.status == 0, ran.err
        return ran.json

    assert answer("mkdir", "-p", "/books/old")[0]["path"] == "/books/old"
    assert answer("put", "in.txt", "/books/in.txt")["bytes"] == 6
    assert answer("mv", "/books/in.txt", "/books/old")[0]["path"] == "/books/old/in.txt"
    assert [each["path"] for each in answer("ls", "/books")] == ["/books/old"]
    assert answer("stat", "/books/old/in.txt")[0]["length"] == 6
    assert b64decode(answer("cat", "/books/old/in.txt")["base64"]) == b"a b a\n"
    assert answer("get", "/books/old/in.txt", "copy.txt")["bytes"] == 6
    assert (tmp_path / "copy.txt").read_text() == "a b a\n"
    assert answer("rm", "-r", "/books")["removed"] >= 2


def test_a_wrong_token_is_refused(minireduce, address: str) -> None:
    stranger = tokens.generate().require_client()
    ran = minireduce("jobs", "--master", address, MINIREDUCE_TOKEN=stranger)
    assert ran.status == 4
    assert ran.err.startswith("error: ")
    assert "hint: " in ran.err
    assert stranger not in ran.err


def test_detaching_from_a_local_output_or_an_embedded_cluster_is_refused_with_a_hint(
    minireduce, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    for arguments, words in ((["-o", "out"], "leave -o out"), ([], "name it with --master")):
        ran = minireduce("submit", WORDCOUNT, "in.txt", "--detach", *arguments)
        assert ran.status == 2
        assert words in ran.err


def test_killing_a_job_ends_its_waiting_command_with_3(minireduce, address: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "job.py").write_text(
        "import time\nfrom minireduce import Job, Sum\n"
        "def words(line):\n    time.sleep(600)\n    yield line, 1\n"
        "job = Job(words, Sum())\n"
    )
    job = minireduce("--master", address, "submit", "job.py", "in.txt", "--detach").out.strip()
    assert minireduce("kill", job, "--master", address, "--json").json == {"job": job, "state": "killed"}
    waited = minireduce("wait", job, "--master", address)
    assert waited.status == 3
    assert f"{job} was killed" in waited.err
