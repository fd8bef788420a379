"""Settings: what each is called, what it is when nobody says otherwise, and who said otherwise.

A setting is declared once, as a field of `Settings`: name, type, default, kind and one line of documentation. From that
declaration come the keys of the files, the environment variables (`MINIREDUCE_` and the name in capitals), the checks,
the hints and the test that compares `docs/configuration.md`.

A later source wins: defaults, `/etc/minireduce.toml`, `~/.config/minireduce/config.toml`, `./minireduce.toml`, the
file that `--config` names, the environment, flags. Every value keeps its origin, so that `config show --origin` can
answer why. An unknown key is an error wherever it stands, since a misspelt limit would otherwise silently not hold.

Nothing is read at import, and nothing is remembered: `load` reads each time. Flags are named like the setting, without
its unit.
Not here: secrets (`auth.tokens`), and what only one command knows (the cli's own flags).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from minireduce.errors import RequestError
from minireduce.frozen import dataclass

T = TypeVar("T")

PREFIX = "MINIREDUCE_"
PRIORITY_MAX = 1000
"""Of either sign; the same as the master's own limit (core/spec.py)."""

OTHER_VARIABLES: Mapping[str, str] = {
    "MINIREDUCE_TOKEN": "The token itself, for machines on which no token file is wanted.",
    "MINIREDUCE_FAILPOINTS": "Faults that a test orders; see `minireduce/failpoints.py`.",
    "MINIREDUCE_FAILPOINTS_DIR": "Where strikes of those faults are counted.",
    "MINIREDUCE_PROTOC_PYTHON": "The Python that makes the generated protobuf code; see CONTRIBUTING.md.",
}
"""Variables that begin like settings and are none."""

_SIZE_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE_UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


