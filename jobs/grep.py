"""Lines that match a regular expression, with the file and the place they stand in: `-p pattern='^import'`."""

import re
from collections.abc import Iterator

from minireduce import Job, task


def job(pattern: str) -> Job[str, str]:
    """The job that finds `pattern` (Python's `re`) anywhere in a line."""
    search = re.compile(pattern).search

    def matching(line: str) -> Iterator[tuple[str, str]]:
        if search(line):
            task.counter("grep", "lines").add()
            yield f"{task.input_path}:{task.offset}", line

    return Job(matching, name="grep")
