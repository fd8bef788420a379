"""A script that calls modules beside it runs on a cluster as it does in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import functools
import helpers_of_script
from helpers_of_script import shout
from minireduce import Job, Sum

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@functools.lru_cache(maxsize=3, typed=True)
def few(n):
    return n

def words(line):
    assert few.cache_parameters() == {"maxsize": 3, "typed": True}
    yield shout(line), helpers_of_script.length(line) + fib(few(30)) - 832040

if __name__ == "__main__":
    job = Job(words, Sum())
    assert fib(30) == 832040
    print(list(job.run("in.txt")), list(job.run("in.txt", inline=True)))
"""

HELPERS = """
import functools
from words_of_script import ENDING

@functools.cache
def length(line):
    return len(line)

def shout(line):
    return line.upper() + ENDING
"""


def test_modules_beside_a_script_and_cached_functions_go_along(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helpers_of_script.py").write_text(HELPERS)
    (tmp_path / "words_of_script.py").write_text("ENDING = '!'\n")
    (tmp_path / "in.txt").write_text("ab\nabc\n")
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == "[('AB!', 2), ('ABC!', 3)] [('AB!', 2), ('ABC!', 3)]\n", ran.stderr
