"""Lines that the user code of a simulated job cannot compute, and what a run of a task comes to that meets them.

A run is told by `Care` how to treat them, as the engine is: a plain run ends at the first, a careful one goes on after
those that raise and ends at one that crashes, a probe sees one line alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minireduce.core.task_data import SkippedRecord, TaskError, TaskOutput
from minireduce.core.work.attempts import Failed, Succeeded
from minireduce.core.work.bad_records import NO_PROBE, Care
from minireduce.ids import AttemptId
from minireduce.testing.workload import BadLine, How, SimJob, short_name

_TOLD = {
    How.RAISES: ("raised", "ValueError", "a bad record"),
    How.CRASHES: ("crashed", "SIGSEGV", "the process crashed"),
    How.WAVERS: ("raised", "ValueError", "a record that is bad at times"),
}
"""Kind, type and message of the error."""


def meet_bad_lines(job: SimJob, attempt: AttemptId, care: Care, lines: Sequence[str]) -> Failed | Succeeded | None:
    """What the run comes to because of bad lines, or because it is a probe; None: it makes what the task makes."""
    name = short_name(attempt.task)
    bad = {line.position: line for line in job.bad if line.task == name and not (_wavers(line) and attempt.number)}
    if care.probe != NO_PROBE:
        line = bad.get(care.probe)
        if line is None or _wavers(line):
            return Succeeded(TaskOutput(b"", 0, 0), ())
        error = _error(line, lines)
        data = lines[line.position].encode()
        return Failed(error, probed=SkippedRecord(error, data, is_text=True, bytes_total=len(data)))
    skips = {place.position for place in care.skips}
    met = [bad[position] for position in sorted(bad) if position not in skips]
    if not met:
        return None
    if not care.is_careful:
        return Failed(_error(met[0], lines))
    crash = next((line for line in met if line.how is How.CRASHES), None)
    if crash is not None:
        return Failed(_error(crash, lines))  # what raised before it went with the process
    suspects = tuple(_error(line, lines) for line in met)
    return Failed(suspects[0], suspects)


def _wavers(line: BadLine) -> bool:
    return line.how is How.WAVERS


def _error(line: BadLine, lines: Sequence[str]) -> TaskError:
    error = TaskError(*_TOLD[line.how], record=repr(lines[line.position]))
    return replace(error, position=line.position, proof=line.position)
