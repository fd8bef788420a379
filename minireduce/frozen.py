"""`dataclass` as in the standard library, with methods that are made when they are first called.

Every message, event, action and row is a frozen, slotted dataclass; a daemon imports two hundred of them. For each the
standard library writes the source of six methods and compiles it when the class is made: 0.6 ms a class on CPython
3.11, which was 45 % of the CPU time that the four processes of a small job spent on imports. Most of them never meet
most of those classes.

Here such a class gets its fields and slots at once, and for its methods stand-ins: the first call has the standard
library make the real ones, which take the place of the stand-ins for good, so the second call is as fast as ever. The
two behave alike in every way but `inspect.signature` of a class that was never used. Whatever is not plainly a frozen,
slotted class that has no bases and writes none of those methods itself goes to the standard library as it is; type
checkers see the standard library's `dataclass` only.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

MADE_LATER = ("__init__", "__repr__", "__eq__", "__hash__")
"""Methods that the standard library would compile for each class, and compiles when one is called."""

MADE_HERE = ("__setattr__", "__delattr__", "__getstate__", "__setstate__")
"""The other methods of a frozen, slotted class: closures and functions, which need no compiling."""

LAZY_OPTIONS = {"frozen": True, "slots": True}

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - the alias says that it is meant for others
else:

    def dataclass(cls: type[Any] | None = None, /, **options: bool) -> Any:
        """The class decorator; see the module."""
        if cls is None:
            return lambda given: dataclass(given, **options)
        is_plain = cls.__bases__ == (object,) and type(cls) is type
        if is_plain and options == LAZY_OPTIONS and cls.__dict__.keys().isdisjoint(MADE_LATER + MADE_HERE):
            return _lazy(cls)
        return dataclasses.dataclass(**options)(cls)


def _lazy(cls: type[Any]) -> type[Any]:
    written = {name: value for name, value in cls.__dict__.items() if name not in {"__dict__", "__weakref__"}}
    written["__qualname__"] = cls.__qualname__
    made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__dataclass_params__.frozen = True  # a frozen subclass must find a frozen base
    names = frozenset(made.__dataclass_fields__)

    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    methods: dict[str, Any] = {name: _stand_in(made, name, written) for name in MADE_LATER}
    methods |= {"__setattr__": __setattr__, "__delattr__": __delattr__}
    methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    for name, method in methods.items():
        setattr(made, name, method)
    return made


def _stand_in(made: type[Any], name: str, written: dict[str, Any]) -> Any:
    """What has the methods of `made` made from its body as it was `written`, and then calls the one it stands for."""

    def stand_in(self: Any, *values: Any, **named: Any) -> Any:
        real: type[Any] = dataclasses.dataclass(frozen=True, slots=True)(type(made.__name__, (), dict(written)))
        for later in MADE_LATER:
            setattr(made, later, real.__dict__[later])
        return made.__dict__[name](self, *values, **named)

    stand_in.__name__ = name
    stand_in.__qualname__ = f"{made.__qualname__}.{name}"
    return stand_in


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, state, strict=True):
        object.__setattr__(self, name, value)
