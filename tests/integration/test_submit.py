"""`minireduce submit` end to end: the right pairs in the right place, and nothing left behind however it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

WORDCOUNT = Path(__file__).parents[2] / "jobs" / "wordcount.py"
PI = WORDCOUNT.with_name("pi.py")
SLOW_JOB = """
import os
import time

from minireduce import Job, Sum


def words(line):
    os.write(os.open(%r, os.O_WRONLY), b"mapping")
    time.sleep(600)
    yield line, 1


job = Job(words, Sum())
"""


def library(tmp_path: Path) -> tuple[list[Path], Counter[str]]:
    """Some files of the standard library, and an independent count of their words."""
    files = sorted(Path(os.__file__).parent.glob("[a-d]*.py"))
    assert len(files) > 20
    counts: Counter[str] = Counter()
    for path in files:
        for line in path.read_bytes().decode("utf-8-sig", "replace").split("\n"):
            counts.update(line.split())
    return files, counts


@pytest.mark.parametrize("flags", [["--inline"], ["--slots", "2"]], ids=["inline", "embedded"])
def test_words_are_counted_as_a_plain_counter_counts_them(minireduce, tmp_path: Path, flags: list[str]) -> None:
    files, counts = library(tmp_path)
    out = tmp_path / "out"
    ran = minireduce("submit", WORDCOUNT, *files, "-o", out, "--reducers", 3, *flags, MINIREDUCE_SPLIT_SIZE="100KiB")
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in out.iterdir()) == ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    found: dict[str, int] = {}
    for part in sorted(out.glob("part-*")):
        pairs = [line.split("\t") for line in part.read_text().splitlines()]
        keys = [key for key, _ in pairs]
        assert keys == sorted(keys)
        assert keys
        found |= {key: int(value) for key, value in pairs}
    assert found == counts


def test_inline_and_embedded_write_the_same_bytes(minireduce, tmp_path: Path) -> None:
    files, _ = library(tmp_path)
    for name, flags in (("inline", ["--inline"]), ("embedded", ["--slots", "2"])):
        ran = minireduce(
            "submit", WORDCOUNT, *files, "-o", name, "--reducers", 2, *flags, MINIREDUCE_SPLIT_SIZE="200KiB"
        )
        assert ran.status == 0, ran.err
    for part in ("part-00000", "part-00001", "_SUCCESS"):
        assert (tmp_path / "inline" / part).read_bytes() == (tmp_path / "embedded" / part).read_bytes()


def test_a_job_that_names_its_own_numbers_needs_no_input_anywhere(minireduce, tmp_path: Path) -> None:
    told = [
        minireduce("submit", PI, "-p", "points=5000", "-p", "splits=5", *flags).out
        for flags in (["--inline"], ["--slots", "2"])
    ]
    assert told[0] == told[1]
    assert told[0].startswith("pi\t3.1")


def test_overwriting_replaces_the_old_output_with_the_new_one(minireduce, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b a\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00007").write_text("old\t1\n")
    ran = minireduce("submit", WORDCOUNT, "in.txt", "-o", "out", "--overwrite")
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_SUCCESS", "part-00000"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "in.txt", "out", "temporary"]


def test_json_gives_typed_pairs_and_a_summary(minireduce, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b a\n")
    ran = minireduce("submit", WORDCOUNT, "in.txt", "--json", "--name", "letters")
    assert ran.status == 0, ran.err
    *pairs, summary = map(json.loads, ran.out.splitlines())
    assert pairs == [{"key": "a", "value": 2}, {"key": "b", "value": 1}]
    assert (summary["state"], summary["name"]) == ("succeeded", "letters")
    assert summary["counters"]["minireduce"]["MAP_INPUT_RECORDS"] == 1
    assert ran.err == ""


def test_parameters_reach_the_job(minireduce, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("import os\nx = 1\nimport sys\n")
    ran = minireduce("submit", WORDCOUNT.with_name("grep.py"), "in.txt", "-p", "pattern=^import", "-q")
    assert ran.status == 0, ran.err
    assert [line.split("\t")[1] for line in ran.out.splitlines()] == ["import os", "import sys"]
    assert ran.err == ""


def test_whoever_reads_only_the_head_of_the_output_gets_it(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{number:06d}\n" for number in range(100_000)))
    command = f"{sys.executable} -m minireduce.cli submit {WORDCOUNT} in.txt -q | head -n 1"
    ran = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    assert ran.stdout == b"000000\t1\n"
    assert b"Traceback" not in ran.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_command_that_is_ended_while_it_maps_leaves_no_process_and_no_file(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    os.mkfifo(tmp_path / "started")
    (tmp_path / "job.py").write_text(SLOW_JOB % str(tmp_path / "started"))
    (tmp_path / "in.txt").write_text("a\n")
    command = subprocess.Popen(
        [sys.executable, "-m", "minireduce.cli", "submit", "job.py", "in.txt", "-o", "out"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with (tmp_path / "started").open("rb") as started:  # returns once the map runs
        assert started.read(7) == b"mapping"
    family = descendants(command.pid)
    assert len(family) >= 3
    watched = [descriptor for pid in family if (descriptor := watch(pid)) is not None]
    command.send_signal(number)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == status, errors
    for descriptor in watched:
        assert select.select([descriptor], [], [], 30)[0], "a process outlived the command"
        os.close(descriptor)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (tmp_path / "out").exists()


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, however deep."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return [each for child in children for each in [child, *descendants(child)]]


def watch(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize(
    ("process", "told"),
    [
        ("minireduce-work", "worker-1 of this command's cluster has ended: status -9"),
        ("minireduce-mast", "the master at 127.0.0.1:"),
    ],
)
def test_a_daemon_that_is_killed_ends_the_command_with_what_happened(
    environment: dict[str, str], tmp_path: Path, process: str, told: str
) -> None:
    os.mkfifo(tmp_path / "started")
    (tmp_path / "job.py").write_text(SLOW_JOB % str(tmp_path / "started"))
    (tmp_path / "in.txt").write_text("a\n")
    command = subprocess.Popen(
        [sys.executable, "-m", "minireduce.cli", "submit", "job.py", "in.txt", "-o", "out", "-q"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with (tmp_path / "started").open("rb") as started:
        assert started.read(7) == b"mapping"
    family = descendants(command.pid)
    (daemon,) = [pid for pid in family if Path(f"/proc/{pid}/comm").read_text().strip() == process]
    watched = [descriptor for pid in family if (descriptor := watch(pid)) is not None]
    os.kill(daemon, signal.SIGKILL)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 4, errors
    assert told.encode() in errors
    for descriptor in watched:
        assert select.select([descriptor], [], [], 30)[0], "a process outlived the command"
        os.close(descriptor)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_inline_and_embedded_cut_an_input_of_some_mebibytes_into_the_same_parts(minireduce, tmp_path: Path) -> None:
    job, text = tmp_path / "upper.py", tmp_path / "in.txt"
    job.write_text("from minireduce import Job\n\ndef upper(line):\n    yield line.upper(), 1\n\njob = Job(upper)\n")
    text.write_text("".join(f"line {number} {'x' * 90}\n" for number in range(90_000)))  # 9 MB: a split for each core
    found = []
    for name, flags in (("inline", ["--inline"]), ("embedded", ["--slots", str(os.cpu_count())])):
        minireduce("submit", str(job), str(text), "-o", str(tmp_path / name), *flags)
        found.append({part.name: part.read_bytes() for part in sorted((tmp_path / name).glob("part-*"))})
    assert found[0] == found[1]
    assert len(found[0]) == min(os.cpu_count() or 1, 3)
