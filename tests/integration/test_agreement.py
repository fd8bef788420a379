"""The same job gives the same in three places: in the plain sequential run, inline, and on a real cluster.

Keys and values of every kind travel: through the sort, a map output on disk, HTTP, the merge and a typed part. What
comes out is compared with its types, and the parts of the two runs of the engine byte by byte.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Collect, Job, JobResult, LocalCluster
from minireduce.testing.sequential import run_sequentially

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-8))])
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    "bytes": st.binary(max_size=3),
    "int": st.one_of(st.integers(-300, 300), st.integers(-(1 << 200), 1 << 200)),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "date": st.dates(),
    "naive datetime": st.datetimes(),
    "aware datetime": st.datetimes(timezones=ZONES).filter(lambda at: 2 < at.year < 9998),
}
KEYS["tuple"] = st.tuples(*(st.one_of(st.none(), kind) for kind in KEYS.values()))
VALUES = st.recursive(
    st.one_of(*KEYS.values(), st.none(), st.decimals(allow_nan=False), st.complex_numbers(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.tuples(inner), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=3,
)
REDUCERS = 3


def unpacked(line: str) -> Iterator[tuple[Any, Any]]:
    yield pickle.loads(base64.b64decode(line))


def listed(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    yield key, list(values)


def all_unpacked(lines: Iterator[str]) -> Iterator[tuple[Any, Any]]:
    return (pickle.loads(packed) for packed in map(base64.b64decode, lines))


JOBS = {
    "reduce": Job(unpacked, listed),
    "aggregation": Job(unpacked, Collect()),
    "map only": Job(unpacked),
    "map over all records": Job(map_records=all_unpacked, reduce=listed),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("MINIREDUCE_MASTER", raising=False)
        with LocalCluster(workers=2, slots=1) as started:
            yield started


def typed(pairs: list[tuple[Any, Any]]) -> list[str]:
    """Pairs with their types, since 1 == 1.0 == True; partitions come in any order of keys."""
    return sorted(repr((one_of_equal(key), value, type(value))) for key, value in pairs)


def one_of_equal(key: Any) -> Any:
    """Which of several equal keys stands for them is nobody's promise: -0.0, an instant in another zone, a fold."""
    if isinstance(key, tuple):
        return tuple(map(one_of_equal, key))
    if isinstance(key, datetime):
        return (key if key.tzinfo is None else key.astimezone(UTC)).replace(fold=0)
    return key + 0.0 if isinstance(key, float) else key


@pytest.mark.parametrize("job", list(JOBS))
@pytest.mark.parametrize("kind", list(KEYS))
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_sequential_run_inline_and_cluster_agree(
    kind: str, job: str, cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    key = st.one_of(st.none(), KEYS[kind], KEYS[kind], KEYS[kind])
    pairs = data.draw(st.lists(st.tuples(key, VALUES), min_size=1, max_size=30))
    lines = [base64.b64encode(pickle.dumps(pair)).decode() for pair in pairs + pairs[::2]]
    folder = tmp_path_factory.mktemp("agree")
    for index in range(2):
        (folder / f"{index}.txt").write_text("".join(f"{line}\n" for line in lines[index::2]))
    options = {} if job == "map only" else {"reducers": REDUCERS}
    split_size = max(1024, sum(map(len, lines)) // 2)
    inline = JOBS[job].run(folder, inline=True, split_size=split_size, **options)
    real = JOBS[job].run(folder, master=cluster, split_size=split_size, **options)
    try:
        expected = run_sequentially(JOBS[job], lines[::2] + lines[1::2])
        assert typed(list(real)) == typed(expected)
        assert parts_of(real) == parts_of(inline)
    finally:
        inline.close()
        real.close()


def parts_of(result: JobResult[Any, Any]) -> list[bytes]:
    """The typed parts, byte by byte."""
    assert result._parts is not None
    return [result._part(index).read_bytes() for index in range(result._parts.count)]
