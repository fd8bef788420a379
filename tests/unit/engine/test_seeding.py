"""Chance falls the same way whether numpy's generators were imported before or are at their first use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

DRAWN = """
import json, random, sys
import numpy as np
from minireduce.engine.seeding import seed, seeded

def drawn():
    return [random.random(), float(np.random.rand())]

def is_seen():
    return "numpy.random" in sys.modules
"""


def drawn(script: str) -> object:
    """What a fresh Python that runs this says."""
    command = [sys.executable, "-c", f"{DRAWN}\n{script}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_numpy_draws_the_same_imported_before_or_after() -> None:
    after = drawn("seed('a'); seed('b'); before = is_seen(); print(json.dumps([before, drawn(), drawn()]))")
    before = drawn("import numpy.random; seed('b'); print(json.dumps([is_seen(), drawn(), drawn()]))")
    assert isinstance(after, list)
    assert isinstance(before, list)
    assert (after[0], before[0]) == (False, True)
    assert after[1:] == before[1:]
    assert after[1] != after[2]


def test_numpy_is_seeded_again_once_it_is_there() -> None:
    first, again, other = drawn(
        "seed('a'); first = drawn(); seed('a'); again = drawn(); seed('b'); print(json.dumps([first, again, drawn()]))"
    )  # type: ignore[misc]
    assert first == again != other


@pytest.mark.parametrize("imported", ["", "import numpy.random; "])
def test_what_is_drawn_after_a_seeded_block_is_not_what_the_seed_gives(imported: str) -> None:
    within, after, seeded = drawn(
        f"{imported}block = seeded('a'); block.__enter__(); within = drawn(); block.__exit__(None, None, None)\n"
        "after = drawn(); seed('a'); drawn(); print(json.dumps([within, after, drawn()]))"
    )  # type: ignore[misc]
    assert after[0] != seeded[0]
    assert after[1] != seeded[1]
    assert within not in (after, seeded)


def test_a_seeded_block_in_which_nobody_draws_leaves_nothing_behind() -> None:
    script = "import gc; before = list(sys.meta_path)\nwith seeded('a'):\n    pass\n"
    assert drawn(script + "print(json.dumps([is_seen(), sys.meta_path == before]))") == [False, True]


def test_the_module_looks_as_if_nobody_had_been_there() -> None:
    script = "seed('a'); from numpy.random import mtrand; module = sys.modules['numpy.random']\n"
    assert drawn(script + "print(json.dumps(type(module.__loader__).__name__))") == "SourceFileLoader"
