"""Find the files that an INPUT means.

An INPUT is a file, a directory (read recursively) or a glob, on this machine, as `mr:///PATH` in the block store
(`stored_inputs`), or at any other address that fsspec knows, from where it is copied here (`fetched_inputs`). Files
come in the order in which inputs were named, and within a directory or glob in ascending order of their paths.

Inside a directory some names are passed over: what other jobs leave beside their parts, and hidden files. They are
counted, since a silently missing file is a wrong answer; a path that is named itself is always read. Links are
followed, but a directory is not read inside itself.

A job with several inputs has each of them found by its name. One whose format says itself what there is to read
(`Numbers`) takes no INPUT. One over `Pairs()` reads the results of earlier jobs: their typed parts are fetched to this
machine and read in place.

Elsewhere: cutting them into splits (splits.py).
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minireduce.api.formats import Csv, InputFormat, Numbers, Pairs
from minireduce.api.results import Result
from minireduce.client.store_paths import is_store_path
from minireduce.client.stored_inputs import Store, StoredFile, StoredWalk, is_passed_over
from minireduce.errors import NotFound, RequestError
from minireduce.frozen import dataclass
from minireduce.machine import fingerprint

if TYPE_CHECKING:
    from minireduce.api.job import Job
    from minireduce.client.fetched_inputs import FetchedInputs

NO_INPUT_HINT = "name a file, a directory or a glob"
NO_RESULT_HINT = "give what an earlier run(…) without an output gave back"

Named = str | os.PathLike[str] | Result[Any, Any]
"""What can be named as an input."""

NamedApart = Mapping[str, Named | Sequence[Named]]
"""What can be named for several inputs."""

Resolve = Callable[[Sequence[str | os.PathLike[str]]], "Inputs"]
"""Gives the files that inputs mean."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of this machine to read, as it was when the job was submitted."""

    path: str
    size_bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """All files of a job in reading order, or what it reads instead: numbers, or typed parts of `results`.

    `several` are those of each input of a job that has several, in their order; all else is of all of them together.
    `is_whole`: files are not cut, since their format cannot be read from the middle.
    `passed_over` counts the names in directories that are not read. `directories` are those of this machine,
    `stored_directories` those of the block store, that are read with all that they hold.
    """

    files: tuple[InputFile | StoredFile, ...]
    passed_over: int
    numbers: Numbers | None = None
    directories: tuple[str, ...] = ()
    stored_directories: tuple[str, ...] = ()
    parts: tuple[InputFile | StoredFile, ...] = ()
    results: tuple[Result[Any, Any], ...] = ()  # held, since their files go with them
    several: tuple[Inputs, ...] = ()
    is_whole: bool = False
    fetched: tuple[FetchedInputs, ...] = ()  # copies of what lies elsewhere, held for the same reason

    @property
    def local_files(self) -> list[InputFile]:
        """What is to be read of this machine's disk; an empty file has nothing to read."""
        return [file for file in (*self.files, *self.parts) if isinstance(file, InputFile) and file.size_bytes]

    @property
    def bytes_total(self) -> int:
        """How much there is to read; a number counts as eight bytes."""
        if self.several:
            return sum(each.bytes_total for each in self.several)
        files = sum(file.size_bytes for file in (*self.files, *self.parts))
        return files + (8 * self.numbers.count if self.numbers else 0)


def find_inputs(job: Job[Any, Any], named: Sequence[Named | NamedApart], resolve_names: Resolve) -> Inputs:
    """What a job reads: what was named for it, or what it names itself. Raises RequestError for none and for both."""
    first = job.steps[0]
    apart = [each for each in named if isinstance(each, Mapping)]
    if first.inputs:
        return _find_several(job, named, resolve_names)
    if apart:
        raise RequestError(
            f"{job.name} has one input, and inputs are named for it: {', '.join(apart[0])}", hint=NO_INPUT_HINT
        )
    together = [name for each in named if not isinstance(each, Mapping) for name in _listed(each)]
    return _find(job.name, first.input, together, resolve_names)


