from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from minireduce import failpoints
from minireduce.errors import RequestError

SITES = ("part.before_sync", "part.after_sync")


def armed(text, directory):
    return failpoints.parse(text, directory, sites=SITES)


PROGRAM = (
    "import pathlib, sys; from minireduce import failpoints\n"
    f"armed = failpoints.parse(sys.argv[1], pathlib.Path(sys.argv[2]), sites={SITES!r})\n"
    "armed['part.before_sync'].hit(); print('survived')"
)


def start_process(text, directory):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, text, str(directory)], stdout=subprocess.PIPE, text=True)


def run_process(text, directory):
    with start_process(text, directory) as process:
        output, _ = process.communicate(timeout=30)
    return process.returncode, output


def test_a_hit_does_nothing_when_nothing_is_armed():
    assert failpoints._armed == {}
    failpoints.hit("part.before_sync")


def test_error_and_full_raise_what_the_operating_system_would(tmp_path):
    points = armed("part.before_sync=error; part.after_sync=full", tmp_path)
    with pytest.raises(OSError, match="device failed") as failure:
        points["part.before_sync"].hit()
    assert failure.value.errno == errno.EIO
    with pytest.raises(OSError, match="disk is full") as failure:
        points["part.after_sync"].hit()
    assert failure.value.errno == errno.ENOSPC


def test_a_failpoint_strikes_at_its_hit_and_no_more_often_than_ordered(tmp_path):
    point = armed("part.before_sync=error@3*2", tmp_path)["part.before_sync"]
    outcomes = []
    for _ in range(6):
        try:
            point.hit()
        except OSError:
            outcomes.append("struck")
        else:
            outcomes.append("passed")
    assert outcomes == ["passed", "passed", "struck", "struck", "passed", "passed"]
    assert failpoints.strikes(tmp_path) == {"part.before_sync": 2}


def test_kill_ends_the_process_and_one_started_again_survives(tmp_path):
    assert run_process("part.before_sync=kill", tmp_path) == (-signal.SIGKILL, "")
    assert failpoints.strikes(tmp_path) == {"part.before_sync": 1}
    assert run_process("part.before_sync=kill", tmp_path) == (0, "survived\n")


def test_exit_ends_the_process_with_its_own_status(tmp_path):
    assert run_process("part.before_sync=exit", tmp_path) == (failpoints.EXIT_STATUS, "")


def test_pause_stops_the_process_until_it_is_continued(tmp_path):
    with start_process("part.before_sync=pause", tmp_path) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "survived\n")


@pytest.mark.parametrize("text", ["part.before_sync", "part.before_sync=melt", "part.before_sync=kill@0", "=kill"])
def test_an_order_that_is_not_understood_is_refused(text, tmp_path):
    with pytest.raises(RequestError, match="is not understood"):
        armed(text, tmp_path)


def test_a_misspelt_site_is_refused_and_the_known_ones_are_named(tmp_path):
    with pytest.raises(RequestError, match=r"part\.after_sync, part\.before_sync"):
        armed("part.befor_sync=kill", tmp_path)


def test_arming_without_a_directory_for_the_count_is_refused():
    with pytest.raises(RequestError, match="MINIREDUCE_FAILPOINTS_DIR"):
        failpoints._from_environment({"MINIREDUCE_FAILPOINTS": "part.before_sync=kill"})


def test_the_environment_is_read_when_the_process_starts(tmp_path):
    environment = {
        **os.environ,
        "MINIREDUCE_FAILPOINTS": "no.such_site=kill",
        "MINIREDUCE_FAILPOINTS_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", "import minireduce.failpoints"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "no failpoint is named 'no.such_site'" in done.stderr
