"""minireduce from Python, on an embedded cluster that stays up: what a job takes once everything is warm."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from common import run

from minireduce import LocalCluster

if TYPE_CHECKING:
    from minireduce import Job

HERE = Path(__file__).resolve().parent
JOBS = {
    "wordcount": HERE.parent.parent / "jobs" / "wordcount.py",
    "grep": HERE / "jobs" / "grep.py",
    "inverted_index": HERE / "jobs" / "inverted_index.py",
    "group_by": HERE / "jobs" / "group_by.py",
    "null": HERE / "jobs" / "null.py",
}
_clusters: list[LocalCluster] = []


def load(path: Path) -> Job:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.job


def work(name: str):
    def do(source: Path, output: Path, slots: int) -> None:
        if not _clusters:
            _clusters.append(LocalCluster(workers=1, slots=slots).__enter__())
        load(JOBS[name]).run(str(source), output=str(output), overwrite=True, master=_clusters[0])

    return do


if __name__ == "__main__":
    try:
        run({name: work(name) for name in JOBS})
    finally:
        for cluster in _clusters:
            cluster.__exit__(None, None, None)
