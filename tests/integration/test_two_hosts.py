"""Two hosts: a master on one, a worker on the other that joined by one line, and everything between them encrypted."""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes.cluster import holds
from scenes.hosts import Cable, Host, two_hosts, why_not

from minireduce.auth.certificates import create_authority

LACKS = why_not()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(LACKS), reason=f"SKIPPED, NOT SHOWN: two hosts. {LACKS}")]

MINIREDUCE = [sys.executable, "-P", "-m", "minireduce.cli"]
MASTER = [sys.executable, "-P", "-m", "minireduce.launch.master_main"]
WORKER = [sys.executable, "-P", "-m", "minireduce.launch.worker_main"]
WORDCOUNT = str(Path(__file__).parents[2] / "jobs" / "wordcount.py")
SECRET_WORD = "xylophone-quagmire"
PORT = 7070
SPEAK_IN_THE_CLEAR = (
    "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'in the clear', (sys.argv[1], 9))"
)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    """A master and a worker on the first host; a worker on the second, which knew nothing but the join line."""
    root = tmp_path_factory.mktemp("hosts")
    # Tasks run as root here, since other accounts cannot look into a test's directory.
    with two_hosts(root, {"MINIREDUCE_TASK_USER": "root"}) as (near, far):
        placed = ["--data-dir", str(root / "master"), "--host", "0.0.0.0", "--advertise", near.address]
        near.start(*MASTER, *placed, "--http-port", "0", says=f"listens on {address(near)}")
        line = minireduce(near, "token", "--join").strip()
        assert "\n" not in line
        near.start(*WORKER, address(near), "--data-dir", str(root / "near"), says=f"serves {near.address}:")
        far.start(*WORKER, "--join", line, "--data-dir", str(root / "far"), says=f"serves {far.address}:")
        yield near, far


def address(near: Host) -> str:
    return f"{near.address}:{PORT}"


def minireduce(near: Host, *arguments: str) -> str:
    """What a command prints on the master's host."""
    ran = near.run(*MINIREDUCE, *arguments, "--master", address(near))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def text_in(tmp_path: Path) -> tuple[Path, Counter[str]]:
    words = [f"word{number % 97}" for number in range(5000)] + [SECRET_WORD] * 3
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{first} {second}\n" for first, second in itertools.pairwise(words)))
    return path, Counter(path.read_text().split())


def counted(output: Path) -> dict[str, int]:
    lines = "".join(part.read_text() for part in sorted(output.glob("part-*"))).splitlines()
    return {word: int(count) for word, count in (line.split("\t") for line in lines)}


def test_a_joined_worker_holds_the_authority_and_its_own_token_only(hosts):
    near, far = hosts
    config = Path(".config", "minireduce")
    client, worker = (near.home / config / "token").read_text().split()
    assert (far.home / config / "token").read_text().split() == [worker]
    assert (far.home / config / "token").stat().st_mode & 0o777 == 0o600
    assert (far.home / config / "token.ca.pem").read_bytes() == (near.home / config / "token.ca.pem").read_bytes()
    refused = far.run(*MINIREDUCE, "jobs", "--master", address(near))
    assert refused.returncode == 4
    assert "no client token" in refused.stderr
    assert client not in refused.stderr


def test_a_job_runs_on_both_hosts_and_its_output_is_published(hosts, tmp_path):
    near, _far = hosts
    path, expected = text_in(tmp_path)
    asked = ["submit", WORDCOUNT, str(path), "-o", str(tmp_path / "out"), "--reducers", "4"]
    minireduce(near, *asked)
    assert counted(tmp_path / "out") == expected
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_a_file_goes_to_both_hosts_and_a_job_reads_it_there(hosts, tmp_path):
    near, far = hosts
    path, expected = text_in(tmp_path)
    with Cable(near) as heard:
        near.run(sys.executable, "-c", SPEAK_IN_THE_CLEAR, far.address)
        minireduce(near, "fs", "put", str(path), "mr:///in/words.txt")
        assert minireduce(near, "fs", "cat", "mr:///in/words.txt") == path.read_text()
        minireduce(near, "submit", WORDCOUNT, "mr:///in/words.txt", "-o", str(tmp_path / "out"), "--reducers", "4")
    assert counted(tmp_path / "out") == expected
    for root in (hosts[0].home.parent / "near", hosts[0].home.parent / "far"):
        stored = [file.read_bytes() for file in root.glob("blocks/*/*.data")]
        assert stored == [path.read_bytes()], f"{root} holds no replica"
    assert heard.bytes_total > path.stat().st_size, "nothing went over the cable, so nothing was shown"
    assert heard.has(b"in the clear"), "what is not encrypted is not heard, so nothing was shown"
    assert not heard.has(SECRET_WORD.encode())
    assert not heard.has(b"Bearer")


