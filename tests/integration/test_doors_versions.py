"""Who speaks another version, or is no member at all: refused with status 4, and told what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.auth import tokens
from minireduce.core.messages import PROTOCOL_VERSION

ENDS_S = 60
OTHER = PROTOCOL_VERSION + 1
OF_ANOTHER_VERSION = (
    "import sys\n"
    "from minireduce.core import messages\n"
    f"messages.PROTOCOL_VERSION = {OTHER}\n"
    "from minireduce.{module} import main\n"
    "sys.exit(main())\n"
)
"""Everything takes the version from where it stands, after this has changed it there."""

DETAILS = f"the caller speaks protocol {OTHER}, this master speaks {PROTOCOL_VERSION}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """A master, and nobody who has come yet."""
    with ProcessCluster(tmp_path_factory.mktemp("versions"), workers=0) as started:
        yield started


def run(cluster: ProcessCluster, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", script, *arguments]
    seen = {**cluster.environment, **environment}
    return subprocess.run(command, env=seen, capture_output=True, text=True, timeout=ENDS_S, check=False)


def of_another_version(module: str) -> str:
    return OF_ANOTHER_VERSION.replace("{module}", module)


def of_this_version(module: str) -> str:
    return f"import sys\nfrom minireduce.{module} import main\nsys.exit(main())\n"


def assert_refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "error: " in ended.stderr
    assert "hint: " in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_client_of_another_version_is_refused(cluster: ProcessCluster) -> None:
    asked = ["jobs", "--master", cluster.address]
    assert_refused(run(cluster, of_another_version("cli.main"), *asked), DETAILS, "the same version of minireduce")
    ours = run(cluster, of_this_version("cli.main"), *asked)
    assert ours.returncode == 0, ours.stderr


def test_a_submit_of_another_version_is_refused_before_there_is_a_job(cluster: ProcessCluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    wordcount = str(Path(__file__).parents[2] / "jobs" / "wordcount.py")
    asked = ["submit", wordcount, str(tmp_path / "in.txt"), "-o", str(tmp_path / "out"), "--master", cluster.address]
    assert_refused(run(cluster, of_another_version("cli.main"), *asked), DETAILS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt"]
    assert (
        run(cluster, of_this_version("cli.main"), "jobs", "--master", cluster.address, "--json").stdout.strip() == "[]"
    )


def test_a_worker_of_another_version_is_refused(cluster: ProcessCluster, tmp_path: Path) -> None:
    placed = [cluster.address, "--data-dir", str(tmp_path / "data")]
    assert_refused(run(cluster, of_another_version("launch.worker_main"), *placed), DETAILS, "the same version")
    assert cluster.workers() == {}


@pytest.mark.parametrize("kind", ["of another cluster", "of the wrong kind"])
def test_a_worker_with_a_token_that_is_not_a_workers_is_refused(
    cluster: ProcessCluster, tmp_path: Path, kind: str
) -> None:
    stranger = tokens.generate().require_worker()
    given = stranger if kind == "of another cluster" else cluster.tokens.require_client()
    placed = [cluster.address, "--data-dir", str(tmp_path / "data")]
    ended = run(cluster, of_this_version("launch.worker_main"), *placed, MINIREDUCE_TOKEN=given)
    assert_refused(ended, "token")
    assert given not in ended.stderr
    assert cluster.workers() == {}


@pytest.mark.parametrize("kind", ["of another cluster", "of the wrong kind"])
def test_a_client_with_a_token_that_is_not_a_clients_is_refused(cluster: ProcessCluster, kind: str) -> None:
    stranger = tokens.generate().require_client()
    given = stranger if kind == "of another cluster" else cluster.tokens.require_worker()
    asked = ["jobs", "--master", cluster.address]
    ended = run(cluster, of_this_version("cli.main"), *asked, MINIREDUCE_TOKEN=given)
    assert_refused(ended, "token")
    assert given not in ended.stderr
