"""`Job.run` and `Job.submit`: results, failures and clusters, from a program rather than a command line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from minireduce import Job, JobFailed, JobResult, LocalCluster, Sum, connect
from minireduce.auth import tokens
from minireduce.errors import AlreadyExists, JobKilled, NotFound, Refused, RequestError
from minireduce.wire import methods
from minireduce.wire.questions import GetResult, ListJobs

GROUP = "minireduce"


class OutOfLuck(Exception):
    """What a user's own code raises."""


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def unlucky(line: str) -> Iterator[tuple[str, int]]:
    if line == "c":
        raise OutOfLuck(line)
    yield line, 1


def typed(line: str) -> Iterator[tuple[tuple[str, int], object]]:
    yield (line, len(line)), {"line": line, "bytes": line.encode(), "set": {len(line)}}


def endless(line: str) -> Iterator[tuple[str, int]]:
    import time

    while True:
        time.sleep(600)
        yield line, 1


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("MINIREDUCE_MASTER", raising=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(workers=2, slots=1) as started:
        yield started


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("a b a\nb a\nc\n")
    return path


def options(where: str, cluster: LocalCluster) -> dict[str, object]:
    return {"inline": {"inline": True}, "embedded": {"slots": 1}, "cluster": {"master": cluster}}[where]


@pytest.mark.parametrize("where", ["inline", "embedded", "cluster"])
def test_a_result_is_read_as_often_as_wanted_and_counts_what_happened(
    where: str, cluster: LocalCluster, text: Path
) -> None:
    result: JobResult[str, int] = Job(words, Sum()).run(text, reducers=2, **options(where, cluster))
    assert dict(result) == dict(result) == {"a": 3, "b": 2, "c": 1}
    assert len(result.head(2)) == 2
    assert result.counters[GROUP]["MAP_INPUT_RECORDS"] == 3
    assert result.counters["mine"]["never added to"] == 0
    assert dict(result.to_pandas().itertuples(index=False)) == {"a": 3, "b": 2, "c": 1}
    assert result.to_arrow().num_rows == 3
    result.close()
    result.close()
    with pytest.raises(RequestError, match="is closed"):
        list(result)


@pytest.mark.parametrize("where", ["inline", "embedded", "cluster"])
def test_values_arrive_equal_and_of_the_same_type(where: str, cluster: LocalCluster, text: Path) -> None:
    result = Job(typed).run(text, **options(where, cluster))
    assert min(result, key=lambda pair: pair[0]) == (
        ("a b a", 5),
        {"line": "a b a", "bytes": b"a b a", "set": {5}},
    )
    result.close()


@pytest.mark.parametrize("where", ["inline", "embedded", "cluster"])
def test_a_failure_is_also_what_user_code_raised(where: str, cluster: LocalCluster, text: Path) -> None:
    job = Job(unlucky, Sum(), attempts_max=1)
    with pytest.raises(OutOfLuck) as failed:
        job.run(text, **options(where, cluster))
    assert isinstance(failed.value, JobFailed)
    assert failed.value.errors


@pytest.mark.parametrize("where", ["inline", "embedded", "cluster"])
def test_an_output_is_written_as_text_and_is_no_result_to_iterate_over(
    where: str, cluster: LocalCluster, text: Path, tmp_path: Path
) -> None:
    result = Job(words, Sum()).run(text, output=tmp_path / "out", **options(where, cluster))
    assert (tmp_path / "out" / "part-00000").read_text() == "a\t3\nb\t2\nc\t1\n"
    assert result.counters[GROUP]["MAP_INPUT_RECORDS"] == 3
    with pytest.raises(RequestError, match="wrote text"):
        list(result)
    with pytest.raises(AlreadyExists):
        Job(words, Sum()).run(text, output=tmp_path / "out", **options(where, cluster))


def test_a_handle_follows_a_job_and_can_kill_it(cluster: LocalCluster, text: Path) -> None:
    handle = Job(endless, Sum()).submit(text, master=cluster)
    assert handle.state == "running"
    assert handle.progress < 1
    handle.kill()
    with pytest.raises(JobKilled):
        handle.wait()
    assert handle.state == "killed"


def test_steps_follow_each_other_with_their_types(cluster: LocalCluster, text: Path) -> None:
    def by_count(word: str, count: int) -> Iterator[tuple[int, int]]:
        del word
        yield count, 1

    result = Job(words, Sum()).then(by_count, Sum()).run(text, master=cluster)
    assert list(result) == [(1, 1), (2, 1), (3, 1)]
    result.close()


def test_a_closed_result_is_forgotten_by_the_cluster(cluster: LocalCluster, text: Path) -> None:
    with cluster.connect() as connection:
        result = Job(words, Sum()).run(text, master=cluster)
        assert connection.call(methods.GET_RESULT, GetResult(result.id)).parts
        result.close()
        with pytest.raises(RequestError):
            connection.call(methods.GET_RESULT, GetResult(result.id))


def test_a_result_is_closed_at_the_end_of_its_block(cluster: LocalCluster, text: Path) -> None:
    with Job(words, Sum()).run(text, master=cluster) as result:
        assert dict(result) == {"a": 3, "b": 2, "c": 1}
    with pytest.raises(RequestError, match="is closed"):
        list(result)


def test_what_outlives_its_cluster_says_so_at_once(text: Path) -> None:
    with LocalCluster(workers=1, slots=1) as ended:
        result = Job(words, Sum()).run(text, master=ended)
        handle = Job(words, Sum()).submit(text, master=ended)
    with pytest.raises(RequestError, match=r"the connection to the master at .* is closed"):
        handle.view()
    result.close()  # nothing is left of it that could be let go


def test_a_cluster_that_never_served_says_that_it_has_ended(text: Path) -> None:
    with LocalCluster(workers=1, slots=1) as ended:
        pass
    with pytest.raises(RequestError, match="this cluster has ended"):
        Job(words, Sum()).run(text, master=ended)


def test_a_job_outlives_workers_while_one_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIREDUCE_WORKER_LOST_S", "1")
    inputs = [tmp_path / "a", tmp_path / "b"]
    for path in inputs:
        path.write_text(f"{path.name}\n")

    def killing(line: str) -> Iterator[tuple[str, int]]:
        with contextlib.suppress(FileExistsError):
            (tmp_path / "killed").touch(exist_ok=False)
            zygote = psutil.Process().parent()
            assert zygote is not None
            worker = zygote.parent()
            assert worker is not None
            worker.kill()
            worker.wait()
        yield line, 1

    with LocalCluster(workers=2, slots=1) as cluster:
        handle = Job(killing, Sum()).submit(*inputs, master=cluster, reducers=1)
        handle.follow(lambda _: None, interval_s=0.05)  # who looks on would see that a daemon has ended
        with handle.wait() as result:
            assert list(result) == [("a", 1), ("b", 1)]
        assert sum(worker.process.poll() is not None for worker in cluster._workers) == 1
        with Job(words, Sum()).run(*inputs, master=cluster, reducers=1) as result:
            assert list(result) == [("a", 1), ("b", 1)]


def test_slots_belong_to_an_embedded_cluster(cluster: LocalCluster, text: Path) -> None:
    with pytest.raises(RequestError, match="slots belong to workers"):
        Job(words, Sum()).run(text, master=cluster, slots=2)


def test_an_input_that_is_missing_is_told_before_anything_runs(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Job(words, Sum()).run(tmp_path / "nowhere", master=cluster)


def test_another_clusters_token_is_refused(cluster: LocalCluster) -> None:
    with (
        connect(cluster.address, token=tokens.generate().require_client()) as stranger,
        pytest.raises(Refused),
    ):
        stranger.call(methods.LIST_JOBS, ListJobs())


def test_values_of_a_class_of_this_session_come_back_as_that_class(text: Path, cluster: LocalCluster) -> None:
    class Place:
        def __init__(self, line: str) -> None:
            self.line = line

    def placed(line: str) -> Iterator[tuple[str, Place]]:
        yield line, Place(line)

    def kept(line: str, places: Iterator[Place]) -> Iterator[tuple[str, Place]]:
        yield line, next(places)

    result = Job(placed, kept).run(str(text), master=cluster)
    assert [(type(place) is Place, place.line == line) for line, place in result] == [(True, True)] * len(list(result))


def test_the_only_worker_of_a_cluster_for_one_program_serves_blocks_once_somebody_wants_them(text: Path) -> None:
    def names() -> set[str]:
        found = set()
        (worker,) = alone._workers
        for process in psutil.Process(worker.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended since
                found.add(process.name())
        return found

    with LocalCluster(workers=1, slots=1) as alone:
        counted = Job(words, Sum()).run(text, master=alone)
        assert dict(counted) == {"a": 3, "b": 2, "c": 1}
        counted.close()
        assert "minireduce-zygo" in names()
        assert "mr-blocks" not in names()
        with alone.connect() as connection:
            connection.fs.put_stream(io.BytesIO(b"bytes"), "/stored")
        assert "mr-blocks" in names()
