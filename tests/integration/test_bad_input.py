"""Bad input gets one clear line, a hint and its exit status; odd input is handled. Inline and on a cluster alike."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import socket
from pathlib import Path

import pyarrow as pa
import pytest

WORDCOUNT = Path(__file__).parents[2] / "jobs" / "wordcount.py"


@pytest.fixture(params=["inline", "embedded"])
def submit(request: pytest.FixtureRequest, minireduce):
    """`minireduce submit`, in one process or on a cluster of its own."""
    flags = ["--inline"] if request.param == "inline" else ["--slots", "1"]
    return lambda *arguments, **variables: minireduce("submit", *arguments, *flags, **variables)


def job_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.py"
    path.write_text(text)
    return path


def text_file(tmp_path: Path, content: bytes = b"a b\na\n", name: str = "in.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def last_words(err: str) -> tuple[str, str]:
    """The error and the hint, which are the last two lines."""
    error, hint = err.splitlines()[-2:]
    assert error.startswith("error: "), err
    assert hint.startswith("  hint: "), err
    return error.removeprefix("error: "), hint.removeprefix("  hint: ")


# ── refused before a job exists: status 2 ───────────────────────────────────────────────────────────────────────────


def test_a_missing_input(submit, tmp_path: Path) -> None:
    text_file(tmp_path, name="books.txt")
    ran = submit(WORDCOUNT, tmp_path / "book.txt")
    assert ran.status == 2
    assert last_words(ran.err) == (
        f"input {tmp_path}/book.txt does not exist",
        f"did you mean {tmp_path}/books.txt?",
    )


def test_an_output_inside_the_input_directory(submit, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    text_file(tmp_path / "in")
    ran = submit(WORDCOUNT, tmp_path / "in", "-o", tmp_path / "in" / "out")
    assert ran.status == 2
    assert last_words(ran.err) == (
        f"output {tmp_path}/in/out lies inside the input {tmp_path}/in: the next run would read it as input",
        "name an output beside the input",
    )
    assert not (tmp_path / "in" / "out").exists()


def test_a_job_file_with_a_syntax_error(submit, tmp_path: Path) -> None:
    ran = submit(job_file(tmp_path, "def words(line:\n"), text_file(tmp_path))
    assert ran.status == 2
    assert f"{tmp_path}/job.py, line 1: " in ran.err


def test_a_job_file_without_job(submit, tmp_path: Path) -> None:
    ran = submit(job_file(tmp_path, "x = 1\n"), text_file(tmp_path))
    assert ran.status == 2
    assert last_words(ran.err)[0] == f"{tmp_path}/job.py defines no `job`"


def test_a_job_file_that_does_not_exist(submit, tmp_path: Path) -> None:
    ran = submit(tmp_path / "nowhere.py", text_file(tmp_path))
    assert ran.status == 2
    assert last_words(ran.err)[0] == f"the job file {tmp_path}/nowhere.py does not exist"


def test_a_job_file_that_raises_shows_the_users_own_traceback(submit, tmp_path: Path) -> None:
    ran = submit(job_file(tmp_path, "import nothing_of_this_name\n"), text_file(tmp_path))
    assert ran.status == 2
    assert f'File "{tmp_path}/job.py", line 1' in ran.err
    assert "ModuleNotFoundError" in last_words(ran.err)[0]
    assert "--py-files" in last_words(ran.err)[1]


def test_a_task_that_finds_no_module_says_how_it_goes_along(submit, tmp_path: Path) -> None:
    text = "import minireduce as mr\ndef words(line):\n    import nothing_of_this_name\njob = mr.Job(map=words)\n"
    ran = submit(job_file(tmp_path, text), text_file(tmp_path))
    assert ran.status == 1
    assert "ModuleNotFoundError" in ran.err
    assert "--py-files" in ran.err.splitlines()[-1]


def test_an_output_that_exists_is_kept(submit, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    ran = submit(WORDCOUNT, text_file(tmp_path), "-o", tmp_path / "out")
    assert ran.status == 2
    assert last_words(ran.err)[0] == f"output {tmp_path}/out exists"
    assert (tmp_path / "out" / "precious").read_text() == "x"


def test_an_output_that_cannot_be_written(submit, tmp_path: Path) -> None:
    place = Path("/proc/1")
    if os.geteuid() != 0:
        place = tmp_path / "closed"
        place.mkdir(mode=0o500)
    ran = submit(WORDCOUNT, text_file(tmp_path), "-o", place / "out")
    assert ran.status == 2
    assert last_words(ran.err)[0].startswith(f"output {place}/out cannot be written")


def test_no_input_at_all(submit) -> None:
    ran = submit(WORDCOUNT)
    assert ran.status == 2
    assert last_words(ran.err)[0] == "words names no input of its own, and none is named for it"


def test_a_parameter_that_the_job_has_not(submit, tmp_path: Path) -> None:
    ran = submit(WORDCOUNT, text_file(tmp_path), "-p", "min=3")
    assert ran.status == 2
    assert "takes no parameters" in ran.err


# ── user code that is wrong: status 1, its own lines first ──────────────────────────────────────────────────────────


def test_a_map_that_yields_no_pair(submit, tmp_path: Path) -> None:
    source = "from minireduce import Job, Sum\ndef words(line):\n    yield line\njob = Job(words, Sum())\n"
    ran = submit(job_file(tmp_path, source), text_file(tmp_path), "-o", tmp_path / "out")
    assert ran.status == 1
    assert "pair" in ran.err
    assert "'a b'" in ran.err
    assert not (tmp_path / "out").exists()


def test_keys_of_mixed_kinds_are_named_with_the_record(submit, tmp_path: Path) -> None:
    source = (
        "from minireduce import Job, Sum\n"
        "def words(line):\n"
        "    yield (len(line) if line == 'a' else line), 1\n"
        "job = Job(words, Sum())\n"
    )
    ran = submit(job_file(tmp_path, source), text_file(tmp_path))
    assert ran.status == 1
    assert "int" in ran.err
    assert "str" in ran.err
    assert "'a'" in ran.err


def test_user_code_that_raises_shows_its_frames_first_with_file_offset_and_record(submit, tmp_path: Path) -> None:
    source = (
        "from minireduce import Job, Sum\n"
        "def words(line):\n"
        "    yield line, 1 // (line != 'a')\n"
        "job = Job(words, Sum(), attempts_max=1)\n"
    )
    ran = submit(job_file(tmp_path, source), text_file(tmp_path))
    assert ran.status == 1
    shown = ran.err[ran.err.index("Traceback") :]
    assert "yield line, 1 // (line != 'a')" in shown
    assert "ZeroDivisionError" in shown
    assert f"{tmp_path}/in.txt" in shown
    assert "offset 4" in shown
    assert "'a'" in shown
    assert shown.index("ZeroDivisionError") < shown.index("error: ")
    assert "minireduce logs" not in shown, "the cluster that could answer has ended"
    assert "site-packages" not in shown


# ── odd, and handled: status 0 ──────────────────────────────────────────────────────────────────────────────────────


def test_invalid_utf_8_is_replaced_and_counted(submit, tmp_path: Path) -> None:
    ran = submit(WORDCOUNT, text_file(tmp_path, b"a \xff\xfe b\na\n"))
    assert ran.status == 0, ran.err
    assert ran.pairs == {"a": "2", "b": "1", "\ufffd\ufffd": "1"}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_empty_input_gives_an_empty_output(submit, tmp_path: Path, kind: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir() if kind == "directory" else empty.touch()
    ran = submit(WORDCOUNT, empty, "-o", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "_SUCCESS": b"",
        "part-00000": b"",
    }


def test_a_last_line_without_newline(submit, tmp_path: Path) -> None:
    ran = submit(WORDCOUNT, text_file(tmp_path, b"a\nb a"))
    assert ran.status == 0, ran.err
    assert ran.pairs == {"a": "2", "b": "1"}


def test_lines_longer_than_a_split_are_read_once(submit, tmp_path: Path) -> None:
    lines = [b"x " * 3000, b"y", b"z " * 5000]
    ran = submit(WORDCOUNT, text_file(tmp_path, b"\n".join(lines)), MINIREDUCE_SPLIT_SIZE="1KiB")
    assert ran.status == 0, ran.err
    assert ran.pairs == {"x": "3000", "y": "1", "z": "5000"}


def test_a_file_whose_name_is_no_utf_8_is_read(submit, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.txt")).write_text("a b a\n")
    ran = submit(WORDCOUNT, tmp_path / "in")
    assert (ran.status, ran.pairs) == (0, {"a": "2", "b": "1"})


def test_names_that_are_passed_over_are_counted(submit, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("part-00000", "_SUCCESS", ".part-00000.crc"):
        text_file(tmp_path / "in", b"a\n", name)
    ran = submit(WORDCOUNT, tmp_path / "in")
    assert ran.status == 0, ran.err
    assert ran.pairs == {"a": "1"}
    assert "2 names passed over" in ran.err


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_a_compressed_input(submit, tmp_path: Path, suffix: str) -> None:
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": pa.Codec("zstd").compress}[suffix]
    ran = submit(WORDCOUNT, text_file(tmp_path, bytes(compress(b"a b\na\n")), f"in.txt.{suffix}"))
    assert (ran.status, ran.out) == (0, "a\t2\nb\t1\n"), ran.err


# ── clusters that are not there, or not ours: status 4, or 2 where a daemon was asked wrongly ───────────────────────


def test_a_master_that_cannot_be_reached(minireduce, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = minireduce("jobs", "--master", f"127.0.0.1:{port}", MINIREDUCE_TOKEN=f"mrc_{'A' * 43}")
    assert ran.status == 4
    assert "cannot be reached" in last_words(ran.err)[0]


def test_an_address_that_is_none(minireduce) -> None:
    ran = minireduce("jobs", "--master", "nonsense", MINIREDUCE_TOKEN=f"mrc_{'A' * 43}")
    assert ran.status == 2
    assert last_words(ran.err)[0] == "'nonsense' is no address"


def test_a_port_in_use(minireduce, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = minireduce("cluster", "up", "--port", taken.getsockname()[1], "--http-port", 0)
    assert ran.status == 2
    assert "in use" in last_words(ran.err)[0]


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("in.gz", "", "in.gz cannot be unpacked: Not a gzipped file"),
        ("in.parquet", ", input=Parquet()", "as Parquet"),
    ],
)
def test_a_file_that_is_not_of_its_format_fails_the_job_by_its_name(
    submit, tmp_path: Path, name: str, form: str, said: str
) -> None:
    job = f"from minireduce import Count, Job, Parquet\njob = Job(lambda record: [(1, 1)], Count(){form})\n"
    ran = submit(job_file(tmp_path, job), text_file(tmp_path, name=name))
    assert ran.status == 1
    error, hint = last_words(ran.err)
    assert f"{tmp_path}/{name} cannot be" in error
    assert said in error
    assert "lost" not in error
    assert "failed" not in error.partition(" failed: ")[2]  # it was tried once
    assert hint.startswith("is the file whole")


@pytest.mark.parametrize(
    ("form", "content", "said", "advice"),
    [
        ("Json()", b"a b\na\n", "is no JSON", "Text() reads lines as they are"),
        ("Csv()", b"a,b\n1,2,3\n", "has 3 fields, and there are 2 names", "Csv() has options"),
        ("FixedWidth(4)", b"abcdef", "ends 2 bytes into the record", "is the width right"),
        ("Text()", b"a" * 3000, "is longer than 1000 bytes", "is this a text file?"),
    ],
)
def test_records_that_are_not_of_the_format_fail_the_job_at_the_first_attempt(
    submit, tmp_path: Path, form: str, content: bytes, said: str, advice: str
) -> None:
    job = f"from minireduce import *\njob = Job(lambda record: [(1, 1)], Count(), input={form})\n"
    ran = submit(job_file(tmp_path, job), text_file(tmp_path, content), MINIREDUCE_RECORD_BYTES_MAX="1000")
    assert ran.status == 1
    error, hint = last_words(ran.err)
    assert said in error
    assert "times" not in error, "no other attempt would fare better"
    assert advice in hint
