"""What is said of the two lanes holds: files that a reader is sent to are there, and the examples for columns run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def named_files():
    way = re.search(r"^## Way of a pair\n(.*?)^## ", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL | re.MULTILINE)
    assert way is not None
    return re.findall(r"`([\w/]+\.py)`", way[1])


def given_by(marker, records):
    """What `Job.test` gives of the example in which this stands."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "columns.md").read_text(), re.DOTALL)
    (example,) = [each for each in examples if marker in each]
    names = {}
    exec(example, names)
    return names["job"].test(records)


def test_the_way_of_a_pair_names_files_that_are_there():
    engine = ROOT / "minireduce" / "engine"
    files = named_files()
    assert {"map.py", "merge.py", "reduce.py"} <= set(files)
    assert [name for name in files if not (engine / name).exists() and not (ROOT / "minireduce" / name).exists()] == []


def test_the_map_over_all_records_finds_its_lines():
    assert given_by("map_records=", ["warnings.warn()", "pass"]) == [("warnings.warn()", None)]


def test_the_map_of_batches_counts_words():
    assert given_by("def words", ["a b", "a"]) == [("a", 2), ("b", 1)]


def test_the_reduce_of_batches_spreads():
    records = [{"user": "a", "n": 3}, {"user": "a", "n": 9}, {"user": "b", "n": 9}]
    assert given_by("def spread", records) == [("a", 6), ("b", 0)]


def test_the_join_of_batches_names_orders():
    users = [{"id": "1", "name": "ann"}, {"id": "2", "name": "bob"}]
    orders = [{"user": "1", "item": "pen"}, {"user": "1", "item": "ink"}]
    assert given_by("def named", {"users": users, "orders": orders}) == [("ann", "pen"), ("ann", "ink")]
