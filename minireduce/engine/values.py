"""How values become bytes: msgpack with exact types, and pickle only where that cannot.

What comes back is equal to what was given and of the same type, down to the last nested one. msgpack alone would turn
a tuple into a list and a bytearray into bytes; so its strict mode hands every other type to `_extend`, and containers
are looked through for bytearrays first. Equal plain values have equal bytes, whichever of their parts are the same
object; of other objects pickle decides. This is the only module of the engine that unpickles, and it does so only for
values that tasks of the same job wrote; a reader that must not says `allow_pickle=False`.

Columns: values that are all `int` (64 bits) or all `float` are kept as numpy arrays and written as such, see `columns`.
"""

from __future__ import annotations

import io
import operator
import pickle
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from itertools import chain
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from minireduce.engine.errors import InvalidValue
from minireduce.errors import Refused

Places = npt.NDArray[np.int64]

_TUPLE, _INT, _SET, _FROZENSET, _DATE, _DATETIME, _COMPLEX, _DECIMAL, _PICKLE = range(1, 10)
_SIMPLE = frozenset({str, bytes, int, float, bool, type(None)})
_ALTERED = frozenset({bytearray, memoryview, msgpack.ExtType, msgpack.Timestamp})  # which msgpack takes as its own
_SEQUENCES = frozenset({list, tuple})
_TOGETHER = 4096  # values that are packed in one go
_LEVELS_LOOKED_AT = 6  # of lists in each other; values with more are packed one by one
_TUPLES_MIN = 16  # values for which looking at all their heads at once pays
_DEPTH_MAX = 100  # of lists and dicts in each other; what is deeper is pickled as a whole


def pack(value: Any) -> bytes:
    """The bytes of one value. Raises InvalidValue if it cannot be stored."""
    if type(value) not in _SIMPLE:
        try:
            value = _spelled_out(value, 0)
        except _NestedDeeply:
            value = _pickled(value)
    packer = _idle.pop() if _idle else _packer()  # one that is at work cannot be used for what is nested in its value
    try:
        packed: bytes = packer.pack(value)
    except UnicodeEncodeError:
        packed = _packer(unicode_errors="surrogatepass").pack(value)
    except ValueError:  # nested too deep, or in itself
        packed = packer.pack(_pickled(value))
    finally:
        _idle.append(packer)
    return packed


def pack_all(values: Iterable[Any]) -> list[bytes]:
    """The bytes of each value."""
    values = list(values)
    packed: list[bytes] = []
    for start in range(0, len(values), _TOGETHER):
        packed += _packed_together(values[start : start + _TOGETHER])
    return packed


def _packed_together(values: list[Any]) -> list[bytes]:
    """As `pack` of each value, in loops that run in C where nothing in them needs to be looked at one by one."""
    types = set(map(type, values))
    if not (types <= _SIMPLE or _are_as_msgpack_takes_them(values)):
        return list(map(pack, values))
    packer = _packer()
    try:
        if types == {tuple}:
            return [_tuple_head(len(body)) + body for body in map(packer.pack, map(list, values))]
        return list(map(packer.pack, values))
    except (UnicodeEncodeError, ValueError):
        return list(map(pack, values))


def _are_as_msgpack_takes_them(values: list[Any]) -> bool:
    """Whether nothing in these values would be changed silently, down to the last list and tuple."""
    for _ in range(_LEVELS_LOOKED_AT):
        types = set(map(type, values))
        if not types.isdisjoint(_ALTERED) or dict in types:
            return False
        if types.isdisjoint(_SEQUENCES):
            return True
        values = list(chain.from_iterable(value for value in values if type(value) in _SEQUENCES))
    return False


@lru_cache(maxsize=1024)
def _tuple_head(length: int) -> bytes:
    """What stands before the elements of a tuple, packed as a list of so many bytes."""
    packed: bytes = msgpack.packb(msgpack.ExtType(_TUPLE, bytes(length)))
    return packed[:-length]


