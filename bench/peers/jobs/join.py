"""Each order with the name of its user: lines of both files meet by their key, the user's first."""

from collections.abc import Iterator

from minireduce import Job, task

USER, ORDER = 0, 1


def tagged(line: str) -> Iterator[tuple[str, tuple[int, str]]]:
    key, text = line.split()
    yield key, (USER if (task.input_path or "").endswith("users.txt") else ORDER, text)


def joined(key: str, entries: Iterator[tuple[int, str]]) -> Iterator[tuple[str, str]]:
    names = []
    for tag, text in entries:
        if tag == USER:
            names.append(text)
        else:
            for name in names:
                yield name, text


job = Job(tagged, joined, sort_values=True)
