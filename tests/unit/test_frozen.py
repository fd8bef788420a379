"""Our lazily made dataclasses beside the standard library's: the same in every way, before the first use and after."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from minireduce.frozen import dataclass as lazy

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
        return type(error), str(error).replace("lazy.", "")
    return type(made).__qualname__, repr(made)


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
    "derived": lambda c: (c.Derived(1), c.Derived(1) == c.Derived(1)),
    "no dictionary": lambda c: hasattr(c.Plain(1), "__dict__"),
    "frozen": lambda c: (c.Plain.__dataclass_params__.frozen, dataclasses.is_dataclass(c.Plain)),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_lazy_class_is_like_the_standard_librarys(name: str) -> None:
    ours, theirs = classes(lazy), classes(dataclasses.dataclass)
    expected = outcome(lambda: ACTS[name](theirs))
    assert outcome(lambda: ACTS[name](ours)) == expected, "before anything was made"
    assert outcome(lambda: ACTS[name](ours)) == expected, "after"


@lazy(frozen=True, slots=True)
class Sent:
    """A class that pickle finds."""

    a: int
    b: str = "b"


def test_a_lazy_class_survives_pickle() -> None:
    assert pickle.loads(pickle.dumps(Sent(1))) == Sent(1)


def test_methods_are_made_once_and_are_then_the_standard_librarys() -> None:
    made = classes(lazy).Plain
    before = made.__dict__["__eq__"]
    assert made(1) == made(1)
    after = made.__dict__["__eq__"]
    assert after is not before
    assert made.__dict__["__init__"].__code__.co_varnames == ("self", "a", "b", "c")
    assert made(1) == made(1)
    assert made.__dict__["__eq__"] is after


def test_a_class_that_derives_from_a_lazy_one_makes_its_own() -> None:
    class Further(Sent):
        __slots__ = ("z",)

    further = Further(1, "c")
    further.z = 3
    assert (further.a, further.b, further.z) == (1, "c", 3)
    assert further != Sent(1, "c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        further.a = 2
