"""Have SQLite's own calls to the system fail, one by one: writes, syncs, truncations, openings and shared memory.

SQLite reaches files through a table of functions (https://www.sqlite.org/vfs.html), which lies in memory that may be
written to. While `faults` holds, the table's opening is ours, and each file that is opened gets a copy of its own table
in which the calls that change something are counted first. What fails is decided before the system is asked, so nothing
of that call happens; the error is the one that SQLite gives for it.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

IOERR = 10
FULL = 13
_CODES = {"write": 778, "truncate": 1546, "sync": 1034, "map": 5386, "open": 14, "delete": 2570}
_POINTER = ctypes.c_void_p
_METHODS = [
    "close",
    "read",
    "write",
    "truncate",
    "sync",
    "size",
    "lock",
    "unlock",
    "reserved",
    "control",
    "sector",
    "character",
    "map",
    "shm_lock",
    "barrier",
    "unmap",
    "fetch",
    "unfetch",
]


class _IoMethods(ctypes.Structure):
    _fields_ = [("version", ctypes.c_int), *((name, _POINTER) for name in _METHODS)]


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.POINTER(_IoMethods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("path_bytes_max", ctypes.c_int),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _POINTER),
        ("delete", _POINTER),
    ]


_INT, _LONG = ctypes.c_int, ctypes.c_int64
_SHAPES = {
    "write": ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG),
    "truncate": ctypes.CFUNCTYPE(_INT, _POINTER, _LONG),
    "sync": ctypes.CFUNCTYPE(_INT, _POINTER, _INT),
    "map": ctypes.CFUNCTYPE(_INT, _POINTER, _INT, _INT, _INT, _POINTER),
}
_OPEN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_DELETE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT)
_kept: list[object] = []  # what SQLite may still call: files outlive a test that failed


class Faults:
    """Counts the calls from `begin` on. The one numbered `nth`, and with `forever` all after it, fails."""

    def __init__(self, nth: int, *, forever: bool, full: bool) -> None:
        self.made: Counter[str] = Counter()
        self.struck = ""
        self._nth, self._forever, self._full = nth, forever, full
        self._is_on = False

    def begin(self) -> None:
        self._is_on = True

    def end(self) -> None:
        self._is_on = False

    def strike(self, name: str) -> int:
        """0, or the error with which this call fails."""
        if not self._is_on:
            return 0
        self.made[name] += 1
        number = self.made.total()
        if number != self._nth and not (self._forever and number > self._nth > 0):
            return 0
        self.struck = self.struck or name
        return FULL if self._full and name in {"write", "truncate"} else _CODES[name]


@contextmanager
def faults(nth: int = 0, *, forever: bool = False, full: bool = False) -> Iterator[Faults]:
    """Databases that are opened meanwhile have their calls counted, and failed where that is asked for."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    told = Faults(nth, forever=forever, full=full)
    real_open, real_delete = _OPEN(vfs.open), _DELETE(vfs.delete)
    was = (vfs.open, vfs.delete)

    def open_file(this: int, path: int, file: int, flags: int, out: int) -> int:
        if code := told.strike("open"):
            _File.from_address(file).methods = ctypes.POINTER(_IoMethods)()  # nothing there that could be closed
            return code
        code = real_open(this, path, file, flags, out)
        opened = _File.from_address(file)
        if not code and opened.methods:
            opened.methods = ctypes.pointer(_counted(opened.methods.contents, told))
        return code

    def delete_file(this: int, path: int, sync: int) -> int:
        return told.strike("delete") or real_delete(this, path, sync)

    ours = (_OPEN(open_file), _DELETE(delete_file))
    _kept.append(ours)
    vfs.open, vfs.delete = (ctypes.cast(each, _POINTER).value for each in ours)
    try:
        yield told
    finally:
        told.end()
        vfs.open, vfs.delete = was


def _counted(real: _IoMethods, told: Faults) -> _IoMethods:
    """A copy of a file's table whose calls are counted first."""
    table = _IoMethods.from_buffer_copy(real)
    _kept.append(table)
    for name, shape in _SHAPES.items():
        below = getattr(real, name)
        if below:
            call = shape(_through(name, shape(below), told))
            _kept.append(call)
            setattr(table, name, ctypes.cast(call, _POINTER).value)
    return table


def _through(name: str, below: ctypes._FuncPointer, told: Faults):  # type: ignore[no-untyped-def]
    def call(*arguments: int) -> int:
        return told.strike(name) or int(below(*arguments))

    return call
