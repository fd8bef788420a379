"""Call Arrow's kernels by their names, and load no more for that than it takes.

`pyarrow.compute` makes a Python function, with its documentation, for each of some three hundred kernels when it is
loaded: 25 ms of every task process that loads it, and methods of arrays such as `cast` and `take` do. What those
functions call lies in `pyarrow._compute`, 4 ms, which is loaded here with the first call. What is rarely reached calls
the methods of arrays all the same.
"""

from __future__ import annotations

from typing import Any


def call(name: str, *arguments: Any) -> Any:
    """What the kernel gives for these arrays and scalars, with its usual options."""
    from pyarrow import _compute

    return _compute.call_function(name, arguments)


def cast(array: Any, kind: Any) -> Any:
    """The same values in another type. Raises pyarrow.ArrowInvalid where one does not fit."""
    from pyarrow import _compute

    return _compute.call_function("cast", [array], _compute.CastOptions.safe(kind))


def sort_indices(array: Any) -> Any:
    """The places of the values in ascending order, as uint64; equal ones stay in the order in which they are."""
    from pyarrow import _compute

    return _compute.call_function("array_sort_indices", [array], _compute.ArraySortOptions())
