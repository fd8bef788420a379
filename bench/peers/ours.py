"""minireduce from Python, on a cluster of this process that stays up: what a job takes once everything is warm.

Of iterations it is also the whole command, since they are programs and not one job: `jobs/pagerank.py` and
`jobs/kmeans.py`, as a user would start them.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import CENTRES, ROUNDS, run, write_centres
from works import WORKS

from minireduce import Job, LocalCluster

JOBS = Path(__file__).resolve().parent.parent.parent / "jobs"
_clusters: list[LocalCluster] = []


def cluster(slots: int) -> LocalCluster:
    if not _clusters:
        _clusters.append(LocalCluster(workers=1, slots=slots).__enter__())
    return _clusters[0]


def load(path: Path) -> dict[str, Any]:
    return runpy.run_path(str(path), run_name=path.stem)


def job_work(path: Path, inputs: tuple[str, ...], reducers: int):
    def do(source: Path, output: Path, slots: int) -> None:
        job: Job = load(path)["job"]
        job.run(
            {name: str(source / f"{name}.txt") for name in inputs} or str(source),
            output=str(output),
            overwrite=True,
            master=cluster(slots),
            **({"reducers": reducers} if reducers else {}),
        )

    return do


def kmeans(source: Path, output: Path, slots: int) -> None:
    find_centres = load(JOBS / "kmeans.py")["find_centres"]
    write_centres(output / "part-00000", find_centres(str(source), CENTRES, ROUNDS, master=cluster(slots)))


def pagerank(source: Path, output: Path, slots: int) -> None:
    program = load(JOBS / "pagerank.py")
    ranks = program["rank_pages"](str(source), ROUNDS, master=cluster(slots), reducers=slots)
    Job(whole_rank, input=ranks).run(output=str(output), overwrite=True, master=cluster(slots)).close()
    ranks.close()


def whole_rank(page: str, state: tuple[int, list[str]]) -> list[tuple[str, int]]:
    return [(page, state[0])]


def null(source: Path, output: Path, slots: int) -> None:
    load(Path(__file__).parent / "jobs" / "null.py")["job"].run(str(source), master=cluster(slots)).close()


if __name__ == "__main__":
    works: dict[str, Callable[[Path, Path, int], None]] = {"kmeans": kmeans, "pagerank": pagerank, "null": null}
    for work in WORKS:
        for lane, path in work.lanes.items():
            if path.exists():
                works[f"{work.name}{lane}"] = job_work(path, work.inputs, work.reducers)
    try:
        run(works)
    finally:
        for each in _clusters:
            each.__exit__(None, None, None)
