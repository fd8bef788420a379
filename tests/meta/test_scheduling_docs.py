"""docs/scheduling.md leads to every page of `tests/scenarios`, and to no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_scenario_is_named_where_its_policy_is_explained():
    named = re.findall(r"\[`(\w+)`\]\(\.\./tests/scenarios/(\w+)\.txt\)", (ROOT / "docs" / "scheduling.md").read_text())
    assert all(shown == linked for shown, linked in named)
    assert {shown for shown, _ in named} == {page.stem for page in (ROOT / "tests" / "scenarios").glob("*.txt")}
