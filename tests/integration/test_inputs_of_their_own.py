"""A job that says where its input lies needs none when it is run, and reads another where one is named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from minireduce import Csv, FixedWidth, Job, Json, Parquet, Sum, Text
from minireduce.errors import RequestError


def counted(row: dict[str, str]) -> list[tuple[str, int]]:
    return [(row["word"], int(row["n"]))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.csv").write_text("word,n\nx,1\ny,2\n")
    (tmp_path / "b.csv").write_text("word,n\nx,5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "embedded"])
def test_what_the_format_names_is_read_unless_something_else_is_named(folder: Path, inline: bool) -> None:
    job = Job(counted, Sum(), input=Csv("a.csv"))
    assert list(job.run(inline=inline)) == [("x", 1), ("y", 2)]
    assert list(job.run("b.csv", inline=inline)) == [("x", 5)]
    both = Job(counted, Sum(), input=Csv(["a.csv", folder / "b.csv"]))
    assert list(both.run(inline=inline)) == [("x", 6), ("y", 2)]


def test_each_of_several_inputs_may_name_its_own(folder: Path) -> None:
    inputs = {"left": Csv("a.csv"), "right": Csv()}
    job = Job({"left": counted, "right": counted}, Sum(), input=inputs)
    assert list(job.run({"right": "b.csv"}, inline=True)) == [("x", 6), ("y", 2)]
    with pytest.raises(RequestError, match="no input is named for right"):
        job.run(inline=True)


def test_a_job_file_with_a_place_needs_no_input_on_the_command_line(folder: Path, minireduce: Any) -> None:
    (folder / "job.py").write_text(
        "from minireduce import Job, Count, Text\njob = Job(lambda line: [(line, 1)], Count(), input=Text('a.csv'))\n"
    )
    ran = minireduce("submit", "job.py", "--inline")
    assert (ran.status, ran.out) == (0, "word,n\t1\nx,1\t1\ny,2\t1\n")
    assert minireduce("submit", "job.py", "nowhere.csv", "--inline").status == 2


def test_a_place_is_no_part_of_what_a_record_is_and_columns_may_stand_first() -> None:
    assert Csv("a", delimiter=";") == Csv(delimiter=";")
    assert repr(Text("a")) == "Text()"
    assert Json({"n": int}) == Json("a", {"n": int}) == Json(columns={"n": int})
    assert Parquet(("n",)) == Parquet("a", ("n",))
    assert Json({"n": int}).places == ()
    assert FixedWidth(4, "a").places == ("a",)
    assert pickle.loads(pickle.dumps(Csv(["a", Path("b")]))).places == ("a", "b")
    for wrong in (lambda: Csv(True), lambda: Text(3), lambda: FixedWidth(4, b"a")):  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="must be paths"):
            wrong()
    with pytest.raises(RequestError, match="columns are given twice"):
        Json({"n": int}, {"n": int})
