"""Turn the texts of `-p NAME=VALUE` into the arguments of a function `job(...)`, by its annotations.

The command line calls this when a job is submitted, so that a wrong name or value is refused before any job exists; a
task process calls it again with the same texts. Only what a text can plainly mean is converted: str, int, float, bool,
Path, Literal, enumerations, and each of them or None. Without an annotation the type of the default decides, else it
is str.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from minireduce.errors import RequestError

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NAMED_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def convert_parameters(function: Callable[..., Any], texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The keyword arguments that `texts` mean for `function`. Raises RequestError naming the parameter."""
    declared = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in _NAMED_KINDS
    }
    hints = _hints(function)
    arguments: dict[str, Any] = {}
    for name, text in texts:
        if name not in declared:
            raise RequestError(f"the job has no parameter {name!r}", hint=_known(name, list(declared)))
        if name in arguments:
            raise RequestError(f"the parameter {name!r} is given twice")
        arguments[name] = _convert(name, hints.get(name, _implied(declared[name])), text)
    for name, parameter in declared.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise RequestError(f"the job needs the parameter {name!r}", hint=f"add -p {name}=VALUE")
    return arguments


def _known(name: str, declared: list[str]) -> str:
    if not declared:
        return "it takes none: leave -p out"
    nearest = get_close_matches(name, declared, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(declared)}"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError) as cause:
        raise RequestError(f"the annotations of the function `job` cannot be read: {cause}") from cause


def _implied(parameter: inspect.Parameter) -> Any:
    return str if parameter.default in {parameter.empty, None} else type(parameter.default)


def _convert(name: str, hint: Any, text: str) -> Any:
    """`text` as `hint` wants it. Of alternatives the first that fits is taken; None is never given by a text."""
    alternatives = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    wanted = [alternative for alternative in alternatives if alternative is not type(None)]
    for alternative in wanted:
        read = _reader(name, alternative)
        try:
            return read(text)
        except ValueError:
            continue
    raise RequestError(
        f"the parameter {name!r} cannot be {text!r}", hint=f"it is {' or '.join(_describe(one) for one in wanted)}"
    )


def _reader(name: str, hint: Any) -> Callable[[str], Any]:
    """What turns a text into a `hint`, or raises ValueError."""
    if hint in {str, Any}:
        return str
    if hint is bool:
        return _read_bool
    if hint in {int, float, Path}:
        converter: Callable[[str], Any] = hint
        return converter
    if get_origin(hint) is Literal:
        return lambda text: _read_one_of({str(choice): choice for choice in get_args(hint)}, text)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda text: _read_one_of(dict(hint.__members__), text)
    raise RequestError(
        f"the parameter {name!r} is annotated {_describe(hint)}, which no text can give",
        hint="use str, int, float, bool, Path, Literal or an enumeration",
    )


def _read_bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


def _read_one_of(choices: dict[str, Any], text: str) -> Any:
    if text not in choices:
        raise ValueError(text)
    return choices[text]


def _describe(hint: Any) -> str:
    if hint is int:
        return "a whole number"
    if hint is float:
        return "a number"
    if hint is bool:
        return "true or false"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(hint.__members__)
    return getattr(hint, "__name__", str(hint))
