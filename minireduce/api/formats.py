"""What a record is: declared here by name, read in `engine.read`.

A format is a plain value, so that a job that names one stays immutable and cheap to ship. `Text` is what a job
without a format gets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from minireduce.api.shipped import paths_of
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

if TYPE_CHECKING:
    from minireduce.api.results import Result

NUMBERS_PER_SPLIT = 1_000_000
NUMBER_MAX = 1 << 62
WIDTH_MAX = 1 << 20

FORMATS = "Text(), Bytes(), KeyValue(), Csv(), Json(), Parquet(), FixedWidth(n), Numbers(n) or Pairs()"
"""All that a record can be, for those who named something else."""

Record_co = TypeVar("Record_co", covariant=True)


InputPlace = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
"""Where input lies: what may stand on the command line, or a list of such."""


class InputFormat(Generic[Record_co]):
    """What `Job(input=…)` takes; its parameter is the type of a record.

    One that files hold may say which: `Csv("a.csv")`. What is named where the job is run goes before that.
    """

    __slots__ = ()

    @property
    def places(self) -> tuple[str, ...]:
        """What it says of where its input lies. Raises RequestError for what is no place."""
        given = getattr(self, "place", None)
        return () if given is None else paths_of("place", given)

    @property
    def has_columns(self) -> bool:
        """Whether a `map_batch` can take it."""
        return True


def _check_place(form: InputFormat[Any]) -> None:
    """Keep several places as a tuple, as a format never changes. Raises RequestError for what is no place."""
    if form.places:
        object.__setattr__(form, "place", form.places)


def _take_columns(form: InputFormat[Any], kind: type | tuple[type, ...]) -> None:
    """Columns may stand where a place stands: they are of a kind of their own, as several places are a list."""
    if isinstance(form.place, kind):  # type: ignore[attr-defined]
        if form.columns is not None:  # type: ignore[attr-defined]
            raise RequestError(f"{type(form).__name__}: columns are given twice", hint="name the place first")
        object.__setattr__(form, "columns", form.place)  # type: ignore[attr-defined]
        object.__setattr__(form, "place", None)
    _check_place(form)


@dataclass(frozen=True, slots=True)
class Text(InputFormat[str]):
    r"""Lines: split at `\n`, one trailing `\r` and a byte order mark removed, invalid UTF-8 replaced and counted."""

    place: InputPlace = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_place(self)


@dataclass(frozen=True, slots=True)
class Bytes(InputFormat[bytes]):
    r"""The lines that `Text` gives, as bytes just as they stand in the file, without their `\n` only."""

    place: InputPlace = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_place(self)


@dataclass(frozen=True, slots=True)
class KeyValue(InputFormat["tuple[str, str | None]"]):
    r"""Lines of `key<TAB>value`, as a text output has them; the map is called as `map(key, value)`, with two strings.

    The key goes up to the first tab of a line; the value of a line without one is None. Lines as of `Text`.
    """

    place: InputPlace = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_place(self)


@dataclass(frozen=True, slots=True)
class Json(InputFormat[Any]):
    """What the JSON in each line says, as Python's `json` has it; lines as of `Text`. A line that is no JSON is a bad
    record.

    Args:
        place: where the input lies.
        columns: the fields to read and their types, `str`, `int`, `float` or `bool`, such as `{"user": str, "n": int}`.
            Lines are then objects, and a record is a dict of these fields: None where one is null or missing, and a
            bad record where one is of another type. An int is a float where that is declared, and has 64 bits.

    Raises:
        RequestError: `columns` is no dict of names and these types.
    """

    place: InputPlace | dict[str, type] = field(default=None, repr=False, compare=False)
    columns: dict[str, type] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        _take_columns(self, (dict, tuple))
        given = self.columns
        is_fit = given is None or (
            isinstance(given, dict)
            and len(given) > 0
            and all(type(name) is str and kind in (str, int, float, bool) for name, kind in given.items())
        )
        if not is_fit:
            raise RequestError(
                f"Json: columns={given!r} must be a dict of names and types",
                hint='str, int, float or bool: {"user": str, "n": int}',
            )

    @property
    def has_columns(self) -> bool:
        return self.columns is not None


@dataclass(frozen=True, slots=True)
class Csv(InputFormat["dict[str, str]"]):
    """Rows of comma-separated text, each as a dict of strings, quoted as Python's `csv` has it. Empty lines are passed
    over; a row with more or fewer fields than there are names is a bad record.

    Args:
        place: where the input lies.
        header: True: the first row of each file names its fields; or the names, for files that have no such row.
        delimiter: what stands between fields.
        multiline: whether quoted fields may hold line ends. A file is then read by one map task, as it cannot be told
            from the middle of it where rows begin.

    Raises:
        RequestError: an argument cannot be.
    """

    place: InputPlace = field(default=None, repr=False, compare=False)
    header: bool | tuple[str, ...] = True
    delimiter: str = ","
    multiline: bool = False

    def __post_init__(self) -> None:
        _check_place(self)
        names = self.header
        if names is not True and not (isinstance(names, tuple) and names and all(type(n) is str for n in names)):
            raise RequestError(
                f"Csv: header={names!r} must be True or a tuple of names", hint='for files without one: ("id", "name")'
            )
        if isinstance(names, tuple) and len(set(names)) < len(names):
            raise RequestError(f"Csv: header={names!r} has a name twice", hint="rows are dicts: give each its own")
        if not isinstance(self.delimiter, str) or len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise RequestError(f"Csv: delimiter={self.delimiter!r} must be one character", hint='such as ";" or "\\t"')
        if not isinstance(self.multiline, bool):
            raise RequestError(f"Csv: multiline={self.multiline!r} must be True or False")

    @property
    def has_columns(self) -> bool:
        return not self.multiline


@dataclass(frozen=True, slots=True)
class Parquet(InputFormat["dict[str, Any]"]):
    """Rows of Parquet files, each as a dict; a `map_batch` gets their columns. A row group is read by the split in
    which it begins.

    Args:
        place: where the input lies.
        columns: the names of those to read; all if not given. A tuple in the first place is this.

    Raises:
        RequestError: `columns` is no tuple of names.
    """

    place: InputPlace = field(default=None, repr=False, compare=False)
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _take_columns(self, tuple)
        given = self.columns
        if given is not None and (not isinstance(given, tuple) or not given or not all(type(n) is str for n in given)):
            raise RequestError(f"Parquet: columns={given!r} must be a tuple of names", hint='such as ("user", "time")')


@dataclass(frozen=True, slots=True)
class FixedWidth(InputFormat[bytes]):
    """Records of so many bytes, one after the other, with nothing between them. As `output`: key and value, which are
    bytes, as they are.

    Raises:
        RequestError: the width is no whole number from 1 on.
    """

    width: int
    place: InputPlace = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_place(self)
        if not isinstance(self.width, int) or isinstance(self.width, bool) or not 1 <= self.width <= WIDTH_MAX:
            raise RequestError(f"FixedWidth({self.width!r}) needs a whole number of bytes from 1 to {WIDTH_MAX}")


@dataclass(frozen=True, slots=True)
class Pairs(InputFormat["tuple[object, object]"]):
    """Typed pairs that an earlier step or job wrote; the map is called as `map(key, value)`.

    Args:
        result: of which job; the one that is given to `run` or `submit` if it is not named here. It stays with whoever
            made the job: what is shipped to task processes names none.
    """

    result: Result[Any, Any] | None = field(default=None, compare=False)

    def __reduce__(self) -> tuple[object, ...]:
        return (Pairs, ())


@dataclass(frozen=True, slots=True)
class Numbers(InputFormat[int]):
    """The ints from 0 up to `count`, which no file holds: for work that is computed from nothing, such as a simulation.

    Args:
        count: how many.
        splits: over how many map tasks they are spread evenly; one for each million if not given.

    Raises:
        RequestError: a number is below its least, or too large.
    """

    count: int
    splits: int | None = None

    def __post_init__(self) -> None:
        splits = 1 if self.splits is None else self.splits
        for name, value, least in (("count", self.count, 0), ("splits", splits, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= NUMBER_MAX:
                raise RequestError(f"Numbers: {name}={value!r} must be a whole number from {least} to {NUMBER_MAX}")
