"""Our dataclasses, which no compiler makes, beside the standard library's: the same in every way."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from minireduce import frozen

Decorator = Callable[..., Any]


def classes(dataclass: Decorator) -> SimpleNamespace:
    """One class of each shape that the package has, made by `dataclass`."""

    @dataclass(frozen=True, slots=True)
    class Plain:
        """Without and with defaults."""

        a: int
        b: str = "b"
        c: tuple[int, ...] = dataclasses.field(default_factory=tuple)

        @property
        def double(self) -> int:
            return self.a * 2

    @dataclass(frozen=True, slots=True)
    class Odd:
        """Fields that are not compared, not shown, not given, and constants of the class."""

        LIMIT: ClassVar[int] = 3
        a: int
        hidden: int = dataclasses.field(default=0, repr=False, compare=False)
        made: int = dataclasses.field(default=7, init=False)
        named: int = dataclasses.field(default=1, kw_only=True)

        def __post_init__(self) -> None:
            if self.a > self.LIMIT:
                raise ValueError("too large")

    @dataclass(frozen=True, slots=True)
    class Shown:
        """With a representation of its own."""

        a: int

        def __repr__(self) -> str:
            return f"<{self.a}>"

    @dataclass(frozen=True, slots=True)
    class Begun:
        """With a beginning of its own, which the standard library leaves as it is."""

        a: int

        def __init__(self, a: int) -> None:
            object.__setattr__(self, "a", a + 1)

    @dataclass(frozen=True, slots=True)
    class Stored:
        """With states of its own."""

        a: int

        def __getstate__(self) -> int:
            return self.a

        def __setstate__(self, state: int) -> None:
            object.__setattr__(self, "a", -state)

    @dataclass(frozen=True, slots=True)
    class Seeded:
        """With an argument that is no field."""

        a: int = dataclasses.field(init=False)
        seed: dataclasses.InitVar[int] = 4

        def __post_init__(self, seed: int) -> None:
            object.__setattr__(self, "a", seed * 2)

    @dataclass(frozen=True, slots=True)
    class Empty:
        """Without fields."""

    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        """Left to the standard library."""

        a: int

    @dataclass(slots=True)
    class Mutable:
        """May be changed, and so has no hash."""

        factory: int
        f0: dict[str, int] = dataclasses.field(default_factory=dict)
        f1: list[int] = dataclasses.field(default_factory=list, init=False)
        later: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            self.f0["seen"] = self.factory

    @dataclass(eq=False, slots=True)
    class Unlike:
        """Equal to nothing but itself."""

        a: Any

    class Base:
        __slots__ = ()

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        """The same, since it has a base."""

        a: int

    return SimpleNamespace(**{name: made for name, made in locals().items() if isinstance(made, type)})


def outcome(act: Callable[[], Any]) -> tuple[Any, ...]:
    """What comes of a call, in a form in which that of two classes of the same name can be compared."""
    try:
        made = act()
    except Exception as error:
        return type(error), str(error)
    return type(made).__qualname__, repr(made)


def shown_when_whole(made: Any) -> str:
    made.later = 5
    return repr(made)


def assigned(made: Any) -> int:
    made.factory += 4
    value: int = made.factory
    return value


def within_itself(made: Any) -> str:
    made.a = made
    return repr(made)


ACTS: dict[str, Callable[[SimpleNamespace], Any]] = {
    "made": lambda c: c.Plain(1, "x", (2,)),
    "made by name": lambda c: c.Plain(a=1),
    "one argument is missing": lambda c: c.Plain(),
    "one argument too many": lambda c: c.Plain(1, "x", (2,), 4),
    "equal": lambda c: (c.Plain(1) == c.Plain(1), c.Plain(1) == c.Plain(2), c.Plain(1) == 1, c.Plain(1) != c.Plain(1)),
    "hash": lambda c: hash(c.Plain(1)) == hash((1, "b", ())),
    "in a set": lambda c: len({c.Plain(1), c.Plain(1), c.Plain(2)}),
    "property": lambda c: c.Plain(4).double,
    "assigned": lambda c: setattr(c.Plain(1), "a", 2),
    "deleted": lambda c: delattr(c.Plain(1), "a"),
    "replaced": lambda c: dataclasses.replace(c.Plain(1), b="y"),
    "as a dict": lambda c: dataclasses.asdict(c.Plain(1)),
    "copied": lambda c: (copy.copy(c.Plain(1)), copy.deepcopy(c.Plain(1, c=(3,)))),
    "fields": lambda c: [(f.name, f.default, f.init, f.repr, f.compare, f.kw_only) for f in dataclasses.fields(c.Odd)],
    "match arguments": lambda c: (c.Plain.__match_args__, c.Odd.__match_args__, c.Plain.__slots__),
    "odd": lambda c: (c.Odd(1, named=2), c.Odd(1, 5) == c.Odd(1, 6), hash(c.Odd(1, 5)) == hash(c.Odd(1, 6))),
    "made is not given": lambda c: c.Odd(1, made=3),
    "checked": lambda c: c.Odd(4),
    "shown": lambda c: (c.Shown(1), c.Shown(1) == c.Shown(1)),
    "begun": lambda c: (c.Begun(1), c.Begun(1) == c.Begun(2)),
    "stored": lambda c: copy.copy(c.Stored(1)),
    "seeded": lambda c: (c.Seeded(), c.Seeded(seed=1), c.Seeded() == c.Seeded(4)),
    "empty": lambda c: (c.Empty(), c.Empty() == c.Empty(), hash(c.Empty()) == hash(c.Empty())),
    "ordered": lambda c: (c.Ordered(1) < c.Ordered(2), c.Ordered(1)),
    "mutable": lambda c: (c.Mutable(1), c.Mutable(1) == c.Mutable(1), c.Mutable(1, {}).f1),
    "mutable shown": lambda c: shown_when_whole(c.Mutable(1)),
    "two of a mutable class share nothing": lambda c: c.Mutable(1).f1 is c.Mutable(1).f1,
    "mutable assigned": lambda c: assigned(c.Mutable(1, {"a": 2})),
    "mutable hash": lambda c: hash(c.Mutable(1)),
    "unlike": lambda c: (c.Unlike(1) == c.Unlike(1), len({c.Unlike(1), c.Unlike(1)}), c.Unlike(1)),
    "within itself": lambda c: within_itself(c.Unlike(1)),
    "signatures": lambda c: [str(inspect.signature(each)) for each in (c.Plain, c.Mutable, c.Empty)],
    "doc": lambda c: (c.Plain.__doc__, c.Mutable.__doc__),
    "parameters": lambda c: [
        c.Plain.__dataclass_params__,
        c.Mutable.__dataclass_params__,
        c.Unlike.__dataclass_params__,
    ],
    "derived": lambda c: (c.Derived(1), c.Derived(1) == c.Derived(1)),
    "no dictionary": lambda c: hasattr(c.Plain(1), "__dict__"),
    "frozen": lambda c: (c.Plain.__dataclass_params__.frozen, dataclasses.is_dataclass(c.Plain)),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_class_is_like_the_standard_librarys(name: str) -> None:
    ours, theirs = classes(frozen.dataclass), classes(dataclasses.dataclass)
    expected = outcome(lambda: ACTS[name](theirs))
    assert outcome(lambda: ACTS[name](ours)) == expected


@frozen.dataclass(frozen=True, slots=True)
class Sent:
    """A class that pickle finds."""

    a: int
    b: str = "b"


def test_a_class_survives_pickle() -> None:
    assert pickle.loads(pickle.dumps(Sent(1))) == Sent(1)


def test_a_class_that_derives_from_a_frozen_one_is_frozen() -> None:
    class Further(Sent):
        __slots__ = ("z",)

    further = Further(1, "c")
    further.z = 3
    assert (further.a, further.b, further.z) == (1, "c", 3)
    assert further != Sent(1, "c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        further.a = 2


@pytest.mark.parametrize("dataclass", [frozen.dataclass, dataclasses.dataclass])
def test_a_field_that_must_be_given_comes_before_those_that_need_not(dataclass: Decorator) -> None:
    with pytest.raises(TypeError, match="non-default argument 'b' follows default argument"):

        @dataclass(frozen=True, slots=True)
        class Wrong:
            a: int = 1
            b: str


def test_a_class_of_a_known_shape_is_made_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    @frozen.dataclass(frozen=True, slots=True)
    class First:
        """Of a shape."""

        a: int
        b: list[int] = dataclasses.field(default_factory=list)

    def refuse(*_arguments: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(frozen, "_compiled", refuse)

    @frozen.dataclass(frozen=True, slots=True)
    class Second:
        """Of the same."""

        c: str
        d: list[str] = dataclasses.field(default_factory=list)

    assert repr((First(1), Second("x"))).endswith("First(a=1, b=[]), " + repr(Second(c="x", d=[])) + ")")
    with pytest.raises(AssertionError, match="compiled"):

        @frozen.dataclass(frozen=True, slots=True)
        class Third:
            """Of another."""

            a: list[int] = dataclasses.field(default_factory=list)
            b: list[int] = dataclasses.field(default_factory=list)
            c: list[int] = dataclasses.field(default_factory=list)
            d: int = 0
