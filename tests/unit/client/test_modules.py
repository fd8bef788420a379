"""Modules that travel with a job file: what is read as one, what is refused, and how it is imported."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from minireduce.attempt.modules import ShippedModules
from minireduce.client.modules import read_modules
from minireduce.errors import RequestError


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A package with a package in it, a module beside it, and an archive of both."""
    folder = tmp_path / "library"
    (folder / "shop" / "deep").mkdir(parents=True)
    (folder / "shop" / "__init__.py").write_text("from .price import LOW\n")
    (folder / "shop" / "price.py").write_text("LOW = 3\n")
    (folder / "shop" / "deep" / "__init__.py").write_text("from ..price import LOW as DEEP\n")
    (folder / "shop" / "notes.txt").write_text("no module\n")
    (folder / "helper_of_job.py").write_text("def label(word):\n    return word.upper()\n")
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            if path.suffix != ".zip":
                archive.write(path, path.relative_to(folder))
    return folder


def test_files_packages_and_archives_are_read_as_what_they_are_called(library: Path) -> None:
    apart = read_modules([library / "shop", library / "helper_of_job.py"])
    assert {module.name: module.is_package for module in apart} == {
        "shop": True,
        "shop.price": False,
        "shop.deep": True,
        "helper_of_job": False,
    }
    together = read_modules([library / "all.zip"])
    assert {(module.name, module.source) for module in together} == {(module.name, module.source) for module in apart}


def test_what_travels_is_imported_from_memory_with_the_names_of_its_files(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [ShippedModules(read_modules([library / "shop"])), *sys.meta_path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    import shop.deep  # type: ignore[import-not-found]

    assert (shop.LOW, shop.deep.DEEP) == (3, 3)
    assert shop.__file__ == str((library / "shop" / "__init__.py").resolve())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("not-a-name.py", "", "no name that can be imported"),
        ("json.py", "", "would hide the module json"),
        ("wrong.py", "def (", "is no Python"),
        ("data.txt", "x", "is no module"),
    ],
)
def test_what_is_no_module_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=said):
        read_modules([tmp_path / name])


def test_a_path_that_is_not_there_a_folder_that_is_no_package_and_two_of_a_name_are_refused(library: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_modules([library / "absent.py"])
    with pytest.raises(RequestError, match="is no package"):
        read_modules([library])
    with pytest.raises(RequestError, match="comes from"):
        read_modules([library / "helper_of_job.py", library / "all.zip"])