def test_a_damaged_replica_is_read_from_the_other_host_and_replaced_over_tls(hosts, tmp_path):
    near, _far = hosts
    data = random.Random(3).randbytes(300_000)
    (tmp_path / "data.bin").write_bytes(data)
    minireduce(near, "fs", "put", str(tmp_path / "data.bin"), "mr:///tls/data.bin")
    (described,) = json.loads(minireduce(near, "fs", "stat", "--json", "mr:///tls/data.bin"))
    first = described["blocks"][0]["workers"][0]  # whom every reader asks first
    (serves,) = [
        row["data_address"]
        for row in json.loads(minireduce(near, "cluster", "workers", "--json"))
        if row["worker"] == first
    ]
    root = near.home.parent / ("near" if serves.startswith(f"{near.address}:") else "far")
    (stored,) = [file for file in root.glob("blocks/*/*.data") if file.read_bytes() == data]
    with stored.open("r+b") as file:
        file.seek(70_000)
        file.write(bytes([data[70_000] ^ 1]))
    minireduce(near, "fs", "get", "mr:///tls/data.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    deadline = time.monotonic() + 30
    while not holds(stored, data):
        told = near.run(*MINIREDUCE, "fs", "fsck", "mr:///tls", "--repair", "--master", address(near))
        assert time.monotonic() < deadline, told.stdout
    told = minireduce(near, "fs", "fsck", "mr:///tls")
    assert "damaged" not in told
    assert "Status: HEALTHY" in told


def test_another_authority_in_the_join_line_keeps_a_worker_out(hosts, tmp_path):
    near, far = hosts
    version, at, fingerprint, token = minireduce(near, "token", "--join").strip().split(",")
    forged = ",".join((version, at, fingerprint[::-1], token))
    ended = far.run(
        *WORKER, "--join", forged, "--data-dir", str(tmp_path / "data"), "--token-file", str(tmp_path / "token")
    )
    assert ended.returncode == 4
    assert "is not the master of this join line" in ended.stderr
    assert "hint: " in ended.stderr
    assert token not in ended.stderr
    assert not (tmp_path / "token").exists()


def test_who_trusts_another_authority_reaches_nobody(hosts, tmp_path):
    near, far = hosts
    kept = near.home / ".config" / "minireduce" / "token"
    mine = tmp_path / "token"
    mine.write_bytes(kept.read_bytes())
    mine.chmod(0o600)
    asked = [*MINIREDUCE, "jobs", "--master", address(near), "--token-file", str(mine)]
    without = near.run(*asked)
    assert without.returncode == 4
    assert "the authority's certificate is needed" in without.stderr
    mine.with_name("token.ca.pem").write_bytes(create_authority(0.0).certificate_pem)
    placed = ["--data-dir", str(tmp_path / "data"), "--token-file", str(mine)]
    for wrong in (near.run(*asked), far.run(*WORKER, address(near), *placed)):
        assert wrong.returncode == 4
        assert "is not the master of this cluster" in wrong.stderr
        assert "hint: " in wrong.stderr


def test_a_client_that_shares_no_files_with_any_worker_submits_its_own(hosts, tmp_path):
    near, _far = hosts
    path, expected = text_in(tmp_path)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    script = 'mount -t tmpfs none "$1" && cp "$2" "$1/in.txt" && shift 2 && exec "$@"'
    submit = ["submit", WORDCOUNT, str(hidden / "in.txt"), "-o", str(tmp_path / "out"), "--master", address(near)]
    ran = near.run("unshare", "--mount", "sh", "-c", script, "sh", str(hidden), str(path), *MINIREDUCE, *submit)
    assert ran.returncode == 0, ran.stderr
    assert "uploaded input" in ran.stderr
    assert not list(hidden.iterdir()), "workers could have seen it"
    assert counted(tmp_path / "out") == expected
    assert minireduce(near, "fs", "ls", "/.staging") == ""
