"""`jobs status wait kill logs counters`: what they ask and what they show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minireduce.core.spec import OutputKind
from minireduce.core.task_data import SkippedRecord, TaskError
from minireduce.core.views import (
    AttemptError,
    AttemptView,
    JobState,
    JobView,
    PrintedPage,
    PrintedPiece,
    SkippedView,
    TaskCounts,
    TaskView,
)
from minireduce.errors import NotFound, Refused, Unavailable
from minireduce.ids import AttemptId, TaskId, TaskKind

JOB = "job-3f9a01-7"
TASK = TaskId(JOB, 0, TaskKind.MAP, 3)
ATTEMPT = AttemptId(TASK, 0)
RUNNING = JobView(
    JOB,
    "words",
    JobState.RUNNING,
    OutputKind.TEXT,
    "/out",
    1_700_000_000.0,
    72.0,
    0.25,
    (TaskCounts(0, TaskKind.MAP, 4, 1, 2), TaskCounts(0, TaskKind.REDUCE, 1, 0, 0)),
    (("minireduce", "MAP_INPUT_RECORDS", 1200),),
)
SUCCEEDED = replace(RUNNING, state=JobState.SUCCEEDED, fraction=1.0)
FAILED = replace(
    RUNNING,
    state=JobState.FAILED,
    reason=f"{TASK} failed 4 times",
    errors=(
        AttemptError(
            ATTEMPT,
            "worker-1",
            TaskError(
                "raised",
                "ZeroDivisionError",
                "division by zero",
                "Traceback (most recent call last):\n"
                '  File "ratio.py", line 3, in ratio\n'
                "ZeroDivisionError: division by zero",
                "/in/a.txt",
                1234,
                "'0 0'",
            ),
        ),
    ),
)
SILENCE = PrintedPage((), 0, 0)
KILLED = replace(RUNNING, state=JobState.KILLED, reason="killed from the command line")


def test_jobs_are_listed_with_state_and_progress(run, master) -> None:
    master(List=(RUNNING,))
    ran = run("jobs")
    assert ran.status == 0
    assert [line.split()[:4] for line in ran.out.splitlines()] == [
        ["JOB", "NAME", "STATE", "DONE"],
        [JOB, "words", "running", "25%"],
    ]


def test_every_command_that_asks_the_cluster_answers_in_json(run, master) -> None:
    tasks = (TaskView(TASK, "running", (AttemptView(ATTEMPT, "worker-1", "running", 0.5, 2.0),)),)
    master(
        List=(RUNNING,),
        Get=RUNNING,
        Wait=SUCCEEDED,
        Kill=JobState.KILLED,
        Tasks=tasks,
        Skipped=(),
        Printed=SILENCE,
        ListWorkers=(),
    )
    assert run("jobs", "--json").json[0]["job"] == JOB
    assert run("status", "@", "--json").json["tasks"][0] == {
        "step": 0,
        "kind": "map",
        "total": 4,
        "done": 1,
        "running": 2,
    }
    assert run("wait", JOB, "--json").json["state"] == "succeeded"
    assert run("kill", JOB, "--json").json == {"job": JOB, "state": "killed"}
    assert run("logs", JOB, "--json").json["tasks"][0]["attempts"][0]["attempt"] == str(ATTEMPT)
    assert run("counters", JOB, "--json").json == {"minireduce": {"MAP_INPUT_RECORDS": 1200}}
    assert run("cluster", "workers", "--json").json == []


def test_status_shows_why_a_job_failed_with_the_users_own_traceback(run, master) -> None:
    master(Get=FAILED)
    ran = run("status", JOB)
    assert ran.status == 0
    assert f"{TASK} failed 4 times" in ran.out
    assert 'File "ratio.py", line 3, in ratio' in ran.out


def test_waiting_for_a_job_that_succeeds_ends_with_0(run, master) -> None:
    asked = master(Get=RUNNING, Wait=[RUNNING, SUCCEEDED]).asked
    ran = run("wait", "@")
    assert ran.status == 0
    assert f"{JOB} succeeded in 1 min 12 s" in ran.err
    assert [(name, request.job) for name, request in asked] == [
        ("Get", "@"),
        ("Get", JOB),
        ("Wait", JOB),
        ("Wait", JOB),
    ]


def test_waiting_for_a_job_that_fails_shows_the_users_traceback_first_and_ends_with_1(run, master) -> None:
    master(Get=FAILED)
    ran = run("wait", JOB)
    assert ran.status == 1
    assert ran.err.splitlines() == [
        "Traceback (most recent call last):",
        '  File "ratio.py", line 3, in ratio',
        "ZeroDivisionError: division by zero",
        "while reading /in/a.txt, offset 1234",
        "record: '0 0'",
        f"error: {JOB} failed: {TASK} failed 4 times: division by zero",
        f"  hint: minireduce logs {JOB}",
    ]


def test_waiting_for_a_job_that_is_killed_ends_with_3(run, master) -> None:
    master(Get=KILLED)
    assert run("wait", JOB).status == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound(f"there is no job {JOB}", hint="minireduce jobs"), 2),
        (Refused("the token is another cluster's", hint="check the token"), 4),
        (Unavailable("the master at 127.0.0.1:1 cannot be reached", hint="is it running?"), 4),
    ],
)
def test_an_error_is_one_line_a_hint_and_a_status(run, master, error: Exception, status: int) -> None:
    master(Get=error)
    ran = run("status", JOB)
    assert ran.status == status
    assert ran.err == f"error: {error.message}\n  hint: {error.hint}\n"
    assert run("status", JOB, "--json").json == {
        "error": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
    }


def test_logs_of_a_task_that_the_job_has_not_are_an_error(run, master) -> None:
    master(Get=RUNNING, Tasks=(), Skipped=(), Printed=SILENCE)
    ran = run("logs", JOB, "--task", f"{JOB}_s0_m00009")
    assert ran.status == 2
    assert "has no task" in ran.err


def test_logs_name_each_attempt_its_worker_and_what_it_said(run, master) -> None:
    attempt = AttemptView(ATTEMPT, "worker-1", "failed", 0.5, 2.0, "ZeroDivisionError: division by zero")
    master(Get=FAILED, Tasks=(TaskView(TASK, "pending", (attempt,)),), Skipped=(), Printed=SILENCE)
    assert run("logs", JOB).out.splitlines()[:3] == [
        f"== {ATTEMPT} failed on worker-1, 2.0 s: ZeroDivisionError: division by zero",
        "Traceback (most recent call last):",
        '  File "ratio.py", line 3, in ratio',
    ]


def test_killing_names_the_job_that_was_meant(run, master) -> None:
    fake = master(Get=RUNNING, Kill=JobState.KILLED)
    assert run("kill", "@").out == f"{JOB} killed\n"
    assert fake.asked[-1][1].job == JOB


def test_an_interrupted_command_ends_with_130(run, master, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(master(), "call", interrupted)
    ran = run("wait", JOB)
    assert ran.status == 130
    assert ran.err.strip() == "interrupted"


def test_logs_of_a_failed_job_whose_tasks_are_forgotten_show_what_its_attempts_said(run, master) -> None:
    master(Get=FAILED, Tasks=(), Skipped=(), Printed=SILENCE)
    for command in (("logs", JOB), ("logs", JOB, "--task", str(TASK))):
        ran = run(*command)
        assert ran.status == 0
        assert ran.out.splitlines()[0] == f"== {ATTEMPT} failed on worker-1: raised"
        assert ran.out.splitlines()[-3:] == [
            "ZeroDivisionError: division by zero",
            "while reading /in/a.txt, offset 1234",
            "record: '0 0'",
        ]


def test_logs_of_a_job_of_which_nothing_is_kept_say_so(run, master) -> None:
    master(Get=SUCCEEDED, Tasks=(), Skipped=(), Printed=SILENCE)
    assert run("logs", JOB).out.startswith(f"{JOB} succeeded")


def page(*pieces: tuple[AttemptId, str, int, bytes], last: int = 1) -> PrintedPage:
    return PrintedPage(tuple(PrintedPiece(attempt, "worker-1", *piece) for attempt, *piece in pieces), last, 0)


def test_logs_show_what_each_attempt_printed_under_its_heading_and_count_the_silent_ones(run, master) -> None:
    loud, silent = (AttemptView(AttemptId(TASK, n), "worker-1", "succeeded", 1.0, 2.0) for n in (0, 1))
    pages = [
        page((ATTEMPT, "stdout", 3, b"\xc3\xa4\n"), (ATTEMPT, "stdout", 0, b"one"), (ATTEMPT, "stderr", 0, b"two"))
    ]
    master(Get=SUCCEEDED, Tasks=(TaskView(TASK, "done", (loud, silent)),), Skipped=(), Printed=[*pages, SILENCE])
    assert run("logs", JOB).out.splitlines() == [
        f"== {ATTEMPT} succeeded on worker-1, 2.0 s",
        "-- stdout",
        "oneä",
        "-- stderr",
        "two",
        "1 attempt more, which printed nothing",
    ]


def test_a_gap_in_a_text_is_told_and_what_was_sent_twice_is_shown_once(run, master) -> None:
    pieces = ((ATTEMPT, "stdout", 0, b"abc"), (ATTEMPT, "stdout", 0, b"abcdef"), (ATTEMPT, "stdout", 1006, b"xyz\n"))
    master(Get=SUCCEEDED, Tasks=(), Skipped=(), Printed=[page(*pieces), SILENCE])
    assert run("logs", JOB).out.splitlines()[2:] == ["abcdef", "… 1,000 bytes were left out here …", "xyz"]


def test_logs_show_the_records_that_were_found_bad_as_a_failed_job_publishes_none(run, master) -> None:
    error = TaskError("raised", "ValueError", "map m raised ValueError: no\n  at", "", "/in/a.txt", 7)
    view = SkippedView(ATTEMPT, "worker-1", SkippedRecord(error, b"x y", is_text=True, bytes_total=3))
    other = replace(view, attempt=AttemptId(TaskId(JOB, 0, TaskKind.MAP, 4), 0))
    master(Get=FAILED, Tasks=(), Skipped=(view, other), Printed=[SILENCE, SILENCE])
    line = "left out: record 'x y' of /in/a.txt at offset 7: map m raised ValueError: no"
    assert run("logs", JOB).out.splitlines()[-2:] == [line, line]
    assert run("logs", JOB, "--task", TASK).out.splitlines().count(line) == 1


def test_the_same_traceback_is_shown_once(run, master) -> None:
    again = replace(FAILED.errors[0], attempt=AttemptId(TASK, 1))
    master(Get=replace(FAILED, errors=(FAILED.errors[0], again)), Tasks=(), Skipped=(), Printed=SILENCE)
    out = run("logs", JOB).out
    assert out.count('File "ratio.py"') == 1
    assert f"the traceback of {ATTEMPT} again" in out


def test_following_shows_pieces_as_they_come_until_the_job_has_ended(run, master) -> None:
    other = AttemptId(TASK, 1)
    pages = [
        page((ATTEMPT, "stdout", 0, b"one\n"), (other, "stdout", 0, b"half"), last=5),
        PrintedPage((), 5, 0),
        page((ATTEMPT, "stdout", 4, b"two\n"), last=6),
        PrintedPage((), 6, 0),
    ]
    fake = master(Get=RUNNING, Wait=SUCCEEDED, Skipped=(), Printed=pages)
    assert run("logs", JOB, "--follow").out.splitlines() == [
        f"== {ATTEMPT} on worker-1, stdout",
        "one",
        f"== {other} on worker-1, stdout",
        "half",
        f"== {ATTEMPT} on worker-1, stdout",
        "two",
    ]
    assert [request.after for name, request in fake.asked if name == "Printed"] == [0, 5, 5, 6]


def test_status_shows_the_attempts_of_a_job_that_has_ended(run, master) -> None:
    attempts = (AttemptView(ATTEMPT, "worker-1", "lost", 0.5, 2.0, "worker worker-1 was lost"),)
    master(Get=SUCCEEDED, Tasks=(TaskView(TASK, "done", attempts),))
    line = run("status", JOB, "--attempts").out.splitlines()[-1]
    assert line.split() == f"{ATTEMPT} lost worker-1 2.0 s worker worker-1 was lost".split()
    assert run("status", JOB, "--attempts", "--json").json["attempts"][0][0]["state"] == "lost"