class Compression(StrEnum):
    """When something is compressed: where that is faster, or without asking."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def _compression(value: object) -> Compression:
    try:
        return Compression(_text(value))
    except ValueError:
        raise ValueError("auto, always or never") from None


def _switch(value: object) -> bool:
    words = {True: True, False: False, "on": True, "off": False}
    if not isinstance(value, bool | str) or value not in words:
        raise ValueError("on or off")
    return words[value]


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value.expanduser()
    return Path(_text(value)).expanduser()


def _count(value: object) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number of at least 1")
    return value


def _number(value: object, wanted: str) -> float:
    try:
        return float(value if isinstance(value, int | float | str) and not isinstance(value, bool) else "")
    except ValueError:
        raise ValueError(wanted) from None


def _above_0(value: object, wanted: str = "a number above 0") -> float:
    number = _number(value, wanted)
    if not 0 < number < float("inf"):
        raise ValueError(wanted)
    return number


def _seconds(value: object) -> float:
    return _above_0(value, "a number of seconds above 0")


def _seconds_or_none(value: object) -> float:
    wanted = "a number of seconds, or 0"
    number = _number(value, wanted)
    if not 0 <= number < float("inf"):
        raise ValueError(wanted)
    return number


def _fraction(value: object) -> float:
    wanted = "a number above 0 and at most 1"
    number = _number(value, wanted)
    if not 0 < number <= 1:
        raise ValueError(wanted)
    return number


def size_bytes(value: object) -> int:
    """The bytes that `64MiB`, `1.5 GiB`, `512MB` or a plain number mean. Raises ValueError with what is wanted."""
    wanted = "a size of at least 1 byte, such as 67108864, 64MiB or 1.5GiB"
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    digits = text.rstrip("BKMGTi").rstrip()
    scale = _SIZE_UNITS.get(text[len(digits) :].strip())
    number = _number(digits, wanted)
    if scale is None or not 1 <= number * scale < float("inf"):
        raise ValueError(wanted)
    return int(digits) * scale if digits.isdecimal() else int(number * scale)


@dataclass(frozen=True, slots=True)
class JobQueue:
    """A queue of jobs: its weight beside the others, and how many slots its jobs may use at once (0: any number)."""

    name: str
    weight: float = 1.0
    slots_max: int = 0

    def __str__(self) -> str:
        return f"{self.name} (weight {self.weight:g}{f', slots_max {self.slots_max}' if self.slots_max else ''})"


@dataclass(frozen=True, slots=True)
class JobQueues:
    """All queues. The one that jobs go to by themselves is always there."""

    queues: tuple[JobQueue, ...] = (JobQueue("default"),)

    def __str__(self) -> str:
        return ", ".join(map(str, self.queues))


def _queues(value: object) -> JobQueues:
    """What tables such as `[queues.night]` say."""
    if isinstance(value, JobQueues):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(table, Mapping) for table in value.values()):
        raise ValueError("given as tables such as [queues.night] in a file of settings, with weight and slots_max")
    queues = {"default": JobQueue("default")}
    for name, table in value.items():
        if unknown := sorted(set(table) - {"weight", "slots_max"}):
            raise ValueError(f"a table of weight and slots_max for each queue; [queues.{name}] has {unknown[0]}")
        slots_max = table.get("slots_max")
        queues[name] = JobQueue(name, _above_0(table.get("weight", 1)), 0 if slots_max is None else _count(slots_max))
    return JobQueues(tuple(queues.values()))


def _priority(value: object) -> int:
    wanted = f"a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}; of two jobs of a queue the higher goes first"
    try:
        number = int(value if isinstance(value, int | str) and not isinstance(value, bool) else "")
    except ValueError:
        raise ValueError(wanted) from None
    if abs(number) > PRIORITY_MAX:
        raise ValueError(wanted)
    return number


def _declare(default: T, kind: Callable[[object], T], meaning: str, *, default_text: str | None = None) -> T:
    """One setting. `default_text` says in words what a default of None comes to."""
    value: T = field(default=default, metadata={"kind": kind, "meaning": meaning, "default_text": default_text})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its value. Sizes are in bytes."""

    master: str | None = _declare(None, _text, "The master to talk to, HOST:PORT.", default_text="an embedded cluster")
    token_file: Path | None = _declare(
        None, _path, "The file that holds the tokens.", default_text="`~/.config/minireduce/token`"
    )

    replication: int = _declare(3, _count, "Replicas of a block, at most the live workers when it is closed.")
    replicas_min: int = _declare(
        2, _count, "Replicas on disk before a close is acknowledged, at most the live workers."
    )
    block_size: int = _declare(64 << 20, size_bytes, "Size of the blocks of a new file.")
    repair_delay_s: float = _declare(
        60.0, _seconds, "How long a worker may be silent before its blocks are replicated again."
    )

    maintenance_s: float = _declare(
        600.0, _seconds, "How long a worker that stopped in good order may be away before its blocks are replicated."
    )
    repair_bytes_per_s: int = _declare(100 << 20, size_bytes, "What repair moves to one worker, and from it, a second.")

    balance_threshold: float = _declare(
        0.1, _fraction, "How far a worker's disks may be from the mean used share before replicas are moved."
    )
    balance_bytes_per_s: int = _declare(
        10 << 20, size_bytes, "What is moved a second from or to one worker so that all are about as full."
    )
    scrub_period_s: float = _declare(
        604_800.0, _seconds, "How long a replica may lie on a worker without being read and verified."
    )
    scrub_bytes_per_s: int = _declare(8 << 20, size_bytes, "What a worker reads a second to verify its replicas.")

    trash_kept_s: float = _declare(
        86400.0, _seconds_or_none, "How long removed files and directories can be brought back; 0: not at all."
    )

    staging_replication: int = _declare(
        2, _count, "Copies of local input that is uploaded for a job; at most one for each live worker."
    )
    staging_keep_s: float = _declare(
        86400.0, _seconds, "How long uploaded input waits for its job to be submitted, since the upload began."
    )

    split_size: int = _declare(
        64 << 20, size_bytes, "The most input that one map task reads. A small input is cut finer."
    )
    reducers: int | None = _declare(
        None, _count, "Partitions of a job's output.", default_text="input / 64 MiB, at most the slots"
    )
    memory_limit: int | None = _declare(
        None, size_bytes, "Memory of one attempt.", default_text="`memory_fraction` of RAM / slots"
    )
    memory_fraction: float = _declare(0.6, _fraction, "Share of a worker's RAM that its attempts use together.")
    record_bytes_max: int = _declare(64 << 20, size_bytes, "The longest record that is read.")
    attempts_max: int = _declare(4, _count, "Failed attempts after which a task fails its job.")
    losses_max: int = _declare(10, _count, "Lost attempts after which a task fails its job.")
    task_timeout_s: float = _declare(600.0, _seconds, "How long an attempt may go without finishing a record.")
    job_history_max: int = _declare(
        10_000,
        _count,
        "Attempts of a job that the master keeps, of an ended one those that did not succeed first.",
    )
    history_max: int = _declare(200_000, _count, "Attempts of all ended jobs that the master keeps.")
    shuffle_compression: Compression = _declare(
        Compression.AUTO,
        _compression,
        "Whether a worker fetches outputs compressed: where that is faster (`auto`), `always` or `never`.",
    )
    spill_compression: Compression = _declare(
        Compression.AUTO,
        _compression,
        "Whether tasks compress spills and map outputs: where the disk is the limit (`auto`), `always` or `never`.",
    )
    merge_ahead: bool = _declare(
        False,
        _switch,
        "Whether free slots merge for reduces that wait (`on`), where these have more runs than they merge at once.",
    )
    attempt_log_size: int = _declare(
        1 << 20, size_bytes, "What a worker keeps of each stream that an attempt prints, half of it from the end."
    )
    job_logs_size: int = _declare(16 << 20, size_bytes, "What the master keeps of what a job's attempts print.")
    logs_size: int = _declare(128 << 20, size_bytes, "What the master keeps of what the attempts of all jobs print.")
    worker_logs_size: int = _declare(
        1 << 30, size_bytes, "What a worker keeps of what attempts print; the oldest goes first."
    )
    orphans_keep_s: float = _declare(
        600.0, _seconds, "How long a worker keeps files of a job that is not known to it any more."
    )
    jobs_unended_max: int = _declare(
        1000, _count, "Jobs that run, are being published or have a result that is kept; more are refused."
    )
    results_keep_s: float = _declare(86400.0, _seconds, "How long results without an output path are kept.")

    queue: str = _declare("default", _text, "The queue that a job is submitted to.")
    priority: int = _declare(0, _priority, "A job's priority: within its queue, the higher goes first.")
    job_weight: float = _declare(1.0, _above_0, "A job's weight among those of its queue and priority.")
    time_limit_s: float = _declare(0.0, _seconds_or_none, "How long a job may take before it is ended; 0: any time.")
    queues: JobQueues = _declare(
        JobQueues(), _queues, "The queues of the master: tables `[queues.NAME]` with `weight` and `slots_max`."
    )
    locality_wait_node_s: float = _declare(
        0.7, _seconds_or_none, "How long a job lets slots pass that are not on a machine of its input; 0: not at all."
    )
    locality_wait_rack_s: float = _declare(
        0.3, _seconds_or_none, "How long after that it lets slots pass that are in no rack of its input either."
    )
    preempt_after_s: float = _declare(
        30.0, _seconds, "How long a job is below its share of slots before others have to give some back."
    )
    priority_wait_s: float = _declare(
        60.0, _seconds, "How long a job is passed by for higher priorities before it gets one slot."
    )
    backup_slots_fraction: float = _declare(
        0.1, _fraction, "Share of the cluster's slots that may run backup attempts; one always may."
    )

    slots: int | None = _declare(None, _count, "Attempts that a worker runs at once.", default_text="its cores")
    worker_lost_s: float = _declare(10.0, _seconds, "Silence after which a worker gets no more work.")
    master_wait_s: float = _declare(
        600.0, _seconds, "How long a worker keeps attempts and outputs while it cannot reach the master."
    )
    task_user: str = _declare("nobody", _text, "The account that runs tasks where the worker was started as root.")


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting, as documentation and messages need it."""

    name: str
    kind: Callable[[object], object]
    default: object
    meaning: str
    default_text: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and for each of them the source that decided it."""

    settings: Settings
    origins: Mapping[str, str]


