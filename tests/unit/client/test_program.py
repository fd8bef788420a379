"""Job objects as programs for other processes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import cloudpickle
import pytest

from minireduce import Job, Sum
from minireduce.client.program import pickle_program
from minireduce.errors import RequestError

FACTOR = 2


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, FACTOR


def test_functions_of_a_module_that_is_not_installed_travel_by_value() -> None:
    program = pickle_program(Job(words, Sum()))
    assert program.sha256 == hashlib.sha256(program.body).hexdigest()
    elsewhere = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import sys, cloudpickle; print(list(cloudpickle.loads(sys.stdin.buffer.read()).steps[0].map('a b')))",
        ],
        input=program.body,
        capture_output=True,
        check=True,
    )
    assert elsewhere.stdout == b"[('a', 2), ('b', 2)]\n"


def all_words(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    return ((word, FACTOR) for line in lines for word in line.split())


def test_so_do_those_of_the_other_ways_to_map() -> None:
    for role in ("map_records", "map_batch"):
        program = pickle_program(Job(**{role: all_words}, reduce=Sum()))
        read = f"list(cloudpickle.loads(sys.stdin.buffer.read()).steps[0].{role}(iter(['a b'])))"
        elsewhere = subprocess.run(
            [sys.executable, "-P", "-c", f"import sys, cloudpickle; print({read})"],
            input=program.body,
            capture_output=True,
            check=True,
        )
        assert elsewhere.stdout == b"[('a', 2), ('b', 2)]\n"


def test_functions_keep_the_name_of_their_file_for_tracebacks() -> None:
    job = cloudpickle.loads(pickle_program(Job(words, Sum())).body)
    assert job.steps[0].map.__code__.co_filename == words.__code__.co_filename == __file__


def test_a_job_that_holds_a_lock_cannot_travel_and_says_so() -> None:
    lock = threading.Lock()

    def guarded(line: str) -> Iterator[tuple[str, int]]:
        with lock:
            yield line, 1

    with pytest.raises(RequestError, match=r"the job guarded cannot be sent to other processes: TypeError"):
        pickle_program(Job(guarded, Sum()))
