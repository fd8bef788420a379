"""Where attempts write, and what of it is whole: the layout of `DATA_DIR/jobs`.

    jobs/JOB/ATTEMPT/output.data, output.index   a map's output (engine)
    jobs/JOB/ATTEMPT/part                        a part (engine)
    jobs/JOB/ATTEMPT/output.meta                 the attempt's report, written last: what has one is whole
    jobs/JOB/ATTEMPT/fetched/SOURCE              a run that was fetched for it
    jobs/JOB/ATTEMPT/fetched/NUMBER.runs         small ones that came by one request, one after the other
    jobs/JOB/ATTEMPT/stdout, stderr              what it printed, for people; outlives the job by `orphans_keep_s`
    jobs/.aside-JOB.NUMBER                       what is being removed

Every path is made of ids that were parsed, never of text from outside. Where tasks run under an account of their own
they must be able to pass through the directories above theirs, and so must own what is fetched for them.

Invariant: an output is announced only when its `output.meta` is written, and a part only when all of it is durable.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import BinaryIO

import msgpack
import xxhash

from minireduce.attempt.places import (
    JOBS_NAME,
    META_NAME,
    PART_NAME,
    STDERR_NAME,
    STDOUT_NAME,
    attempt_directory,
    attempt_place,
)
from minireduce.core.messages import AttemptSucceeded
from minireduce.core.plain import from_plain, to_plain
from minireduce.disk import Disk
from minireduce.errors import Corruption, RequestError
from minireduce.ids import AttemptId, JobId, is_job_id, parse_attempt_id

FETCHED_NAME = "fetched"
_READ_BYTES = 1 << 20
ASIDE_PREFIX = ".aside-"
LOG_NAMES = (STDOUT_NAME, STDERR_NAME)


class Outputs:
    """The outputs on one data directory. `task_ids` are user and group of tasks where those are not the worker's."""

    def __init__(self, data_dir: Path, disk: Disk, *, task_ids: tuple[int, int] | None = None) -> None:
        self._data_dir = data_dir
        self._data_dir_text = str(data_dir)
        self._jobs = data_dir / JOBS_NAME
        self._disk = disk
        self._task_ids = task_ids
        self._together: dict[AttemptId, dict[AttemptId, tuple[str, int, int]]] = {}  # path, offset and length of each
        self._begun: dict[AttemptId, set[AttemptId]] = {}  # whose outputs have, for whom, a file of their own
        self._placed: dict[JobId, str] = {}  # jobs whose directory was made, and where that is
        # Held while what is fetched gets a place, and while such places are forgotten, before they are removed. A place
        # is made only for what is still wanted, so what was called off makes none anew after that.
        self.fetching = threading.Lock()

    def directory(self, attempt: AttemptId) -> Path:
        """Where an attempt writes, and where its output is after."""
        return attempt_directory(self._data_dir, attempt)

    def fetched(self, attempt: AttemptId, source: AttemptId) -> Path:
        """Where the output of `source` lies that was fetched for `attempt`."""
        return self.directory(attempt) / FETCHED_NAME / str(source)

    def place(self, attempt: AttemptId) -> str:
        """Where an attempt may write: its directory, which it makes itself when it needs it, in that of its job.
        As text, since a path takes longer to make than a small task to run.
        """
        job = attempt.task.job
        if job not in self._placed:
            self._make(self._jobs / job)
            self._placed[job] = str(self._jobs / job)
        return f"{self._placed[job]}/{attempt}"

    def prepare(self, attempt: AttemptId) -> Path:
        """Make the directory of an attempt, which may hold fetched runs already."""
        self.place(attempt)
        return self._make(self.directory(attempt))

    def fetched_bytes(self, attempt: AttemptId, source: AttemptId) -> int:
        """How much of the output of `source` is here that is being fetched for `attempt`, in a file of its own."""
        if source not in self._begun.get(attempt, ()):
            return 0
        path = f"{attempt_place(self._data_dir_text, attempt)}/{FETCHED_NAME}/{source}"
        try:
            return os.stat(path).st_size  # noqa: PTH116 - a path takes longer to make than this does
        except FileNotFoundError:
            return 0

    def open_together(self, attempt: AttemptId, number: int) -> tuple[BinaryIO, str]:
        """A file for small runs that are fetched together, at its end, and its path. It is new, unless a fetch of that
        number was broken off and is made again: then it holds what came of that, which nobody knows of.
        """
        path = self.directory(attempt) / FETCHED_NAME / f"{number}.runs"
        return self._open_fetched(attempt, path), str(path)

    def keep_together(self, attempt: AttemptId, source: AttemptId, path: str, offset: int, length: int) -> None:
        """A run that was fetched lies there. Only this process knows: after another start it would be fetched again."""
        self._together.setdefault(attempt, {})[source] = path, offset, length

    def fetched_run(self, attempt: AttemptId, source: AttemptId) -> tuple[str, int, int]:
        """Path, offset and length of a run that was fetched."""
        together = self._together.get(attempt, {}).get(source)
        if together is not None:
            return together
        path = self.fetched(attempt, source)
        return str(path), 0, path.stat().st_size

    def place_ahead(self, attempt: AttemptId, first: int) -> str:
        """Where its runs lie merged from that one on: with what was fetched for it, in a directory that is there."""
        directory = self.directory(attempt) / FETCHED_NAME
        if not directory.exists():
            self.prepare(attempt)
            self._make(directory)
        return f"{directory}/{first}.ahead"

    def open_fetched(self, attempt: AttemptId, source: AttemptId) -> BinaryIO:
        """A file for a run to be fetched into: a new one, or the one that is there, at its end, to go on with."""
        self._begun.setdefault(attempt, set()).add(source)
        return self._open_fetched(attempt, self.fetched(attempt, source))

    def _open_fetched(self, attempt: AttemptId, path: Path) -> BinaryIO:
        try:
            file = self._disk.create(path)
        except FileExistsError:
            return self._disk.open_append(path)
        except FileNotFoundError:  # the first one of this attempt
            self.prepare(attempt)
            self._make(path.parent)
            file = self._disk.create(path)
        if self._task_ids is not None:
            os.chown(path, *self._task_ids)
        return file

    def keep(self, report: AttemptSucceeded) -> None:
        """Make a finished output last: from now on it is listed after a restart of the worker.

        A map output is not synced by its writer, so neither is its report: one that a crash of the machine tore shows
        its damage when it is read, and is made again.
        """
        directory = self.directory(report.attempt)
        is_part = not report.output.partition_bytes_log2
        with contextlib.closing(self._disk.create(directory / META_NAME)) as file:
            file.write(msgpack.packb(to_plain(report)))
            if is_part:
                self._disk.sync(file)
        if is_part:
            for place in (directory, directory.parent, self._jobs, self._data_dir):
                self._disk.sync_directory(place)

    def keep_copy(self, report: AttemptSucceeded, *, is_text: bool) -> None:
        """Make a part that was fetched for itself one that is held here. Raises Corruption when it is another one."""
        from minireduce.engine.frames import PART_MAGIC

        directory = self.directory(report.attempt)
        fetched = self.fetched(report.attempt, report.attempt)
        with contextlib.closing(self._disk.open_append(fetched)) as file:
            length = file.tell()
            file.seek(0)
            digest = xxhash.xxh3_128()
            file.seek(0 if is_text else len(PART_MAGIC))
            while data := file.read(_READ_BYTES):
                digest.update(data)
            if (length, digest.digest()) != (report.output.bytes_total, report.output.digest):
                raise Corruption(f"what was fetched of {report.attempt} is not the part that was committed")
            self._disk.sync(file)
        self._disk.rename(fetched, directory / PART_NAME)
        self.keep(report)
        self._disk.remove_tree(directory / FETCHED_NAME)

    def held(self) -> tuple[AttemptSucceeded, ...]:
        """The whole outputs that are here, in the order of their names. Removes all else: nobody will finish it."""
        held: list[AttemptSucceeded] = []
        for job in self._disk.names(self._jobs):
            if not is_job_id(job):
                continue  # not ours: left alone
            for name in self._disk.names(self._jobs / job):
                report = self._read(job, name)
                if report is None:
                    self._remove(self._jobs / job / name)
                else:
                    held.append(report)
            if not self._disk.names(self._jobs / job):
                self._disk.remove_tree(self._jobs / job)
        return tuple(held)

    def remove(self, attempt: AttemptId) -> None:
        """Remove what an attempt wrote and what was fetched for it, but not what it printed."""
        self._forget_fetched(attempt)
        directory = self.directory(attempt)
        self._disk.remove(directory / META_NAME)  # first: what is half removed must not count as whole
        for name in self._disk.names(directory):
            if name not in LOG_NAMES:
                self._remove(directory / name)
        if not self._disk.names(directory):
            self._disk.remove_tree(directory)

    def clear(self, attempt: AttemptId) -> None:
        """Remove what an attempt wrote, so that it can begin again: all but what was fetched for it, and its logs."""
        directory = self.directory(attempt)
        for name in self._disk.names(directory):
            if name not in (*LOG_NAMES, FETCHED_NAME):
                self._remove(directory / name)

    def remove_fetched(self, attempt: AttemptId) -> None:
        """Remove what was fetched for an attempt."""
        self._forget_fetched(attempt)
        self._disk.remove_tree(self.directory(attempt) / FETCHED_NAME)

    def remove_job(self, job: JobId) -> None:
        """Remove everything of a job but what its attempts printed, which goes in time like any orphan."""
        self._forget_places(job)
        if not is_job_id(job):
            return
        place = self._jobs / job
        for attempt in self._disk.names(place):
            names = self._disk.names(place / attempt)
            if not any(name in LOG_NAMES for name in names):
                self._remove(place / attempt)
                continue
            for name in names:
                if name not in LOG_NAMES:
                    self._remove(place / attempt / name)
        if not self._disk.names(place):
            self._disk.remove_tree(place)

    # ── what nobody asks to be removed ──────────────────────────────────────────────────────────────────────────────

    def jobs(self) -> list[JobId]:
        """The jobs that have a directory here, in ascending order of their names."""
        return [name for name in self._disk.names(self._jobs) if is_job_id(name)]

    def set_aside(self, job: JobId) -> None:
        """Take a job's directory out of the way, at once; `remove_set_aside` removes it."""
        self._forget_places(job)
        if is_job_id(job):
            with contextlib.suppress(FileNotFoundError):
                self._disk.rename(self._jobs / job, self._jobs / f"{ASIDE_PREFIX}{job}.{secrets.token_hex(4)}")

    def remove_set_aside(self) -> None:
        """Remove what was set aside, by this process or one before it."""
        for name in self._disk.names(self._jobs):
            if name.startswith(ASIDE_PREFIX):
                self._disk.remove_tree(self._jobs / name)

    def trim_logs(self, bytes_max: int) -> None:
        """Remove what attempts printed, the oldest first, until it is not more than this."""
        found: list[tuple[float, str, int]] = []
        for job in self.jobs():
            for attempt in self._disk.names(self._jobs / job):
                for path in (self._jobs / job / attempt / name for name in LOG_NAMES):
                    with contextlib.suppress(OSError):
                        status = path.lstat()
                        found.append((status.st_mtime, str(path), status.st_size))
        left = sum(size for _, _, size in found)
        for _, oldest, size in sorted(found):
            if left <= bytes_max:
                return
            self._disk.remove(Path(oldest))
            left -= size

    def _forget_places(self, job: JobId) -> None:
        with self.fetching:
            self._placed.pop(job, None)
            for attempt in [each for each in (*self._together, *self._begun) if each.task.job == job]:
                self._together.pop(attempt, None)
                self._begun.pop(attempt, None)

    def _forget_fetched(self, attempt: AttemptId) -> None:
        with self.fetching:
            self._together.pop(attempt, None)
            self._begun.pop(attempt, None)

    def _make(self, directory: Path) -> Path:
        self._disk.make_directories(directory)
        if self._task_ids is not None:
            os.chown(directory, *self._task_ids)
            for above in (directory.parent, self._jobs, self._data_dir):
                above.chmod(0o711)
        return directory

    def _remove(self, path: Path) -> None:
        try:
            self._disk.remove(path)
        except (IsADirectoryError, PermissionError):
            self._disk.remove_tree(path)

    def _read(self, job: JobId, name: str) -> AttemptSucceeded | None:
        """The report of a finished attempt; None for what was not finished or is not legible any more."""
        try:
            attempt = parse_attempt_id(name)
            with contextlib.closing(self._disk.open(self._jobs / job / name / META_NAME)) as file:
                report: AttemptSucceeded = from_plain(AttemptSucceeded, msgpack.unpackb(file.read()))
        except (OSError, RequestError, Corruption, ValueError, msgpack.UnpackException):
            return None
        return report if report.attempt == attempt and attempt.task.job == job else None
