"""`dataclass` as in the standard library, with methods that are made when they are first called.

Every message, event, action and row is a frozen, slotted dataclass; a daemon imports two hundred of them. For each the
standard library writes the source of six methods and compiles it when the class is made: 0.6 ms a class on CPython
3.11, which was 45 % of the CPU time that the four processes of a small job spent on imports. Most of them never meet
most of those classes.

Here such a class gets its fields and slots at once, and for its methods stand-ins: the first call has the standard
library make the real ones, which take the place of the stand-ins for good, so the second call is as fast as ever. The
two behave alike in every way but `inspect.signature` of a class that was never used. Whatever is not plainly a frozen,
slotted class without bases goes to the standard library as it is; type checkers see the standard library's `dataclass`
only.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

MADE_LATER = ("__init__", "__repr__", "__eq__", "__hash__")
"""Methods that the standard library would compile for each class; `__setattr__` and `__delattr__` are closures here."""

LAZY_OPTIONS = {"frozen": True, "slots": True}

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - the alias says that it is meant for others
else:

    def dataclass(cls: type[Any] | None = None, /, **options: bool) -> Any:
        """The class decorator; see the module."""
        if cls is None:
            return lambda given: dataclass(given, **options)
        is_plain = cls.__bases__ == (object,) and type(cls) is type and not {"__eq__", "__hash__"} & cls.__dict__.keys()
        if options != LAZY_OPTIONS or not is_plain:
            return dataclasses.dataclass(**options)(cls)
        return _lazy(cls)


def _lazy(cls: type[Any]) -> type[Any]:
    kept = [name for name in MADE_LATER if name == "__init__" or name not in cls.__dict__]
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

    methods: dict[str, Any] = {name: _stand_in(made, name, kept) for name in kept}
    methods |= {"__setattr__": __setattr__, "__delattr__": __delattr__}
    methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    for name, method in methods.items():
        setattr(made, name, method)
    return made


def _stand_in(made: type[Any], name: str, kept: list[str]) -> Any:
    """What makes the methods of `made` real, and then calls the one that it stood for."""

    def stand_in(self: Any, *values: Any, **named: Any) -> Any:
        _make(made, kept)
        return made.__dict__[name](self, *values, **named)

    stand_in.__name__ = name
    stand_in.__qualname__ = f"{made.__qualname__}.{name}"
    return stand_in


def _make(made: type[Any], kept: list[str]) -> None:
    """Take the methods from a class of the same fields that the standard library makes."""
    body: dict[str, Any] = {"__annotations__": made.__annotations__, "__module__": made.__module__}
    body |= {
        name: made.__dict__[name]
        for name in ("__post_init__", "__repr__")
        if name not in kept and name in made.__dict__
    }
    for field in dataclasses.fields(made):
        body[field.name] = dataclasses.field(
            default=field.default,
            default_factory=field.default_factory,
            init=field.init,
            repr=field.repr,
            hash=field.hash,
            compare=field.compare,
            metadata=field.metadata,
            kw_only=field.kw_only,
        )
    real: type[Any] = dataclasses.dataclass(frozen=True, slots=True)(type(made.__name__, (), body))
    for name in kept:
        method = real.__dict__[name]
        method.__qualname__ = f"{made.__qualname__}.{name}"
        setattr(made, name, method)


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, state, strict=True):
        object.__setattr__(self, name, value)
