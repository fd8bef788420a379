"""`dataclass` as in the standard library, with methods that take a class no compiler.

Every message, event, action and row is a slotted dataclass; a daemon imports two hundred of them. For each the standard
library writes the source of up to six methods and compiles it: 0.6 ms a class on CPython 3.11, which was nearly half of
the CPU time that the four processes of a small job spent on imports.

Two classes with as many fields have the same methods but for names. So each shape of method is compiled once, and a
class gets the code of its shape with the names of its own fields put in. What comes out behaves in every way as the
standard library's, and is as fast: those of a frozen class set their slots directly, which is faster.

Whatever is not plainly a slotted class that has no bases and writes none of those methods itself goes to the standard
library as it is; type checkers see the standard library's `dataclass` only.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field
from types import FunctionType
from typing import TYPE_CHECKING, Any

OPTIONS = ({"frozen": True, "slots": True}, {"slots": True}, {"eq": False, "slots": True})
"""What may be asked of a class that is made here."""

METHODS = ("__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__getstate__", "__setstate__")
"""A class that writes one of these itself is not made here."""


class _Factory:
    """Stands in a signature for the default that a factory will make."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - the alias says that it is meant for others
else:

    def dataclass(cls: type[Any] | None = None, /, **options: bool) -> Any:
        """The class decorator; see the module."""
        if cls is None:
            return lambda given: dataclass(given, **options)
        if options in OPTIONS and _is_common(cls):
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
            return _finish(made, is_frozen="frozen" in options, is_compared="eq" not in options)
        return dataclasses.dataclass(**options)(cls)


def _is_common(cls: type[Any]) -> bool:
    """Whether the methods follow from the names of the fields, and all of them are to be made."""
    return (
        cls.__bases__ == (object,)
        and type(cls) is type
        and cls.__dict__.keys().isdisjoint(METHODS)
        and "self" not in cls.__annotations__
        and not any(word in written for written in cls.__annotations__.values() for word in ("InitVar", "KW_ONLY"))
        and not any(
            isinstance(value, Field) and (value.kw_only is True or value.hash is not None)
            for value in cls.__dict__.values()
        )
    )


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _finish(made: type[Any], *, is_frozen: bool, is_compared: bool) -> type[Any]:
    """Give the class its methods."""
    fields = dataclasses.fields(made)
    compared = [field.name for field in fields if field.compare]
    methods = {"__init__": _init(made, fields, is_frozen=is_frozen), "__repr__": _repr(fields)}
    if is_compared:
        methods["__eq__"] = _named(_eq_of(len(compared)), compared)
    if is_frozen:
        methods["__hash__"] = _named(_hash_of(len(compared)), compared)
        methods["__setattr__"], methods["__delattr__"] = _refusals(made)
        made.__getstate__ = _get_state  # type: ignore[assignment] # mypy takes it for a bound one
        made.__setstate__ = _set_state
    elif is_compared:
        made.__hash__ = None  # type: ignore[assignment] # what can change has no hash
    for name, method in methods.items():
        method.__qualname__ = f"{made.__qualname__}.{name}"
        setattr(made, name, method)
    parameters = made.__dataclass_params__
    parameters.init = parameters.repr = True
    parameters.eq, parameters.frozen = is_compared, is_frozen  # a frozen subclass must find a frozen base
    return made


# ── the beginning ───────────────────────────────────────────────────────────────────────────────────────────────────


def _init(made: type[Any], fields: Sequence[Field[Any]], *, is_frozen: bool) -> FunctionType:
    kinds = "".join(map(_kind, fields))
    make = _init_of(kinds, is_frozen=is_frozen, is_checked=hasattr(made, "__post_init__"))
    setters = [made.__dict__[field.name].__set__ for field in fields] if is_frozen else []
    sources = [
        field.default if kind == "c" else field.default_factory
        for field, kind in zip(fields, kinds, strict=True)
        if kind in "cmf"
    ]
    init = _named(make(*setters, *sources), [field.name for field in fields])
    given = [field for field in fields if field.init]
    for field, follower in itertools.pairwise(given):
        if _has_default(field) and not _has_default(follower):
            raise TypeError(f"non-default argument {follower.name!r} follows default argument")
    init.__defaults__ = tuple(
        _FACTORY if field.default is MISSING else field.default for field in given if _has_default(field)
    )
    init.__annotations__ = {**{field.name: field.type for field in given}, "return": None}
    return init


