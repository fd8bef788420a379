"""The user's own modules: which of them go along with a job, and what is left to the workers' own."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest

from minireduce.client import own_modules
from minireduce.client.own_modules import is_own, modules_named_in


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules as it lies beside a script."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(own_modules, "_known_as_others", set())
    (tmp_path / "shop_a").mkdir()
    (tmp_path / "shop_a" / "__init__.py").write_text("")
    (tmp_path / "shop_a" / "price.py").write_text("def of(n):\n    from shop_tax import rate\n    return n * rate\n")
    (tmp_path / "shop_a" / "near.py").write_text("from . import price\nfrom .price import of\n")
    (tmp_path / "shop_tax.py").write_text("import json, click\nrate = 2\n")
    (tmp_path / "shop_other.py").write_text("x = 1\n")
    (tmp_path / "shop_space").mkdir()
    (tmp_path / "shop_space" / "deep.py").write_text("x = 1\n")
    return tmp_path


def _named(*names: str) -> dict[str, bool]:
    """What goes along with a pickle that names these modules."""
    pickled = pickle.dumps(names)
    return {module.name: module.is_package for module in modules_named_in(pickled)}


def test_what_is_named_goes_with_all_of_ones_own_that_it_imports(beside: Path) -> None:
    for name in ("shop_a.near", "shop_tax", "shop_other", "shop_space.deep"):
        importlib.import_module(name)
    assert _named("shop_a.near", "json", "click", "pytest") == {
        "shop_a": True,
        "shop_a.near": False,
        "shop_a.price": False,
        "shop_tax": False,
    }
    assert _named("shop_space.deep") == {"shop_space": True, "shop_space.deep": False}
    assert _named("shop_oth") == {}
    assert modules_named_in(pickle.dumps("shop_other"), {"shop_other"}) == ()


def test_a_module_that_was_never_imported_or_is_gone_is_left_out(beside: Path) -> None:
    assert _named("shop_tax") == {}
    importlib.import_module("shop_tax")
    (beside / "shop_tax.py").unlink()
    assert _named("shop_tax") == {}


def test_what_is_installed_is_nobodys_own_wherever_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "target" / "numberless-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "target"))

    def at(file: Path) -> ModuleType:
        module = ModuleType("numberless")
        module.__file__ = str(file)
        return module

    assert not is_own(at(tmp_path / "target" / "numberless" / "__init__.py"))
    assert is_own(at(tmp_path / "numberless.py"))
    assert not is_own(sys.modules["pytest"])
    assert not is_own(sys.modules["pathlib"])
    assert not is_own(sys.modules["minireduce"])
    assert not is_own(ModuleType("made_up"))