def name_inputs(job: Job[Any, Any], written: Sequence[str]) -> Sequence[str | NamedApart]:
    """What was written as NAME=INPUT for a job with several inputs, by name; for another job, as it is."""
    names = [each.name for each in job.steps[0].inputs]
    if not names:
        return written
    apart: dict[str, list[Named]] = {}
    for each in written:
        name, separator, place = each.partition("=")
        if not separator or not place or name not in names:
            raise RequestError(f"{job.name} has no input {each}", hint=f"write {' '.join(f'{n}=INPUT' for n in names)}")
        apart.setdefault(name, []).append(place)
    return (apart,)


def _find_several(job: Job[Any, Any], named: Sequence[Named | NamedApart], resolve_names: Resolve) -> Inputs:
    """The inputs of each name, and all of them together."""
    names = [each.name for each in job.steps[0].inputs]
    how = "{" + ", ".join(f'"{name}": …' for name in names) + "}"
    apart = [each for each in named if isinstance(each, Mapping)]
    if len(named) > 1 or len(apart) < len(named):
        raise RequestError(f"{job.name} has {len(names)} inputs, each with a name", hint=f"give one dict: {how}")
    given: dict[str, Any] = dict(apart[0]) if apart else {}
    if unknown := [name for name in given if name not in names]:
        raise RequestError(f"{job.name} has no input {unknown[0]!r}", hint=f"its inputs are {', '.join(names)}")
    found = []
    for each in job.steps[0].inputs:
        wanted = given.get(each.name, ())
        listed = _listed(wanted)
        if not listed and not each.format.places and not isinstance(each.format, Numbers | Pairs):
            hint = f"write {each.name}=INPUT; in Python give one dict: {how}"
            raise RequestError(f"no input is named for {each.name} of {job.name}", hint=hint)
        found.append(_find(f"input {each.name} of {job.name}", each.format, listed, resolve_names))
    return Inputs(
        tuple(file for each in found for file in each.files),
        sum(each.passed_over for each in found),
        directories=tuple(path for each in found for path in each.directories),
        stored_directories=tuple(path for each in found for path in each.stored_directories),
        parts=tuple(part for each in found for part in each.parts),
        results=tuple(result for each in found for result in each.results),
        fetched=tuple(copies for each in found for copies in each.fetched),
        several=tuple(found),
    )


def _listed(named: Any) -> Sequence[Named]:
    """What one argument or one name of `run` stands for: an input, or a list of inputs."""
    return named if isinstance(named, list | tuple) else (named,)


def _find(whose: str, own: InputFormat[Any], named: Sequence[Named], resolve_names: Resolve) -> Inputs:
    """What is read in the format `own`."""
    if isinstance(own, Numbers):
        if named:
            raise RequestError(f"{whose} reads {own!r}, and {named[0]} is named besides", hint="leave one of them out")
        return Inputs((), 0, own)
    if isinstance(own, Pairs):
        return _results(whose, own, named)
    named = named or own.places
    if not named:
        raise RequestError(f"{whose} names no input of its own, and none is named for it", hint=NO_INPUT_HINT)
    names = [each for each in named if not isinstance(each, Result)]
    if len(names) < len(named):
        raise RequestError(f"{whose} reads files, and a result holds pairs", hint="say so in the job: input=Pairs()")
    found = resolve_names(names)
    return replace(found, is_whole=True) if isinstance(own, Csv) and own.multiline else found


def _results(whose: str, own: Pairs, named: Sequence[Named]) -> Inputs:
    """The typed parts of the results that are given, or of the one that the job names."""
    if own.result is not None and named:
        raise RequestError(f"{whose} reads {own.result}, and {named[0]} is named besides", hint="leave one of them out")
    given = named if own.result is None else (own.result,)
    results = tuple(each for each in given if isinstance(each, Result))
    if len(results) < len(given):
        wrong = next(each for each in given if not isinstance(each, Result))
        raise RequestError(f"{whose} reads pairs of an earlier job, and {wrong} is none", hint=NO_RESULT_HINT)
    if not results:
        raise RequestError(f"{whose} reads pairs of an earlier job, and none is given", hint=NO_RESULT_HINT)
    files = [os.fspath(path) for result in results for path in result.part_files()]
    return Inputs((), 0, parts=tuple(_checked(path, os.stat(path)) for path in files), results=results)


