"""Local input that no worker sees: uploaded for the job, computed, and gone when the job ends."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce import Job, Sum, task
from minireduce.client.fs import FileSystem
from minireduce.core.storage.staged_paths import STAGING
from minireduce.errors import JobFailed, RequestError
from minireduce.launch import submission

SETTINGS = {"MINIREDUCE_REPAIR_DELAY_S": "1", "MINIREDUCE_WORKER_LOST_S": "2"}
WORDCOUNT = str(Path(__file__).parents[2] / "jobs" / "wordcount.py")
MINIREDUCE = str(Path(sys.executable).with_name("minireduce"))
ELSEWHERE = ("unshare", "--map-root-user", "--mount")
"""What runs a command that has mounts of its own, as the client on another machine has."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("uploaded"), workers=2, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def elsewhere(cluster, monkeypatch):
    """This process is on a machine without workers."""
    monkeypatch.setattr("minireduce.machine.machine_id", lambda: "elsewhere")
    monkeypatch.setenv("MINIREDUCE_TOKEN_FILE", str(cluster.token_file))
    return cluster


def left(cluster) -> list[str]:
    with cluster.connect() as connection:
        files = FileSystem(connection)
        return [entry.path for entry in files.walk(f"/{STAGING}")] if files.exists(f"/{STAGING}") else []


def words_and_places(line: str) -> Iterator[tuple[tuple[str, str], int]]:
    for word in line.split():
        yield (task.input_path, word), 1


def test_files_of_all_kinds_are_read_under_their_own_names_and_go_with_the_job(elsewhere, tmp_path):
    texts = {f"small {number}.txt": f"n{number} all\n" * number for number in range(20)}
    texts |= {"large.txt": "far far away\n" * 200_000, "tab\there %41.txt": "odd\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"packed packed\n"))
    texts["packed.gz"] = "packed packed\n"
    with elsewhere.connect() as connection:
        FileSystem(connection).put_stream(io.BytesIO(b"stored\n"), "/beside")
    job = Job(words_and_places, Sum())
    options = {"master": elsewhere.address, "split_size": 1 << 20}
    result = job.run("mr:///beside", tmp_path, **options)
    assert left(elsewhere), "the result may have to be made again while it is kept"
    found = dict(result)
    result.close()
    expected = Counter({("/beside", "stored"): 1})
    expected.update((str(tmp_path / name), word) for name, text in texts.items() for word in text.split())
    assert found == expected
    assert left(elsewhere) == []


def fails(line: str) -> Iterator[tuple[str, int]]:
    raise ValueError(line)


def test_an_error_names_the_local_file(elsewhere, tmp_path):
    (tmp_path / "in.txt").write_text("bad\n")
    with pytest.raises(JobFailed) as caught:
        Job(fails, attempts_max=1).run(tmp_path / "in.txt", master=elsewhere.address)
    assert [found.error.path for found in caught.value.errors] == [str(tmp_path / "in.txt")]
    assert left(elsewhere) == []


def test_a_job_that_is_refused_leaves_nothing(elsewhere, tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(RequestError, match="queue"):
        submission.run(Job(words_and_places, Sum()), tmp_path / "in.txt", master=elsewhere.address, queue="nobody's")
    assert left(elsewhere) == []


def test_a_client_with_mounts_of_its_own_submits_what_only_it_sees_and_gets_its_output(cluster, tmp_path):
    if shutil.which("unshare") is None or subprocess.run([*ELSEWHERE, "true"], check=False).returncode != 0:
        pytest.skip("SKIPPED, NOT SHOWN: no mount namespace can be made here")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (tmp_path / "in.txt").write_text("a b a\n")
    script = 'mount -t tmpfs none "$1" && cp "$2" "$1/in.txt" && shift 2 && exec "$@"'
    submit = [MINIREDUCE, "submit", WORDCOUNT, str(hidden / "in.txt"), "-o", str(tmp_path / "out")]
    ran = subprocess.run(
        [
            *ELSEWHERE,
            "sh",
            "-c",
            script,
            "sh",
            str(hidden),
            str(tmp_path / "in.txt"),
            *submit,
            "--master",
            cluster.address,
        ],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "uploaded input: 6 B" in ran.stderr
    assert not any(hidden.iterdir()), "the workers could have seen it"
    assert (tmp_path / "out" / "part-00000").read_text() == "a\t2\nb\t1\n"
    assert left(cluster) == []


@pytest.mark.parametrize("where", ["in the cluster", "embedded", "inline"])
def test_standard_input_is_an_input_beside_others(cluster, tmp_path, where):
    (tmp_path / "in.txt").write_text("a c\n")
    options = {"in the cluster": ["--master", cluster.address], "embedded": [], "inline": ["--inline"]}[where]
    environment = {**cluster.environment, "TMPDIR": str(tmp_path)}
    command = [MINIREDUCE, "submit", WORDCOUNT, "-", str(tmp_path / "in.txt"), *options]
    ran = subprocess.run(command, env=environment, input="a b\n", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "a\t2\nb\t1\nc\t1\n"
    assert left(cluster) == []
    assert not list(tmp_path.glob("*/stdin"))


def test_standard_input_is_read_once(cluster):
    command = [MINIREDUCE, "submit", WORDCOUNT, "-", "-"]
    ran = subprocess.run(command, env=cluster.environment, input="", capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "named twice" in ran.stderr
