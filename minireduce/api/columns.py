"""What jobs call inside a `map_batch` or a `reduce_batch`: words, matches, groups and pairs of whole columns, without a
Python loop over rows.

    from minireduce import Job, Sum, columns

    job = Job(map_batch=lambda batch: columns.pairs(columns.words(batch["line"]), 1), reduce=Sum())

Each function gives to the bit what Python gives row by row: `words` splits as `str.split` does, `findall` and `matches`
use Python's `re`. Where an ASCII form is faster it has a name of its own.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

_ASCII_SPACES = ((ord("\t"), 5), (ord(" "), 1))  # the first of neighbours, and how many they are
_TEXT_SPACES = ((ord("\t"), 5), (0x1C, 5))  # str.split splits at four control characters more, just before the space
_WIDE_SPACES = tuple(
    chr(code).encode() for code in (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
)
_LEADS = bytes(sorted({space[0] for space in _WIDE_SPACES}))
_LITERAL = re.compile(r"(?:[^\\.^$*+?{}\[\]|()]|\\[^a-zA-Z0-9])*")  # of a pattern: plain and escaped characters
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ROWS_PER_PLACE = 8  # with a place in more rows than one of so many, a kernel looks at each row as fast
_NUMPY_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16", "null": "float64"}  # where they differ


def pairs(key: Any, value: Any) -> Any:
    """A record batch of two columns.

    Args:
        key: an Arrow array, or an array of numpy with numbers; None for keys that are all None.
        value: an array as long as `key`, where a matrix of numpy is a list of numbers for each row; or one int, float,
            bool, string or bytes for all rows.
    """
    import pyarrow as pa

    if key is None:
        value = array(value)
        key = pa.nulls(len(value))
    key = array(key)
    if isinstance(value, int) and not isinstance(value, bool):
        import numpy as np

        value = np.full(len(key), value, np.int64)
    elif isinstance(value, str | bytes | float | bool):
        value = pa.repeat(value, len(key))
    return pa.RecordBatch.from_arrays([key, array(value)], names=["key", "value"])


def rows(column: Any) -> Any:
    """The lists of numbers of `column`, all of one length, as the rows of a matrix of numpy; of none, a matrix of none.

    Raises:
        ValueError: they are not of one length, or something is null.
    """
    import numpy as np

    if not len(column):  # of no type, too: what an input without any values yet has in a join
        return np.zeros((0, getattr(column.type, "list_size", 0)))
    elements = None if column.null_count else column.flatten()
    if elements is None or elements.null_count or len(column.value_lengths().unique()) > 1:
        raise ValueError("these are not rows of one length")
    return _numbers(elements).reshape(len(column), -1 if len(elements) else 0)


def fields(column: Any, separator: str, count: int) -> list[Any]:
    """Columns of the first, second and so on up to `count` fields of each string, the last with all that is left, as
    `str.split(separator, count - 1)` gives them. A row with fewer of them raises.
    """
    import pyarrow.compute as pc

    parts = pc.split_pattern(column, separator, max_splits=count - 1)
    return [pc.list_element(parts, scalar(index)) for index in range(count)]


def words(column: Any) -> Any:
    """The words of all strings of `column`, one after the other, split at white space as `str.split` does.

    Args:
        column: an Arrow array of strings. A null has no words.
    """
    return _split(column, _TEXT_SPACES, _WIDE_SPACES)


def ascii_words(column: Any) -> Any:
    """As `words`, but split as `bytes.split` does: at space, tab, newline, return, form feed and vertical tab only.

    Args:
        column: an Arrow array of strings or of binary; the words are of the same type.
    """
    return _split(column, _ASCII_SPACES, ())


def numbers(column: Any) -> Any:
    """The numbers of `column` as an array of numpy, in the same memory; truth values in memory of their own.

    Raises:
        ValueError: something is null.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} of these numbers are null")
    return _numbers(column)


