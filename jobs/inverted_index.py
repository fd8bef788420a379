"""For each word the files that it occurs in."""

import re
from collections.abc import Iterator

from minireduce import Distinct, Job, task

WORD = re.compile(r"\w+")


def words(line: str) -> Iterator[tuple[str, str]]:
    path = str(task.input_path or "")
    for word in set(WORD.findall(line.lower())):
        yield word, path


job = Job(words, Distinct())
