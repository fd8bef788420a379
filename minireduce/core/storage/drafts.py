"""Where a client fills an output of the block store before it appears: the directory `.JOB` beside its place.

One rename makes it the output. A client that was killed in between leaves its draft; it goes when the job ends without
an output, at the latest when the job has waited for its client for `results_keep_s`.
"""

from __future__ import annotations

from minireduce.ids import JobId

SCHEME = "mr://"


def draft_path(output: str, job: JobId) -> str:
    """The draft of an output, given by its path in the block store; short, so that every name has room for it."""
    return f"{output.rpartition('/')[0]}/.{job}"


def find_draft(output_path: str, job: JobId) -> str:
    """The same, of what a job says of its output; "" when that is not in the block store."""
    return draft_path(output_path.removeprefix(SCHEME), job) if output_path.startswith(f"{SCHEME}/") else ""
