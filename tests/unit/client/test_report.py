"""The page about a job: what stands on it, and that nothing of a job is taken for markup."""

from __future__ import annotations

from html.parser import HTMLParser

from minireduce.client.report import render
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import TaskError
from minireduce.core.views import AttemptError, AttemptView, JobState, JobView, TaskCounts, TaskView
from minireduce.ids import AttemptId, TaskId, TaskKind

EVIL = "<script>alert('&')</script>"
TASK = TaskId("job-3f9a01-1", 0, TaskKind.MAP, 0)
JOB = JobView(
    TASK.job,
    EVIL,
    JobState.FAILED,
    OutputKind.TEXT,
    "/out",
    0.0,
    9.0,
    1.0,
    (TaskCounts(0, TaskKind.MAP, 2, 1, 0),),
    (("g", EVIL, 1234),),
    (AttemptError(AttemptId(TASK, 0), "w1", TaskError("raised", "ValueError", EVIL)),),
    EVIL,
)


class Bars(HTMLParser):
    """The bars of the picture, and all tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.bars: list[dict[str, str]] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "rect":
            self.bars.append(dict(attrs))


def attempt(number, state, launched, ended):
    return AttemptView(AttemptId(TASK, number), "w1", state, 1.0, ended - launched, EVIL, False, launched, launched)


def test_each_attempt_is_a_bar_in_the_colour_of_its_end_and_as_long_as_it_took():
    page = Bars(
        render(JOB, [TaskView(TASK, "done", (attempt(0, "failed", 0.0, 2.0), attempt(1, "succeeded", 2.0, 8.0)))])
    )
    first, second = page.bars
    assert first["fill"] != second["fill"]
    assert first["y"] == second["y"], "one slot did both"
    assert abs(float(second["width"]) / float(first["width"]) - 3.0) < 0.01


def test_nothing_of_a_job_is_taken_for_markup_and_nothing_is_fetched():
    page = render(JOB, [TaskView(TASK, "done", (attempt(0, "failed", 0.0, 2.0),))])
    assert not Bars(page).tags & {"script", "link", "img", "iframe"}
    assert "http" not in page
    assert "1,234" in page


def test_a_job_of_which_no_attempt_is_kept_has_a_page_too():
    assert "No attempt of it is kept" in render(JOB, [])
