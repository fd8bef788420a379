"""What is told of a job whose master is gone: its name, and how to find it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from minireduce import config
from minireduce.client.job_spec import Wishes
from minireduce.core.spec import JobSpec, OutputKind, Program
from minireduce.errors import Unavailable
from minireduce.launch.job_handle import JobHandle
from minireduce.launch.session import Session
from minireduce.launch.submission import send

if TYPE_CHECKING:
    from minireduce.launch.embedded import EmbeddedCluster


class AbsentMaster:
    """A session whose master does not answer."""

    address = "far:7070"

    def __init__(self, *, is_embedded: bool) -> None:
        self.is_embedded = self.is_of_this_process = is_embedded
        self.connection = self

    def call(self, *_: Any, **__: Any) -> None:
        raise Unavailable("the master at far:7070 cannot be reached", hint="is it running?")


def handle(kind: OutputKind, *, is_embedded: bool = False) -> JobHandle[Any, Any]:
    session = cast("Session", AbsentMaster(is_embedded=is_embedded))
    return JobHandle(session, "job-abc-7", Wishes(output=kind))


@pytest.mark.parametrize(
    ("kind", "told"), [(OutputKind.TEXT, "submit it again"), (OutputKind.RESULT, "result can be waited for again")]
)
def test_a_master_that_is_gone_for_good_is_told_with_the_job_and_how_to_find_it(kind: OutputKind, told: str) -> None:
    with pytest.raises(Unavailable, match=r"job-abc-7 may go on.* cannot be reached") as gone:
        handle(kind).follow()
    assert "`minireduce status job-abc-7 --master far:7070`" in str(gone.value.hint)
    assert told in str(gone.value.hint)
    assert ("submit it again" in str(gone.value.hint)) is (kind is OutputKind.TEXT)


def test_of_a_master_that_ended_with_its_session_no_job_can_go_on() -> None:
    with pytest.raises(Unavailable) as gone:
        handle(OutputKind.TEXT, is_embedded=True).follow()
    assert str(gone.value.hint) == "is it running?"


class Cluster:
    """One of somebody else, whose master goes when a job is submitted."""

    @property
    def connection(self) -> AbsentMaster:
        return AbsentMaster(is_embedded=False)


def test_a_job_whose_submission_had_no_answer_may_run_and_is_told_by_its_name() -> None:
    session = Session(config.load({}), cluster=cast("EmbeddedCluster", Cluster()))
    spec = JobSpec("words", Program("source", b"", ""), (), (), OutputKind.TEXT)
    with pytest.raises(Unavailable, match=r"whether 'words' was submitted: .* cannot be reached") as gone:
        send(session, spec, "key")
    assert "`minireduce jobs --master far:7070`" in str(gone.value.hint)