def array(given: Any) -> Any:
    """An Arrow array over the memory of numbers of numpy, of a matrix as lists; of anything else, what it is.
    (pyarrow's own conversion imports pandas where that is installed, which takes longer than most tasks do.)
    """
    import numpy as np
    import pyarrow as pa

    if not isinstance(given, np.ndarray) or given.ndim > 2 or given.dtype.kind not in "if":
        return given
    numbers = np.ascontiguousarray(given, np.int64 if given.dtype.kind == "i" else np.float64)
    kind = pa.int64() if given.dtype.kind == "i" else pa.float64()
    elements = pa.Array.from_buffers(kind, numbers.size, [None, pa.py_buffer(numbers)])
    if given.ndim == 1:
        return elements
    return pa.FixedSizeListArray.from_arrays(elements, given.shape[1])


def scalar(given: str | bytes | float) -> Any:
    """An Arrow scalar, for functions of `pyarrow.compute`. (A plain value that is given to them imports pandas, as in
    `array`.)
    """
    import numpy as np
    import pyarrow as pa

    if isinstance(given, int | float):
        return array(np.array([given]))[0]
    stored = given.encode() if isinstance(given, str) else given
    kind = pa.string() if isinstance(given, str) else pa.binary()
    ends = pa.py_buffer(np.array([0, len(stored)], np.int32))
    return pa.Array.from_buffers(kind, 1, [None, ends, pa.py_buffer(stored)])[0]


def take(column: Any, index: Any) -> Any:
    """The rows of `column` at these places, which are an array of numpy."""
    return column.take(array(index))


def group_starts(key: Any) -> Any:
    """Where each run of equal keys begins in the column `key`: an array of numpy, as `take` and its `reduceat` have it.
    Keys that are null are equal.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if key.null_count == len(key):
        return np.zeros(min(1, len(key)), np.int64)
    if pa.types.is_struct(key.type):  # of the positions of tuples
        is_start = np.zeros(len(key), np.bool_)
        for part in (*key.flatten(), key.is_valid()):
            is_start[group_starts(part)] = True
        return np.flatnonzero(is_start)
    before, after = key[:-1], key[1:]
    differs = _booleans(pc.not_equal(before, after))
    if key.null_count:
        is_null, is_null_after = _booleans(pc.is_null(before)), _booleans(pc.is_null(after))
        differs = np.where(is_null | is_null_after, is_null != is_null_after, differs)
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(differs) + 1))


def join(left: Any, right: Any, how: str = "inner") -> Any:
    """The pairs of two batches whose keys are equal, as a batch of `key`, `left` and `right`: what a `reduce_batch` of
    two inputs makes its answer of.

    They stand in the order of keys, and for each pair of `right` there are all of `left` with its key, as a loop over
    orders with one over users in it would give them.

    Args:
        left: a batch of the columns `key` and `value` in the order of keys; the shorter one.
        right: another one.
        how: "inner"; "left", "right" or "full" for all pairs of that one or of both, with nulls for a missing partner.
    """
    import numpy as np
    import pyarrow as pa

    if how not in {"inner", "left", "right", "full"}:
        raise ValueError(f"how={how!r} must be inner, left, right or full")
    batches = (left, right)
    starts = [group_starts(batch["key"]) for batch in batches]
    distinct = [take(batch["key"], each) for each, batch in zip(starts, batches, strict=True)]
    keys, places = _union(*distinct)
    begins: list[Any] = []
    counts: list[Any] = []
    for side, batch in enumerate(batches):
        for of_all, of_side in ((begins, starts[side]), (counts, np.diff(starts[side], append=batch.num_rows))):
            of_all.append(np.zeros(len(keys), np.int64))
            of_all[side][places[side]] = of_side
    is_left, is_right = (count > 0 for count in counts)
    wanted = {"inner": is_left & is_right, "left": is_left, "right": is_right, "full": is_left | is_right}[how]
    groups = np.flatnonzero(wanted)
    rows = [np.maximum(count[groups], 1) for count in counts]
    index = _combinations([begin[groups] for begin in begins], rows)
    of_each = rows[0] * rows[1]
    values = [
        _taken_or_null(batch["value"], index[side], np.repeat(counts[side][groups] == 0, of_each))
        for side, batch in enumerate(batches)
    ]
    key = take(keys, np.repeat(groups, of_each))
    return pa.RecordBatch.from_arrays([key, *values], names=["key", "left", "right"])


def _union(left: Any, right: Any) -> tuple[Any, tuple[Any, Any]]:
    """The keys of two sorted columns without equal ones, and the place that each of them has there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = right.type if pa.types.is_null(left.type) else left.type
    if pa.types.is_null(kind):
        return pa.nulls(min(1, len(left) + len(right))), (np.zeros(len(left), int), np.zeros(len(right), int))
    keys = pa.concat_arrays([left.cast(kind), right.cast(kind)])
    order = numbers(pc.array_sort_indices(keys, null_placement="at_start")).astype(np.int64)
    ascending = take(keys, order)
    starts = group_starts(ascending)
    is_new = np.zeros(len(keys), np.int64)
    is_new[starts] = 1
    places = np.empty(len(keys), np.int64)
    places[order] = np.cumsum(is_new) - 1
    return take(ascending, starts), (places[: len(left)], places[len(left) :])


