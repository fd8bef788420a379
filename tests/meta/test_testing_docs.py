"""docs/testing.md says what there is: every planted bug, and an example that runs."""

from __future__ import annotations

import re
from pathlib import Path

from minireduce.testing.planted import PLANTED

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_every_planted_bug_is_in_the_table_and_no_other():
    table = re.search(r"\| planted bug \|.*?\n\n", PAGE.read_text(), re.DOTALL)
    assert table is not None
    named = [line.split("|")[1].strip() for line in table[0].splitlines()[2:] if line]
    assert named == [bug.name for bug in PLANTED]


def test_the_example_runs_and_its_job_is_judged():
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, object] = {}
    exec(compile(example[1], str(PAGE), "exec"), names)
    assert names["client"].obtained == (b"", b"a\t2\nb\t2\n")