def resolve(inputs: Sequence[str | os.PathLike[str]], store: Store | None = None) -> Inputs:
    """The files that `inputs` mean. Raises RequestError for one that is missing, unreadable or of a kind not known.

    `store` is the cluster's block store; None where there is none to read from.
    """
    local, stored = _Walk(), StoredWalk(store)
    files: list[InputFile | StoredFile] = []
    for each in inputs:
        named = os.fspath(each)
        files.extend(stored.resolve(named) if is_store_path(named) else local.resolve(named))
    return Inputs(
        tuple(files),
        local.passed_over + stored.passed_over,
        directories=tuple(local.directories),
        stored_directories=tuple(stored.directories),
        fetched=() if local.fetched is None else (local.fetched,),
    )


class _Walk:
    """Resolves inputs one after the other, and counts what it passes over."""

    def __init__(self) -> None:
        self.passed_over = 0
        self.directories: list[str] = []
        self.fetched: FetchedInputs | None = None

    def resolve(self, named: str) -> Iterator[InputFile]:
        if named == "-":
            raise RequestError("input - cannot be read", hint="it is standard input on the command line alone")
        if "://" in named:
            yield from self._remote(named)
            return
        if os.path.lexists(named) or not glob.has_magic(named):
            yield from self._path(named, named)
            return
        matches = [match for match in glob.glob(named, recursive=True, include_hidden=True) if match]
        if not matches:
            raise NotFound(f"no file matches {named}", hint=_nearby(named))
        written = set(named.split(os.sep))
        for match in sorted(matches):
            if any(is_passed_over(name) and name not in written for name in match.split(os.sep)):
                self.passed_over += 1
            elif not (named.endswith("**") and os.path.isdir(match)):  # such a glob names what lies inside, too
                yield from self._path(match, named)

    def _remote(self, url: str) -> Iterator[InputFile]:
        from minireduce.client.fetched_inputs import FetchedInputs  # most inputs lie here

        if self.fetched is None:
            self.fetched = FetchedInputs()
        before = self.fetched.passed_over
        for path in self.fetched.fetch(url):
            yield _checked(path, os.stat(path))
        self.passed_over += self.fetched.passed_over - before

    def _path(self, path: str, named: str) -> Iterator[InputFile]:
        """The file at `path`, or all in the directory there. Absolute, for workers run elsewhere."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise NotFound(f"input {named} does not exist", hint=_nearby(path)) from None
        except OSError as cause:
            raise _unreadable(path, cause) from cause
        if stat.S_ISDIR(status.st_mode):
            self.directories.append(os.path.abspath(path))
            yield from self._directory(os.path.abspath(path), ((status.st_dev, status.st_ino),))
        elif stat.S_ISREG(status.st_mode):
            yield _checked(os.path.abspath(path), status)
        else:
            raise RequestError(f"input {path} is neither a file nor a directory", hint="copy its content to a file")

    def _directory(self, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[InputFile]:
        try:
            names = sorted(os.listdir(path))
        except OSError as cause:
            raise _unreadable(path, cause) from cause
        for name in names:
            inner = os.path.join(path, name)
            if is_passed_over(name):
                self.passed_over += 1
                continue
            try:
                status = os.stat(inner)
            except OSError as cause:  # a link that leads nowhere, too: what it named would be missing in the answer
                raise _unreadable(inner, cause) from cause
            identity = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode) and identity not in above:
                yield from self._directory(inner, (*above, identity))
            elif stat.S_ISREG(status.st_mode):
                yield _checked(inner, status)
            else:
                self.passed_over += 1


def _checked(path: str, status: os.stat_result) -> InputFile:
    if not os.access(path, os.R_OK):
        raise RequestError(f"input {path} cannot be read: permission denied", hint="see its mode with ls -l")
    return InputFile(path, status.st_size, fingerprint(status))


def _unreadable(path: str, cause: OSError) -> RequestError:
    return RequestError(f"input {path} cannot be read: {cause.strerror}", hint="see what is there with ls -l")


def _nearby(path: str) -> str:
    """A hint at a name much like the missing one in the same directory, or at the place where the path ends."""
    from difflib import get_close_matches

    directory, name = os.path.split(os.path.abspath(path))
    while not os.path.isdir(directory):
        directory, name = os.path.split(directory)
    try:
        near = get_close_matches(name, os.listdir(directory), n=1)
    except OSError:
        near = []
    return f"did you mean {os.path.join(directory, near[0])}?" if near else f"{directory} holds no {name}"