def _kind(field: Field[Any]) -> str:
    """p: as given; f: made unless given; never given: c the default, m made, n not set."""
    has_factory = field.default_factory is not MISSING
    if field.init:
        return "f" if has_factory else "p"
    return "m" if has_factory else "n" if field.default is MISSING else "c"


@functools.cache
def _init_of(kinds: str, *, is_frozen: bool, is_checked: bool) -> Callable[..., FunctionType]:
    """What makes an `__init__` for fields of these kinds out of what sets them and what their values come from."""
    values = {"p": "f{0}", "f": "(v{0}() if f{0} is factory else f{0})", "c": "v{0}", "m": "v{0}()"}
    to_set = "s{0}(self, {1})" if is_frozen else "self.f{0} = {1}"
    lines = [to_set.format(at, values[kind].format(at)) for at, kind in enumerate(kinds) if kind != "n"]
    lines += ["self.__post_init__()"] if is_checked else []
    taken = [f"s{at}" for at in range(len(kinds)) if is_frozen]
    taken += [f"v{at}" for at, kind in enumerate(kinds) if kind in "cmf"]
    given = ["self", *(f"f{at}" for at, kind in enumerate(kinds) if kind in "pf")]
    body = "".join(f"  {line}\n" for line in lines or ["pass"])
    source = f"def make({', '.join(taken)}):\n def __init__({', '.join(given)}):\n{body} return __init__\n"
    make: Callable[..., FunctionType] = _compiled(source, "make")
    return make


# ── the other methods ───────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _eq_of(count: int) -> FunctionType:
    lines = (
        "def __eq__(self, other):",
        f" if other.__class__ is self.__class__: return {_values('self', count)} == {_values('other', count)}",
        " return NotImplemented",
    )
    made: FunctionType = _compiled("\n".join(lines), "__eq__")
    return made


@functools.cache
def _hash_of(count: int) -> FunctionType:
    made: FunctionType = _compiled(f"def __hash__(self): return hash({_values('self', count)})", "__hash__")
    return made


def _values(whose: str, count: int) -> str:
    return f"({''.join(f'{whose}.f{at}, ' for at in range(count))})"


def _repr(fields: Sequence[Field[Any]]) -> FunctionType:
    shown = [field.name for field in fields if field.repr]

    @reprlib.recursive_repr("...")
    def __repr__(self: Any) -> str:  # noqa: N807
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({values})"

    return __repr__  # type: ignore[return-value]


def _refusals(made: type[Any]) -> tuple[FunctionType, FunctionType]:
    """What keeps the fields of a frozen class as they are."""
    names = frozenset(made.__dataclass_fields__)

    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    return __setattr__, __delattr__  # type: ignore[return-value]


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, state, strict=True):
        object.__setattr__(self, name, value)


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _compiled(source: str, name: str) -> Any:
    """What `source` defines under `name`. Fields are called f0, f1 and so on there."""
    defined: dict[str, Any] = {"__name__": __name__, "factory": _FACTORY}
    exec(compile(source, "<dataclass>", "exec"), defined)  # noqa: S102 - of the few lines above, and nothing else
    return defined[name]


def _named(shape: FunctionType, names: Sequence[str]) -> FunctionType:
    """A function like `shape` whose f0, f1 and so on have these names."""
    given = {f"f{at}": name for at, name in enumerate(names)}
    code = shape.__code__
    own = code.replace(
        co_names=tuple(given.get(name, name) for name in code.co_names),
        co_varnames=tuple(given.get(name, name) for name in code.co_varnames),
    )
    return FunctionType(own, shape.__globals__, shape.__name__, None, shape.__closure__)