def _combinations(begins: list[Any], counts: list[Any]) -> tuple[Any, Any]:
    """The places of the rows of two sides that meet: of each group every row of the one with every row of the other."""
    import numpy as np

    made = counts[0] * counts[1]
    ends = np.cumsum(made)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - made, made)
    if (counts[0] == 1).all():  # which spares divisions, that take longer than all else
        return np.repeat(begins[0], made), np.repeat(begins[1], made) + within
    each = np.repeat(counts[0], made)
    return np.repeat(begins[0], made) + within % each, np.repeat(begins[1], made) + within // each


def _taken_or_null(column: Any, index: Any, is_missing: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    if not is_missing.any():
        return take(column, index)
    is_there = pa.py_buffer(np.packbits(~is_missing, bitorder="little"))
    return column.take(pa.Array.from_buffers(pa.int64(), len(index), [is_there, pa.py_buffer(index.astype(np.int64))]))


def cut(column: Any, start: int, stop: int) -> Any:
    """The bytes from `start` up to `stop` of each record of a fixed width, again of a fixed width."""
    import numpy as np
    import pyarrow as pa

    width = column.type.byte_width
    if not 0 <= start < stop <= width:
        raise ValueError(f"bytes {start} to {stop} are not in records of {width}")
    records = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    piece = np.ascontiguousarray(records.reshape(-1, width)[:, start:stop])
    return pa.Array.from_buffers(pa.binary(stop - start), len(column), [None, pa.py_buffer(piece)])


def contains(column: Any, text: str) -> Any:
    """Whether `text` stands in each string: a boolean array, to filter a batch with; False for a null."""
    import pyarrow.compute as pc

    found = _found(column, text.encode()) if str(column.type) in {"string", "binary"} else None
    return pc.fill_null(pc.match_substring(column, text), False) if found is None else found


def matches(column: Any, pattern: str) -> Any:
    """Whether Python's `re.search` finds `pattern` in each string: a boolean array, to filter a batch with.

    A pattern without special characters, or with all of them escaped, is looked for by a kernel.
    """
    import pyarrow as pa

    if _LITERAL.fullmatch(pattern):
        return contains(column, _ESCAPED.sub(r"\1", pattern))
    search = re.compile(pattern).search
    return pa.array([line is not None and search(line) is not None for line in column.to_pylist()], pa.bool_())


def findall(column: Any, pattern: str) -> Any:
    """What Python's `re.findall` finds in all strings of `column`, one after the other; for a pattern with at most one
    group.
    """
    import pyarrow as pa

    compiled = re.compile(pattern)
    if compiled.groups > 1:
        raise ValueError(f"{pattern!r} has {compiled.groups} groups; one column takes one")
    lines = [line for line in column.to_pylist() if line is not None]
    return pa.array(chain.from_iterable(map(compiled.findall, lines)), pa.string())


def _found(column: Any, sought: bytes) -> Any:
    """What `contains` gives, by looking through all rows at once, which takes an eighth of the time that a look at each
    does. None where that is of no use, since many rows have it.
    """
    import numpy as np
    import pyarrow as pa

    if not sought or not len(column) or column.null_count:
        return None
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
    first, last = int(offsets[0]), int(offsets[-1])
    content = column.buffers()[2].slice(first, last - first).to_pybytes() if last > first else b""
    places: list[int] = []
    at = content.find(sought)
    while at >= 0:
        if len(places) * _ROWS_PER_PLACE > len(column):
            return None
        places.append(at)
        at = content.find(sought, at + 1)
    begins = np.array(places, np.int64) + first
    rows = np.searchsorted(offsets, begins, side="right") - 1
    is_found = np.zeros(len(column), np.bool_)
    is_found[rows[begins + len(sought) <= offsets[rows + 1]]] = True  # the others go on in the next row
    bits = np.packbits(is_found, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(column), [None, pa.py_buffer(bits)])


def _numbers(column: Any) -> Any:
    """The numbers or truth values of a column without nulls; empty, it may be of no type."""
    import numpy as np

    name = str(column.type)
    if name == "bool":
        return _booleans(column)
    kind = np.dtype(_NUMPY_NAMES.get(name, name))
    if not len(column):
        return np.zeros(0, kind)
    return np.frombuffer(column.buffers()[1], kind, len(column), column.offset * kind.itemsize)


def _booleans(array: Any) -> Any:
    """The truth values of an Arrow array; any for a null."""
    import numpy as np

    if not len(array):
        return np.zeros(0, np.bool_)
    bits = np.frombuffer(array.buffers()[1], np.uint8)
    return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].astype(np.bool_)


