"""Libraries that speak fsspec read and write the block store by `mr://` paths."""

from __future__ import annotations

import tomllib
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from fsspec.registry import register_implementation
from scenes.cluster import ProcessCluster

from minireduce.client.fsspec_files import MinireduceFileSystem

NAME = f"{MinireduceFileSystem.__module__}.{MinireduceFileSystem.__qualname__}"


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    register_implementation("mr", NAME, clobber=True)  # as the entry point does where the package is installed
    with ProcessCluster(tmp_path_factory.mktemp("fsspec"), workers=2) as cluster:
        yield {"master": cluster.address, "token_file": str(cluster.token_file), "skip_instance_cache": True}


@pytest.fixture
def files(options):
    return fsspec.filesystem("mr", **options)


def test_the_package_registers_the_protocol():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["fsspec.specs"] == {"mr": NAME}


def test_pandas_writes_and_reads_tables(options):
    table = pd.DataFrame({"name": ["a", "b"], "count": [1, 2]})
    table.to_csv("mr:///tables/t.csv", index=False, storage_options=options)
    pd.testing.assert_frame_equal(pd.read_csv("mr:///tables/t.csv", storage_options=options), table)
    table.to_parquet("mr:///tables/t.parquet", storage_options=options)
    pd.testing.assert_frame_equal(pd.read_parquet("mr:///tables/t.parquet", storage_options=options), table)


def test_pyarrow_writes_and_reads_data_sets(files):
    table = pa.table({"key": [1, 1, 2], "value": ["x", "y", "z"]})
    pyarrow.dataset.write_dataset(
        table,
        "/set",
        format="parquet",
        filesystem=files,
        partitioning=["key"],
        existing_data_behavior="delete_matching",
    )
    found = pyarrow.dataset.dataset("/set", format="parquet", filesystem=files, partitioning=["key"]).to_table()
    assert sorted(found["value"].to_pylist()) == ["x", "y", "z"]
    assert pyarrow.parquet.read_table("/set/2", filesystem=files)["value"].to_pylist() == ["z"]


def test_files_and_names(files):
    files.pipe_file("mr:///d/a", b"0123456789")
    with files.open("/d/a", "ab") as stream:
        stream.write(b"x")
    assert files.cat_file("/d/a", start=8, end=11) == b"89x"
    assert files.cat("/d/a") == b"0123456789x"
    files.cp("/d", "/e", recursive=True)
    files.mv("/e/a", "/e/b")
    assert files.ls("/e", detail=False) == ["/e/b"]
    assert files.info("/e/b")["size"] == 11
    assert files.find("/") == [path for path in files.find("/") if files.isfile(path)]
    assert files.glob("/d/*") == ["/d/a"]
    assert files.isdir("/d")
    assert not files.exists("/nothing")
    files.makedirs("/d/x/y", exist_ok=True)
    files.rm("/d", recursive=True)
    assert not files.exists("/d")
    with pytest.raises(FileNotFoundError):
        files.cat("/d/a")
    with pytest.raises(FileExistsError):
        files.mkdir("/e")


def test_a_file_whose_writer_raised_does_not_appear(files):
    class Spoiled(Exception):
        pass

    def write() -> None:
        with files.open("/spoiled", "wb") as stream:
            stream.write(b"half")
            raise Spoiled

    with pytest.raises(Spoiled):
        write()
    assert not files.exists("/spoiled")


def test_the_files_of_a_transaction_appear_when_it_ends_or_not_at_all(files):
    with files.transaction:
        with files.open("/both/a", "wb") as one:
            one.write(b"1")
        with files.open("/both/b", "wb") as two:
            two.write(b"2")
        assert not files.exists("/both/a")
    assert files.cat("/both/a") == b"1"
    assert files.cat("/both/b") == b"2"
    with pytest.raises(KeyError):
        overwrite_and_fail(files)
    assert files.cat("/both/a") == b"1"
    assert not files.exists("/both/c")
    with files.transaction, pytest.raises(OSError, match="cannot be taken back"):
        files.open("/both/a", "ab")


def overwrite_and_fail(files):
    with files.transaction:
        with files.open("/both/a", "wb") as one:
            one.write(b"other")
        with files.open("/both/c", "wb") as two:
            two.write(b"3")
            raise KeyError


ERRORS = {
    IsADirectoryError: [("open", "d", "rb"), ("open", "d", "wb")],
    NotADirectoryError: [("open", "f/g", "rb"), ("open", "f/g", "wb"), ("rmdir", "f")],
    FileExistsError: [("open", "f", "xb"), ("mkdir", "f"), ("mkdir", "d"), ("makedirs", "d")],
    FileNotFoundError: [("open", "none", "rb"), ("info", "none"), ("rm_file", "none"), ("rmdir", "none")],
}


def test_errors_are_those_of_a_local_file_system(files, tmp_path):
    for each, root in ((files, "/errors"), (fsspec.filesystem("file"), str(tmp_path / "errors"))):
        each.makedirs(f"{root}/d/below")
        each.pipe_file(f"{root}/f", b"1")
        for kind, calls in ERRORS.items():
            for verb, name, *rest in calls:
                with pytest.raises(OSError, match=name) as raised:
                    getattr(each, verb)(f"{root}/{name}", *rest)
                assert type(raised.value) is kind, (each.protocol, verb, name, rest)
        with pytest.raises(OSError, match="not empty"):
            each.rmdir(f"{root}/d")
        assert each.isfile(f"{root}/f")
        assert each.isdir(f"{root}/d/below")
    with pytest.raises(IsADirectoryError):
        files.rm_file("/errors/d")
    with pytest.raises(FileNotFoundError):
        files.ls("/errors/none")