def _declared() -> Iterator[Setting]:
    for declared in fields(Settings):
        assert declared.default is not MISSING
        wording = declared.metadata["default_text"] or show(declared.default, declared.metadata["kind"])
        yield Setting(declared.name, declared.metadata["kind"], declared.default, declared.metadata["meaning"], wording)


def show(value: object, kind: Callable[[object], object] | None = None) -> str:
    """`value` as a person would write it in a file of settings."""
    if kind is size_bytes and isinstance(value, int):
        unit = max((scale for scale in _SIZE_UNITS.values() if value % scale == 0), default=1)
        suffix = next(name for name, scale in _SIZE_UNITS.items() if scale == unit)
        return f"{value // unit}{suffix}"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _declared()}


def default_files(home: Path | None = None, directory: Path | None = None) -> tuple[Path, ...]:
    """The files that are read when they exist, the strongest last."""
    return (
        Path("/etc/minireduce.toml"),
        (home or Path.home()) / ".config" / "minireduce" / "config.toml",
        (directory or Path.cwd()) / "minireduce.toml",
    )


def load(
    flags: Mapping[str, object] | None = None,
    *,
    config_file: Path | None = None,
    files: tuple[Path, ...] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """What holds here and now. A flag that is None was not given; `config_file` must exist. Raises RequestError."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(SETTINGS, "default")
    for origin, name, written in _sources(flags or {}, config_file, files, environment):
        values[name] = _checked(name, written, origin)
        origins[name] = origin
    return Configuration(Settings(**values), origins)


def _sources(
    flags: Mapping[str, object],
    config_file: Path | None,
    files: tuple[Path, ...] | None,
    environment: Mapping[str, str] | None,
) -> Iterator[tuple[str, str, object]]:
    """(origin, name, what was written there), the strongest last."""
    for path in default_files() if files is None else files:
        yield from _read_file(path, must_exist=False)
    if config_file is not None:
        yield from _read_file(config_file, must_exist=True)
    for variable, text in sorted((os.environ if environment is None else environment).items()):
        if variable.startswith(PREFIX) and variable not in OTHER_VARIABLES:
            yield variable, variable.removeprefix(PREFIX).lower(), text
    for name, value in flags.items():
        if value is not None:
            yield f"--{name.removesuffix('_s').replace('_', '-')}", name, value


def _read_file(path: Path, *, must_exist: bool) -> Iterator[tuple[str, str, object]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if must_exist:
            raise RequestError(f"{path} does not exist", hint="see the path after --config") from None
        return
    except OSError as cause:
        raise RequestError(f"{path} cannot be read: {cause.strerror}") from cause
    except UnicodeDecodeError:
        raise RequestError(f"{path} is no UTF-8 text", hint="TOML files are UTF-8") from None

    import tomllib  # 10 ms that a machine without such files does not pay

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise RequestError(f"{path} is no valid TOML: {cause}", hint="write lines like block_size = '64MiB'") from None
    for name, value in content.items():
        yield str(path), name, value


def _checked(name: str, written: object, origin: str) -> object:
    setting = SETTINGS.get(name)
    if setting is None:
        _refuse_unknown(name, origin)
    try:
        return setting.kind(written)
    except ValueError as wanted:
        raise RequestError(f"{name} cannot be {written!r} (from {origin})", hint=f"it is {wanted}") from None


def _refuse_unknown(name: str, origin: str) -> NoReturn:
    from difflib import get_close_matches

    nearest = get_close_matches(name, SETTINGS, n=1, cutoff=0.0)[0]
    raise RequestError(f"there is no setting {name!r} (from {origin})", hint=f"the nearest is {nearest}")