def _split(column: Any, spaces: tuple[tuple[int, int], ...], wide_spaces: tuple[bytes, ...]) -> Any:
    import numpy as np
    import pyarrow as pa

    if column.null_count:
        column = column.drop_null()
    if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        column = column.cast(pa.binary() if pa.types.is_large_binary(column.type) else pa.string())
    if not len(column) or column.buffers()[2] is None:
        return column[:0]
    bounds = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
    data = np.frombuffer(column.buffers()[2], np.uint8)[bounds[0] : bounds[-1]]
    is_word = np.zeros(len(data) + 2, np.bool_)  # with an end before the first byte and one after the last
    inner = is_word[1:-1]
    _mark_words(inner, data, spaces, wide_spaces)
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])  # where a word begins, where it ends, and so on
    starts = edges[::2]
    offsets = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(edges[1::2] - starts, out=offsets[1:])
    # The border of two strings cuts what would be one word.
    borders = bounds[1:-1] - bounds[0]
    borders = borders[(borders > 0) & (borders < len(data)) & (borders != bounds[:-2] - bounds[0])]
    cuts = borders[inner[borders] & inner[borders - 1]]
    if len(cuts):
        follows = np.searchsorted(starts, cuts)
        offsets = np.insert(offsets, follows, offsets[follows - 1] + (cuts - starts[follows - 1]))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.compress(inner, data))]
    return pa.Array.from_buffers(column.type, len(offsets) - 1, buffers)


def _mark_words(is_word: Any, data: Any, spaces: tuple[tuple[int, int], ...], wide_spaces: tuple[bytes, ...]) -> None:
    """Tell bytes of words from white space. A byte is among neighbours if it is less than their number, once the first
    is subtracted: what was below that wraps around. (To look bytes up in a table takes ten times as long.)
    """
    import numpy as np

    is_word[:] = True
    for first, count in spaces:
        is_word &= data - np.uint8(first) >= count
    if wide_spaces and data.size and data.max() >= _LEADS[0]:
        _unmark(is_word, data, wide_spaces)


def _unmark(is_word: Any, data: Any, wide_spaces: tuple[bytes, ...]) -> None:
    """Take the bytes of white space beyond ASCII out of the words."""
    import numpy as np

    is_lead = np.zeros(len(data), np.bool_)
    for lead in _LEADS:
        is_lead |= data == lead
    leads = np.flatnonzero(is_lead)
    padded = np.concatenate((data, np.zeros(2, np.uint8)))
    for space in wide_spaces:
        found = leads[padded[leads] == space[0]]
        for place, byte in enumerate(space[1:], 1):
            found = found[padded[found + place] == byte]
        for place in range(len(space)):
            is_word[found + place] = False
