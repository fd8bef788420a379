"""Jobs over results of earlier ones: `jobs/pagerank.py` and `jobs/kmeans.py` beside plain loops; what is refused."""

from __future__ import annotations

import os
import random
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minireduce import Bytes, Job, LocalCluster, Pairs, Sum
from minireduce.client.result import JobResult
from minireduce.errors import RequestError

JOBS = Path(__file__).resolve().parents[2] / "jobs"
WHERE = ["inline", "embedded", "cluster"]
ONE = 10**9


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def swapped(word: str, count: int) -> Iterator[tuple[int, str]]:
    yield count, word


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("MINIREDUCE_MASTER", raising=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(workers=2, slots=1) as started:
        yield started


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "in.txt"
    path.write_text("a b a\nb a\nc\n")
    return str(path)


def options(where: str, cluster: LocalCluster) -> dict[str, Any]:
    return {"inline": {"inline": True}, "embedded": {"slots": 1}, "cluster": {"master": cluster}}[where]


def plain_ranks(edges: list[tuple[str, str]], iterations: int) -> dict[str, int]:
    links: defaultdict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        links[source].append(target)
    ranks = dict.fromkeys(links, ONE)
    for _ in range(iterations):
        shares = dict.fromkeys({*links, *ranks}, 0)
        for page, targets in links.items():
            for target in targets:
                shares[target] = shares.get(target, 0) + ranks[page] // len(targets)
        ranks = {page: ONE * 15 // 100 + share * 85 // 100 for page, share in shares.items()}
    return ranks


def plain_centres(points: list[tuple[int, ...]], count: int, iterations: int) -> list[tuple[float, ...]]:
    centres: list[tuple[float, ...]] = list(points[:count])
    for _ in range(iterations):
        near: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
        for point in points:
            distances = [sum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) for centre in centres]
            near[distances.index(min(distances))].append(point)
        for number, members in near.items():
            centres[number] = tuple(sum(column) / len(members) for column in zip(*members, strict=True))
    return centres


@pytest.mark.parametrize("where", ["inline", "cluster"])
@pytest.mark.parametrize("job", ["pagerank.py", "pagerank_columns.py"])
def test_pages_are_ranked_as_by_a_plain_loop(job: str, where: str, cluster: LocalCluster, tmp_path: Path) -> None:
    draw = random.Random(5)
    edges = [(f"p{int(draw.paretovariate(1))}", f"p{draw.randrange(60)}") for _ in range(400)]
    path = tmp_path / "edges"
    path.write_text("".join(f"{source} {target}\n" for source, target in edges))
    program = runpy.run_path(str(JOBS / job))
    pages = program["rank_pages"](str(path), 3, reducers=2, **options(where, cluster))
    ranks = program["whole"].run(pages, **options(where, cluster))
    assert dict(ranks) == plain_ranks(edges, 3)
    ranks.close()
    pages.close()


@pytest.mark.parametrize("where", ["inline", "cluster"])
@pytest.mark.parametrize("job", ["kmeans.py", "kmeans_columns.py"])
def test_centres_are_found_as_by_a_plain_loop(job: str, where: str, cluster: LocalCluster, tmp_path: Path) -> None:
    draw = random.Random(6)
    middles = [(0, 0), (900, 100), (400, 800)]
    points = [tuple(int(draw.gauss(at, 60)) for at in draw.choice(middles)) for _ in range(500)]
    path = tmp_path / "points"
    path.write_text("".join(f"{x} {y}\n" for x, y in points))
    find_centres = runpy.run_path(str(JOBS / job))["find_centres"]
    assert find_centres(str(path), 3, 4, **options(where, cluster)) == plain_centres(points, 3, 4)


@pytest.mark.parametrize("where", WHERE)
def test_a_result_is_an_input_named_by_the_job_or_given_to_run(where: str, cluster: LocalCluster, text: str) -> None:
    counts: JobResult[str, int] = Job(words, Sum()).run(text, reducers=3, **options(where, cluster))
    for result in (
        Job(swapped, input=Pairs()).run(counts, **options(where, cluster)),
        Job(swapped, input=counts).run(**options(where, cluster)),
        Job(swapped, input=Pairs()).run(counts, **options(where, cluster)),  # as often as wanted
    ):
        assert sorted(result) == [(1, "c"), (2, "b"), (3, "a")]
        result.close()
    counts.close()


def test_each_part_of_a_result_is_a_task_and_empty_parts_are_none(text: str) -> None:
    counts: JobResult[str, int] = Job(words, Sum(), partition=lambda key, _: 0 if key == "a" else 2).run(
        text, reducers=4, inline=True
    )
    assert sum(path.stat().st_size > 0 for path in counts.part_files()) == 2
    both = Job(swapped, input=Pairs()).run(counts, counts, inline=True)
    assert sorted(both) == [(1, "c"), (1, "c"), (2, "b"), (2, "b"), (3, "a"), (3, "a")]


def test_a_result_without_pairs_gives_one_without_pairs(tmp_path: Path, cluster: LocalCluster) -> None:
    path = tmp_path / "empty"
    path.write_text("\n")
    counts = Job(words, Sum()).run(str(path), master=cluster)
    assert list(Job(swapped, Sum(), input=counts).run(master=cluster)) == []


def test_what_is_no_input_for_a_job_is_refused_with_what_to_do(text: str, tmp_path: Path) -> None:
    counts: JobResult[str, int] = Job(words, Sum()).run(text, inline=True)
    over_pairs = Job(swapped, input=Pairs())
    with pytest.raises(RequestError, match=r"reads pairs of an earlier job, and .*in\.txt is none"):
        over_pairs.run(text, inline=True)
    with pytest.raises(RequestError, match="and none is given"):
        over_pairs.run(inline=True)
    with pytest.raises(RequestError, match=r"reads files, and a result holds pairs.*\n?.*input=Pairs\(\)"):
        Job(words, Sum(), input=Bytes()).run(counts, inline=True)
    with pytest.raises(RequestError, match="leave one of them out"):
        Job(swapped, input=counts).run(counts, inline=True)
    written = Job(words, Sum()).run(text, output=tmp_path / "out", inline=True)
    with pytest.raises(RequestError, match="wrote text"):
        over_pairs.run(written, inline=True)
    counts.close()
    with pytest.raises(RequestError, match="is closed"):
        over_pairs.run(counts, inline=True)


def test_pairs_of_somebody_else_are_no_input_unless_they_are_trusted(text: str) -> None:
    counts: JobResult[str, int] = Job(words, Sum()).run(text, inline=True)
    foreign: JobResult[str, int] = JobResult("job-1", counts.counters, counts._parts)
    with pytest.raises(RequestError, match="allow_pickle=True"):
        Job(swapped, input=Pairs()).run(foreign, inline=True)


def give_the_zygote_time(line: str) -> Iterator[tuple[str, bool]]:
    """Whether this process found what only maps in columns need. Comes back once its parent has that, or soon."""
    until = time.monotonic() + 0.5
    while b"/_compute." not in Path(f"/proc/{os.getppid()}/maps").read_bytes() and time.monotonic() < until:
        os.sched_yield()
    yield line, "pyarrow.compute" in sys.modules


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_later_jobs_find_imported_what_maps_in_columns_need(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("a\n")
    found: list[bool] = []
    with LocalCluster(workers=1, slots=1) as own:
        while not any(found) and len(found) < 40:
            with_it = Job(give_the_zygote_time).run(str(path), master=own)
            found += [has for _, has in with_it]
            with_it.close()
    assert found[0] is False  # which no start waits for
    assert found[-1] is True
