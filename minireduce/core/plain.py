"""Turn the core's dataclasses into nested plain values and back, for the durable form.

A dataclass becomes a dict of its fields; where a field may hold one of several classes, the class's name stands under
the empty key. None stays None. A field that is missing takes its default, so an older row can be read after a field was
added.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from minireduce.errors import Corruption


def to_plain(value: Any) -> Any:
    """`value` as nested dicts, tuples, strings, numbers, bytes and None."""
    cls: Any = type(value)
    if cls in _AS_IT_IS:
        return value
    names = _field_names(cls)
    if names:
        plain: dict[str, Any] = {"": cls.__name__}
        for name in names:
            item = getattr(value, name)
            plain[name] = item if type(item) in _AS_IT_IS else to_plain(item)
        return plain
    if isinstance(value, tuple | list):
        return tuple([item if type(item) in _AS_IT_IS else to_plain(item) for item in value])
    if isinstance(value, StrEnum):
        return str(value)
    return value


_AS_IT_IS = frozenset((int, float, bool, str, bytes, types.NoneType))


@cache
def _field_names(cls: Any) -> tuple[str, ...]:
    """Those of a dataclass; none of any other class. Remembered, since every task that ends is written down."""
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else ()


def from_plain(hint: Any, plain: Any) -> Any:
    """The value of type `hint` that `to_plain` was given. Raises Corruption when `plain` is no such value."""
    try:
        return _reader(hint)(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corruption(f"the metadata holds no {hint}: {error!r}") from error


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _union_reader(get_args(hint))
    if origin is tuple:
        return _tuple_reader(get_args(hint))
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    if hint is float:
        return float
    return _same


def _same(plain: Any) -> Any:
    return plain


def _union_reader(classes: tuple[Any, ...]) -> Callable[[Any], Any]:
    named = [cls for cls in classes if cls is not types.NoneType]
    by_name = {cls.__name__: _reader(cls) for cls in named}
    read = _reader(named[0]) if len(named) == 1 else lambda plain: by_name[plain[""]](plain)
    return read if len(named) == len(classes) else lambda plain: None if plain is None else read(plain)


def _tuple_reader(items: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(items) == 2 and items[1] is Ellipsis:
        read = _reader(items[0])
        if read is _same:
            return tuple
        return lambda plain: tuple(read(item) for item in plain)
    reads = tuple(_reader(item) for item in items)
    return lambda plain: tuple(read(item) for read, item in zip(reads, plain, strict=True))


def _dataclass_reader(cls: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(cls)
    reads = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(cls)}
    return lambda plain: cls(**{name: reads[name](item) for name, item in plain.items() if name})
