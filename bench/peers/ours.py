"""minireduce from Python, on a cluster of this process that stays up: what a job takes once everything is warm.

Of iterations it is also the whole command, since they are programs and not one job: `jobs/pagerank.py`,
`jobs/kmeans.py` and those `_columns.py`, as a user would start them.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import CENTRES, ROUNDS, run, write_centres
from works import WORKS

from minireduce import Job, LocalCluster

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


def kmeans(path: Path):
    def do(source: Path, output: Path, slots: int) -> None:
        centres = load(path)["find_centres"](str(source), CENTRES, ROUNDS, master=cluster(slots))
        write_centres(output / "part-00000", centres)

    return do


def pagerank(path: Path):
    def do(source: Path, output: Path, slots: int) -> None:
        program = load(path)
        ranks = program["rank_pages"](str(source), ROUNDS, master=cluster(slots), reducers=slots)
        program["whole"].run(ranks, output=str(output), overwrite=True, master=cluster(slots)).close()
        ranks.close()

    return do


def null(source: Path, output: Path, slots: int) -> None:
    load(Path(__file__).parent / "jobs" / "null.py")["job"].run(str(source), master=cluster(slots)).close()


if __name__ == "__main__":
    programs = {"kmeans": kmeans, "pagerank": pagerank}
    works: dict[str, Callable[[Path, Path, int], None]] = {"null": null}
    for work in WORKS:
        for lane, path in work.lanes.items():
            if path.exists():
                is_program = work.name in programs
                do = programs[work.name](path) if is_program else job_work(path, work.inputs, work.reducers)
                works[f"{work.name}{lane}"] = do
    try:
        run(works)
    finally:
        for each in _clusters:
            each.__exit__(None, None, None)
