"""`minireduce demo`: count the words of Python's standard library, which every machine has, on a real small cluster."""

from __future__ import annotations

import heapq
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minireduce.cli.options import json_option
from minireduce.cli.show import duration, plural, print_json, size

if TYPE_CHECKING:
    from minireduce.client.inputs import Inputs
    from minireduce.client.result import JobResult

TOP = 10
JOB_FILE = Path(__file__).with_name("wordcount.py")
SHOWN_COUNTERS = ("MAP_INPUT_RECORDS", "MAP_OUTPUT_RECORDS", "COMBINE_OUTPUT_RECORDS", "REDUCE_OUTPUT_RECORDS")
NOT_THE_LIBRARY = frozenset({"site-packages", "dist-packages", "__pycache__"})


@click.command(epilog="Example:  minireduce demo")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
def demo(*, quiet: bool, is_json: bool) -> None:
    """Count the words of the *.py files of this Python's standard library.

    A real master and a real worker are started for it and end with it.
    """
    from minireduce import config
    from minireduce.attempt.load import load_job, source_program
    from minireduce.cli.progress import Progress
    from minireduce.client.inputs import resolve
    from minireduce.client.job_spec import Wishes
    from minireduce.launch.session import Session
    from minireduce.launch.submission import submit_program

    began_s = time.monotonic()
    progress = Progress(is_quiet=quiet or is_json)
    configuration = config.load(environment={})
    with Session(configuration) as session:
        inputs = resolve(library_files())
        progress.say(f"counting words in {plural(len(inputs.files), 'file')}, {size(inputs.bytes_total)}")
        program = source_program(JOB_FILE)
        job = load_job(program)
        handle = submit_program(session, job, program, inputs, Wishes(name="demo"))
        handle.follow(progress, interval_s=progress.interval_s)
        result = handle.wait()
    _tell(result, inputs, time.monotonic() - began_s, is_json=is_json)
    result.close()


def library_files() -> list[Path]:
    """The standard library's own *.py files, ascending."""
    library = Path(sysconfig.get_path("stdlib"))
    found = [path for path in library.rglob("*.py") if NOT_THE_LIBRARY.isdisjoint(path.relative_to(library).parts)]
    return sorted(path for path in found if path.is_file())


def _tell(result: JobResult[Any, Any], inputs: Inputs, elapsed_s: float, *, is_json: bool) -> None:
    top = heapq.nlargest(TOP, result, key=lambda pair: pair[1])
    if is_json:
        print_json(
            {
                "job": result.id,
                "files": len(inputs.files),
                "bytes": inputs.bytes_total,
                "top": top,
                "counters": result.counters,
                "elapsed_s": round(elapsed_s, 3),
            }
        )
        return
    print(f"\nthe {TOP} most frequent words\n")
    for word, count in top:
        print(f"{count:>12,}  {word}")
    print("\ncounters\n")
    for name in SHOWN_COUNTERS:
        print(f"{result.counters['minireduce'][name]:>12,}  {name}")
    print(f"\n{duration(elapsed_s)}, from nothing running to nothing running\n")
    print("try next\n")
    print(f"  minireduce submit {_own_job_file()} {_own_text()} -o counts")
    print("  minireduce cluster up -n 2")
    print("  minireduce submit --help")


def _own_job_file() -> Path:
    """The job to try next: the one of a clone, where this is one, else the demo's own."""
    here = Path.cwd()
    copied = Path("jobs", JOB_FILE.name)
    if copied.exists():
        return copied
    return JOB_FILE.relative_to(here) if JOB_FILE.is_relative_to(here) else JOB_FILE


def _own_text() -> str:
    """A text that is here."""
    return next((name for name in ("README.md", "LICENSE") if Path(name).exists()), "FILE_OR_DIRECTORY")