def unpack(packed: bytes, *, allow_pickle: bool = True) -> Any:
    """The value of these bytes. Raises Refused for a pickle that is not allowed."""
    hook = _revive if allow_pickle else _revive_plain
    return msgpack.unpackb(packed, ext_hook=hook, strict_map_key=False, unicode_errors="surrogatepass")


def unpack_all(packed: bytes | memoryview, *, allow_pickle: bool = True) -> Iterator[Any]:
    """The values whose bytes stand one after the other."""
    unpacker = msgpack.Unpacker(
        ext_hook=_revive if allow_pickle else _revive_plain,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        max_buffer_size=0,
    )
    unpacker.feed(packed)
    return iter(unpacker)


def unpack_each(packed: bytes | memoryview, lengths: Places, *, allow_pickle: bool = True) -> list[Any]:
    """The same values, of which it is known how many bytes each has."""
    if len(lengths) >= _TUPLES_MIN and (bodies := _tuple_bodies(packed, lengths)) is not None:
        return list(map(tuple, unpack_all(bodies, allow_pickle=allow_pickle)))
    return list(unpack_all(packed, allow_pickle=allow_pickle))


def _tuple_bodies(packed: bytes | memoryview, lengths: Places) -> bytes | None:
    """The elements of each tuple, packed as a list, if all of these are tuples: what calls no hook to be unpacked."""
    data = np.frombuffer(packed, np.uint8)
    starts = np.cumsum(lengths) - lengths
    if _EXTENSION_HEADS[data[starts[0]]] == 0:
        return None
    head_bytes = tuple_heads(data, starts)
    if head_bytes is None or not head_bytes.all():
        return None
    return without_heads(data, starts, head_bytes).tobytes()


def tuple_heads(data: npt.NDArray[np.uint8], starts: Places) -> Places | None:
    """How many bytes stand before the elements of each tuple among the values that begin there, 0 for what is none;
    nothing at all if one is of a type that msgpack does not have.
    """
    head_bytes = _EXTENSION_HEADS[data[starts]]
    extended = np.flatnonzero(head_bytes)
    if (data[starts[extended] + head_bytes[extended] - 1] != _TUPLE).any():
        return None
    return head_bytes


def without_heads(data: npt.NDArray[np.uint8], starts: Places, head_bytes: Places) -> npt.NDArray[np.uint8]:
    """The same bytes less so many of each value."""
    is_kept = np.ones(len(data), np.bool_)
    for place in range(int(head_bytes.max())):
        is_kept[starts[head_bytes > place] + place] = False
    return data[is_kept]


_EXTENSION_HEADS = np.zeros(256, np.int64)
"""How many bytes stand before what an extension holds, its code among them, by the first byte; 0 for all else."""
_EXTENSION_HEADS[0xD4:0xD9] = 2
_EXTENSION_HEADS[[0xC7, 0xC8, 0xC9]] = 3, 4, 6

_idle: list[msgpack.Packer] = []  # making one costs more than packing most values


def _packer(unicode_errors: str | None = None) -> msgpack.Packer:
    return msgpack.Packer(default=_extend, strict_types=True, unicode_errors=unicode_errors)


class _NestedDeeply(Exception):
    """Deeper than msgpack can take, or in itself."""


def _spelled_out(value: Any, depth: int) -> Any:
    """The value with what msgpack would silently change in lists and dicts pickled; other containers come by `_extend`.

    Each such part is pickled by itself, since a pickle says which of its parts are the same object: a list merged from
    two halves would else have other bytes than the equal one that was made in one go.
    """
    if depth > _DEPTH_MAX:
        raise _NestedDeeply
    kind = type(value)
    if kind is dict:
        if set(map(type, value.values())) <= _SIMPLE:
            return value
        parts = [_spelled_out(part, depth + 1) for part in value.values()]
        is_same = all(map(operator.is_, parts, value.values()))
        return value if is_same else dict(zip(value, parts, strict=True))
    if kind is list:
        if set(map(type, value)) <= _SIMPLE:
            return value
        parts = [_spelled_out(part, depth + 1) for part in value]
        return value if all(map(operator.is_, parts, value)) else parts
    return _pickled(value) if kind in _ALTERED else value


