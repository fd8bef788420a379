"""What import-linter cannot see: names taken from allowed modules, and imports inside functions or by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "minireduce"

NOT_IN_CORE = {"time", "socket", "threading", "asyncio", "logging", "os", "secrets", "uuid", "subprocess"}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "marshal", "shelve", "dill", "joblib", "multiprocessing"}
MAY_UNPICKLE = ("attempt/", "engine/values.py", "client/", "notebook/")


def sources(folder=PACKAGE):
    found = sorted(path for path in folder.rglob("*.py") if "proto" not in path.relative_to(PACKAGE).parts)
    assert found, folder
    return [(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def imported_modules(text):
    """The first names of all modules that a source imports, wherever and however the import is written."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            argument = node.args[0]
            if called in {"__import__", "import_module"} and isinstance(argument, ast.Constant):
                yield node.lineno, str(argument.value).partition(".")[0]


def uses_of_shared_chance(text):
    """Lines that draw from the generator all modules share, rather than from a `random.Random` that was handed in."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from (node.lineno for alias in node.names if alias.name != "Random")
        elif isinstance(node, ast.Import):
            yield from (node.lineno for alias in node.names if alias.name == "random" and alias.asname)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("random.") and node.attr != "Random":
            yield node.lineno


def test_core_imports_no_clock_no_network_no_system():
    found = [
        f"{name}:{line}: {module}"
        for name, text in sources(PACKAGE / "core")
        for line, module in imported_modules(text)
        if module in NOT_IN_CORE
    ]
    assert found == []


def test_core_draws_only_from_generators_that_it_was_given():
    found = [f"{name}:{line}" for name, text in sources(PACKAGE / "core") for line in uses_of_shared_chance(text)]
    assert found == []


def test_what_can_run_code_hidden_in_data_is_imported_in_four_places_only():
    found = [
        f"{name}:{line}: {module}"
        for name, text in sources()
        if not name.startswith(MAY_UNPICKLE)
        for line, module in imported_modules(text)
        if module in UNPICKLERS
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import json, pickle as p",
        "from pickle import loads",
        "import pickle.x",
        "def f():\n    import pickle",
        "__import__('pickle')",
        "importlib.import_module('pickle')",
    ],
)
def test_every_way_to_import_is_seen(text):
    assert "pickle" in {module for _, module in imported_modules(text)}


@pytest.mark.parametrize(
    "text",
    ["from random import choice", "import random as r", "import random\nrandom.shuffle(x)", "y = random.random"],
)
def test_every_way_to_shared_chance_is_seen(text):
    assert list(uses_of_shared_chance(text))


@pytest.mark.parametrize(
    "text", ["from random import Random", "import random\ndef f(chance: random.Random): chance.shuffle(x)"]
)
def test_a_generator_of_ones_own_is_allowed(text):
    assert not list(uses_of_shared_chance(text))
