"""The first thing that anyone runs, and its input through `submit`, against programs that are not ours."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from minireduce.cli.demo import library_files

WORDCOUNT = Path(__file__).parents[2] / "jobs" / "wordcount.py"
AWK = '{ for (i = 1; i <= NF; i++) count[$i]++ } END { for (word in count) print word "\\t" count[word] }'
ASCII_BREAKS = b"\r\v\f\x1c\x1d\x1e\x1f"
"""What separates words for Python and not for awk."""


@pytest.fixture(scope="module")
def library() -> Counter[str]:
    """The words of the standard library as a plain program counts them: the same files, the same records."""
    counts: Counter[str] = Counter()
    for path in library_files():
        for line in path.read_bytes().decode("utf-8-sig", "replace").split("\n"):
            counts.update(line.split())
    assert counts.total() > 1_000_000
    return counts


def test_the_demo_says_the_most_frequent_words_of_the_standard_library(minireduce, library: Counter[str]) -> None:
    ran = minireduce("demo", "--json")
    assert ran.status == 0, ran.err
    assert dict(ran.json["top"]) == {word: library[word] for word, _ in ran.json["top"]}
    assert [count for _, count in ran.json["top"]] == [count for _, count in library.most_common(10)]
    assert ran.json["files"] == len(library_files())
    assert ran.json["counters"]["minireduce"]["REDUCE_OUTPUT_RECORDS"] == len(library)


def test_the_demos_input_through_submit_is_counted_as_a_counter_counts_it(
    minireduce, library: Counter[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = minireduce("submit", WORDCOUNT, *library_files(), "-o", out, "--reducers", 3)
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in out.iterdir()) == ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    found: dict[str, int] = {}
    for part in sorted(out.glob("part-*")):
        pairs = [line.split("\t") for line in part.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
        keys = [key for key, _ in pairs]
        assert keys
        assert all(one < other for one, other in pairwise(keys))
        found |= {key: int(value) for key, value in pairs}
    assert found == library


@pytest.mark.parametrize("flags", [["--inline"], ["--slots", "2"]], ids=["inline", "embedded"])
def test_an_ascii_file_is_counted_as_awk_and_sort_count_it(minireduce, tmp_path: Path, flags: list[str]) -> None:
    texts = [path.read_bytes() for path in library_files()]
    plain = b"".join(text for text in texts if text.isascii() and not set(text) & set(ASCII_BREAKS))[:2_000_000]
    assert len(plain) == 2_000_000
    (tmp_path / "ascii.txt").write_bytes(plain)
    expected = subprocess.run(
        ["/bin/sh", "-c", f"awk '{AWK}' ascii.txt | sort"],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        check=True,
    ).stdout
    ran = minireduce(
        "submit", WORDCOUNT, "ascii.txt", "-o", "out", "--reducers", 1, *flags, MINIREDUCE_SPLIT_SIZE="500KiB"
    )
    assert ran.status == 0, ran.err
    assert (tmp_path / "out" / "part-00000").read_bytes() == expected