def _extend(value: Any) -> msgpack.ExtType:
    kind = type(value)
    convert = _EXTENSIONS.get(kind)
    return _pickled(value) if convert is None else convert(value)


def _unordered(code: int) -> Callable[[Any], msgpack.ExtType]:
    # sorted, since the order of a set of strings differs from process to process
    return lambda value: msgpack.ExtType(code, _ARRAY_HEAD(len(value)) + b"".join(sorted(map(pack, value))))


_ARRAY_HEAD: Callable[[int], bytes] = msgpack.Packer().pack_array_header


def _datetime(value: datetime) -> msgpack.ExtType:
    # a time zone, and the second of two equal times, come back exactly only by pickle
    if value.tzinfo is not None or value.fold:
        return _pickled(value)
    return msgpack.ExtType(_DATETIME, value.isoformat().encode())


_EXTENSIONS: dict[type, Callable[[Any], msgpack.ExtType]] = {
    tuple: lambda value: msgpack.ExtType(_TUPLE, pack(list(value))),
    int: lambda value: msgpack.ExtType(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)),
    set: _unordered(_SET),
    frozenset: _unordered(_FROZENSET),
    date: lambda value: msgpack.ExtType(_DATE, value.isoformat().encode()),
    datetime: _datetime,
    complex: lambda value: msgpack.ExtType(_COMPLEX, msgpack.packb((value.real, value.imag))),
    Decimal: lambda value: msgpack.ExtType(_DECIMAL, str(value).encode()),
}


def _pickled(value: Any) -> msgpack.ExtType:
    try:
        return msgpack.ExtType(_PICKLE, _pickle_bytes(value))
    except Exception as error:
        raise InvalidValue(
            f"a value of type {type(value).__name__} cannot be stored: {error}",
            hint="yield plain values, or objects that pickle can take apart",
        ) from error


def _pickle_bytes(value: Any) -> bytes:
    """By name where the class can be found by it, else with the class: one of a session or notebook has no module.

    cloudpickle numbers such classes, so that a session which gets its own one back sees the same class again. It would
    make bytes of a memoryview, which is not what was given.
    """
    try:
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        sink = io.BytesIO()
        _by_value()(sink, protocol=5).dump(value)
        return sink.getvalue()


@cache
def _by_value() -> Any:
    import cloudpickle

    table = cloudpickle.Pickler.dispatch_table.new_child({memoryview: _refuse})
    return type("ByValue", (cloudpickle.Pickler,), {"dispatch_table": table})


def _refuse(value: Any) -> Any:
    raise TypeError(f"cannot pickle {type(value).__name__!r} object")


def _revive(code: int, data: bytes) -> Any:
    if code == _PICKLE:
        return pickle.loads(data)  # noqa: S301  written by a task of the same job, see the module's docstring
    return _revive_with(code, data, allow_pickle=True)


def _revive_plain(code: int, data: bytes) -> Any:
    if code == _PICKLE:
        raise Refused(
            "a value was stored by pickle, and pickle is not allowed here",
            hint="pass allow_pickle=True if you trust its writer",
        )
    return _revive_with(code, data, allow_pickle=False)


def _revive_with(code: int, data: bytes, *, allow_pickle: bool) -> Any:
    match code:
        case 1 | 3 | 4:
            return {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}[code](unpack(data, allow_pickle=allow_pickle))
        case 2:
            return int.from_bytes(data, "big", signed=True)
        case 5:
            return date.fromisoformat(data.decode())
        case 6:
            return datetime.fromisoformat(data.decode())
        case 7:
            return complex(*msgpack.unpackb(data))
        case 8:
            return Decimal(data.decode())
        case _:
            return msgpack.ExtType(code, data)
