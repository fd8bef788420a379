"""A program becomes a job only if it is the one submitted; what is wrong with it is told by file and line."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import textwrap
import traceback

import cloudpickle
import pytest

from minireduce.api.aggregations import Sum
from minireduce.api.job import Job
from minireduce.attempt.load import MODULE_NAME, PICKLE, load_job, python_version, source_program
from minireduce.core.spec import Program
from minireduce.engine.errors import UserCodeError
from minireduce.errors import Corruption, RequestError

WORDCOUNT = """
from minireduce import Job, Sum

def words(line: str):
    for word in line.split():
        yield word, 1

job = Job(words, Sum())
"""

PARAMETERS = """
from minireduce import Job

def job(min_length: int = 1) -> Job:
    def words(line):
        for word in line.split():
            if len(word) >= min_length:
                yield word, 1
    return Job(words)
"""


@pytest.fixture(autouse=True)
def _leave_no_module():
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop(MODULE_NAME, None)


def program(text: str, *, origin: str = "/nowhere/job.py", parameters=()) -> Program:
    body = textwrap.dedent(text).encode()
    return Program("source", body, hashlib.sha256(body).hexdigest(), origin, python_version(), tuple(parameters))


def test_a_job_file_gives_its_job():
    job = load_job(program(WORDCOUNT))
    assert isinstance(job.steps[0].reduce, Sum)
    assert list(job.steps[0].map("b a")) == [("b", 1), ("a", 1)]


def test_a_function_called_job_takes_parameters_by_their_types():
    job = load_job(program(PARAMETERS, parameters=[("min_length", "2")]))
    assert list(job.steps[0].map("a bb c dd")) == [("bb", 1), ("dd", 1)]


def test_changed_code_is_not_run():
    changed = dataclasses.replace(program(WORDCOUNT), body=b"raise SystemExit")
    with pytest.raises(Corruption, match="not the one that was submitted"):
        load_job(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def words(:\n", r"/nowhere/job\.py, line 1: "),
        ("x = 1\n", "defines no `job`"),
        ("job = 3\n", "`job` in /nowhere/job.py is a int"),
        ("def job(): return 3\n", "gives a int"),
        ("def job(n: int): return n\n", "needs the parameter 'n'"),
    ],
)
def test_a_file_that_is_no_job_is_a_clear_error(text, message):
    with pytest.raises(RequestError, match=message):
        load_job(program(text))


def test_parameters_for_a_plain_job_are_refused():
    with pytest.raises(RequestError, match="takes no parameters"):
        load_job(program(WORDCOUNT, parameters=[("n", "1")]))


def test_code_that_raises_shows_the_users_own_lines_on_a_machine_without_the_file():
    with pytest.raises(UserCodeError, match="ZeroDivisionError") as raised:
        load_job(program("def ratio():\n    return 1 / 0\nratio()\n"))
    told = raised.value.traceback_text
    assert 'File "/nowhere/job.py", line 2, in ratio\n    return 1 / 0' in told
    assert "load.py" not in told
    assert raised.value.exception_type == "builtins.ZeroDivisionError"


def test_a_map_that_raises_later_shows_its_line_too():
    job = load_job(program("from minireduce import Job\ndef words(line):\n    return 1 / 0\njob = Job(words)\n"))
    with pytest.raises(ZeroDivisionError) as raised:
        job.steps[0].map("a")
    assert "return 1 / 0" in "".join(traceback.format_exception(raised.value))


def test_modules_beside_the_file_can_be_imported(tmp_path):
    (tmp_path / "beside_the_job.py").write_text("WORD = 'x'\n")
    file = tmp_path / "job.py"
    file.write_text(
        "import beside_the_job\nfrom minireduce import Job\n"
        "def words(line):\n    yield beside_the_job.WORD, 1\njob = Job(words)\n"
    )
    try:
        assert list(load_job(source_program(file)).steps[0].map("")) == [("x", 1)]
    finally:
        sys.modules.pop("beside_the_job", None)


def test_a_missing_job_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"missing\.py cannot be read"):
        source_program(tmp_path / "missing.py")


def pickled(value: object, version: str) -> Program:
    body = cloudpickle.dumps(value)
    return Program(PICKLE, body, hashlib.sha256(body).hexdigest(), "notebook", version)


def test_a_pickled_job_runs_under_the_same_python_only():
    job = Job(lambda line: [(line, 1)])
    assert list(load_job(pickled(job, python_version())).steps[0].map("a")) == [("a", 1)]
    with pytest.raises(RequestError, match=r"made by Python 2\.7"):
        load_job(pickled(job, "2.7"))


def test_a_pickle_of_something_else_is_refused():
    with pytest.raises(RequestError, match="gives a int"):
        load_job(pickled(3, python_version()))
