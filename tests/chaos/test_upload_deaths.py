"""What a client uploaded that is killed before it submits is collected by the master, after a restart too."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.core.storage.staged_paths import STAGING

WORDCOUNT = str(Path(__file__).parents[2] / "jobs" / "wordcount.py")
KILLED_BEFORE_SUBMITTING = """
import os, signal, sys
import minireduce.machine
from minireduce.cli.main import main
from minireduce.client import jobs

minireduce.machine.machine_id = lambda: "elsewhere"
jobs.submit = lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def cluster(tmp_path):
    with ProcessCluster(tmp_path, workers=2, settings={"MINIREDUCE_STAGING_KEEP_S": "1"}) as running:
        yield running


def test_what_a_killed_client_uploaded_is_kept_by_a_master_that_restarts_and_collected_by_it(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a b a\n")
    command = [sys.executable, "-c", KILLED_BEFORE_SUBMITTING, "submit", WORDCOUNT, str(tmp_path / "in.txt")]
    ran = subprocess.run([*command, "--master", cluster.address], env=cluster.environment, check=False)
    assert ran.returncode == -signal.SIGKILL
    with cluster.connect() as connection:
        files = FileSystem(connection)
        found = [entry for entry in files.walk(f"/{STAGING}") if not entry.is_directory]
        assert [entry.path.endswith(f"{tmp_path}/in.txt") for entry in found] == [True]
        assert [entry.replication for entry in found] == [2]
        cluster.kill("master")
        cluster.start_master()
        while files.ls(f"/{STAGING}"):  # a master looks when it starts, and then only once a minute
            cluster.kill("master")
            cluster.start_master()
