"""The verbs of `minireduce fs` against a real cluster: what they print, and their exit status."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import re

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.errors import RequestError

SETTINGS = {"MINIREDUCE_REPAIR_DELAY_S": "1", "MINIREDUCE_WORKER_LOST_S": "2", "MINIREDUCE_BLOCK_SIZE": "1MiB"}
DATA = random.Random(8).randbytes((2 << 20) + 77)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("verbs"), workers=3, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def files(cluster):
    with cluster.connect() as connection:
        system = FileSystem(connection)
        for entry in system.ls("/"):
            system.rm(entry.path, recursive=True, skip_trash=True)
        yield system


@pytest.fixture
def fs(cluster):
    def run(*arguments, stdin=None, status=0):
        process = cluster.command("fs", *arguments)
        out, err = process.communicate(stdin, timeout=60)
        assert process.returncode == status, err.decode()
        return out

    return run


def test_listings_look_as_users_of_hadoop_know_them(files, fs):
    files.put_stream(io.BytesIO(DATA), "/d/a")
    files.put_stream(io.BytesIO(b""), "/d/b", replication=1)
    files.change("/d/b", owner="ada", mode=0o640)
    lines = fs("ls", "/d").decode().splitlines()
    assert re.fullmatch(rf"-rw-r--r-- 3 \S+ +{len(DATA)} \d{{4}}-\d\d-\d\d \d\d:\d\d /d/a", lines[0])
    assert re.fullmatch(r"-rw-r----- 1 ada +0 \d{4}-\d\d-\d\d \d\d:\d\d /d/b", lines[1])
    assert fs("ls", "-h", "/d/a").split()[3:5] == [b"2.0", b"MiB"]
    assert fs("ls", "-d", "/d").decode().startswith("drwxr-xr-x - ")
    fs("chmod", "-R", "700", "/d")
    fs("chown", "eve", "/d/a")
    assert [(each.owner, each.mode) for each in files.ls("/d")] == [("eve", 0o700), ("ada", 0o700)]


def test_listings_come_in_the_order_that_is_asked_for(files, fs):
    for number, name in enumerate(("b", "a", "c"), 1):
        files.put_stream(io.BytesIO(bytes(10 * (number % 3))), f"/d/{name}")

    def names(*flags):
        return "".join(line[-1] for line in fs("ls", "-C", *flags, "/d").decode().splitlines())

    latest = "".join(each.path[-1] for each in sorted(files.ls("/d"), key=lambda each: -each.modified_at))
    assert (names(), names("-r"), names("-S"), names("-S", "-r")) == ("abc", "cba", "abc", "cba")
    assert (names("-t"), names("-t", "-S"), names("-tr")) == (latest, latest, latest[::-1])


def test_what_users_of_hadoop_type_is_understood_or_answered(cluster, files, fs):
    fs("touchz", "/e")
    fs("touchz", "/e")
    files.put_stream(io.BytesIO(b"x"), "/f")
    fs("touchz", "/f", status=2)
    assert files.stat("/f").length == 1
    fs("rm", "-skipTrash", "/f")
    assert not files.exists("/.Trash")
    said = cluster.command("fs", "appendToFile", "a", "/b").communicate(timeout=60)[1].decode()
    assert "it is `minireduce fs append`" in said


def test_pieces_of_files(files, fs):
    files.put_stream(io.BytesIO(DATA), "/f")
    files.put_stream(io.BytesIO(gzip.compress(b"plain\n")), "/z.gz")
    assert fs("head", "/f") == DATA[:1024]
    assert fs("tail", "-c", "5", "/f") == DATA[-5:]
    assert fs("text", "/z.gz") == b"plain\n"
    assert fs("get", "/f", "-") == DATA
    fs("put", "-", "/in", stdin=b"from a pipe")
    assert fs("cat", "/in") == b"from a pipe"
    fs("put", "-", "/no/", stdin=b"x", status=2)
    assert not files.exists("/no")


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_compressed_file_that_is_damaged_or_none_is_told_by_name(cluster, files, suffix, pack):
    packed = pack(DATA[:1000])
    for name, data in (("cut", packed[:-20]), ("none", b"plain text")):
        files.put_stream(io.BytesIO(data), f"/{name}.{suffix}")
        command = cluster.command("fs", "text", f"/{name}.{suffix}")
        said = command.communicate(timeout=60)[1].decode()
        assert said.startswith(f"error: /{name}.{suffix} cannot be unpacked: ")
        assert command.returncode == 1


def test_sizes_and_questions(files, fs):
    files.put_stream(io.BytesIO(b"12345"), "/d/e/f", replication=2)
    files.put_stream(io.BytesIO(b""), "/d/empty")
    assert [line.split() for line in fs("du", "/d").decode().splitlines()] == [
        ["5", "10", "/d/e"],
        ["0", "0", "/d/empty"],
    ]
    assert [(each.path, each.bytes, each.replica_bytes) for each in files.du("/d")] == [
        ("/d/e", 5, 10),
        ("/d/empty", 0, 0),
    ]
    assert [each.path for each in files.du("/d/e/f")] == ["/d/e/f"]
    assert fs("du", "-s", "/d").decode().split() == ["5", "10", "/d"]
    assert fs("count", "/d").decode().split() == ["2", "2", "5", "/d"]
    assert json.loads(fs("df", "--json"))["size"] > 0
    for flag, path, status in (
        ("-e", "/d", 0),
        ("-e", "/x", 1),
        ("-d", "/d", 0),
        ("-d", "/d/empty", 1),
        ("-f", "/d/empty", 0),
        ("-s", "/d/e/f", 0),
        ("-s", "/d/empty", 1),
        ("-z", "/d/empty", 0),
    ):
        fs("test", flag, path, status=status)


def test_copies_and_checksums(files, fs, tmp_path):
    files.put_stream(io.BytesIO(DATA), "/d/a", block_size=1 << 19)
    files.put_stream(io.BytesIO(b"b\n"), "/d/sub/b")
    fs("touch", "/d/_SUCCESS")
    fs("cp", "/d", "/copy")
    (one, other) = (fs("checksum", path).split()[1:] for path in ("/d/a", "/copy/a"))
    assert one == other
    assert files.stat("/copy/a").block_size_bytes == 1 << 19
    assert fs("cat", "/copy/sub/b") == b"b\n"
    fs("cp", "/d/a", "/copy", status=2)
    fs("cp", "-f", "/d/sub/b", "/copy/a")
    files.put_stream(io.BytesIO(b"c"), "/m/part-00001")
    files.put_stream(io.BytesIO(b"d"), "/m/part-00000")
    fs("touch", "/m/_SUCCESS")
    fs("getmerge", "-n", "/m", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"d\nc\n"


def test_the_number_of_replicas_changes_on_live_files(files, fs):
    files.put_stream(io.BytesIO(DATA), "/d/f", replication=1)
    fs("setrep", "-w", "3", "/d")
    assert [len(block.source.workers) for block in files.blocks("/d/f").blocks] == [3, 3, 3]
    fs("setrep", "-w", "1", "/d/f")
    assert [len(block.source.workers) for block in files.blocks("/d/f").blocks] == [1, 1, 1]
    assert fs("cat", "/d/f") == DATA


def test_waiting_for_more_replicas_than_live_workers_ends_and_says_so(cluster, files):
    files.put_stream(io.BytesIO(DATA), "/d/f", replication=1)
    files.put_stream(io.BytesIO(b""), "/d/empty")
    _, err = cluster.command("fs", "setrep", "-w", "5", "/d").communicate(timeout=60)
    said = [line for line in err.decode().splitlines() if "live worker" in line]
    assert said == [
        "/d/f: 3 of 5 replicas are there, one on each live worker; the others are made when more workers start"
    ]


def test_a_command_says_what_it_waits_for_and_goes_on_when_it_is_there(tmp_path):
    with ProcessCluster(tmp_path, workers=0) as cluster:
        command = cluster.command("fs", "put", "-", "/f")
        command.stdin.write(b"x")
        command.stdin.close()
        assert command.stderr.readline().startswith(b"waiting: no worker is live that could hold a block of /f (start")
        cluster.start_worker("w1")
        assert command.wait(60) == 0
        assert command.stderr.readline().startswith(b"stored 1 B")


def test_what_was_removed_can_be_brought_back_until_the_trash_is_emptied(files, fs):
    files.put_stream(io.BytesIO(b"kept"), "/d/f")
    ((path, trash_path),) = (
        (each["path"], each["trash_path"]) for each in json.loads(fs("rm", "-r", "--json", "/d"))["paths"]
    )
    assert (path, files.exists("/d")) == ("/d", False)
    assert fs("ls", "/") == b""
    fs("mv", trash_path, "/d")
    assert fs("cat", "/d/f") == b"kept"
    fs("rm", "/d/f")
    fs("expunge")
    assert not files.exists("/.Trash")
    fs("rm", "-r", "--skip-trash", "/d")
    assert not files.exists("/.Trash")


def test_fsck_explains_and_names_what_cannot_be_read(cluster, files, fs):
    files.put_stream(io.BytesIO(DATA), "/ok", replication=2)
    files.put_stream(io.BytesIO(b"x"), "/many", replication=5)
    out = fs("fsck").decode()
    assert "/many: block 0" in out
    assert "start more workers" in out
    assert "/ok" not in out
    assert out.endswith("Status: HEALTHY\n")
    assert "/ok: block 2" in fs("fsck", "--blocks", "/ok").decode()
    assert json.loads(fs("fsck", "--json", "--repair", "/many"))["repairing"] == 1


def test_quotas_are_set_kept_to_and_shown(files, fs):
    files.mkdir("/q")
    fs("setquota", "--names", "2", "--space", "5MiB", "/q")
    files.put_stream(io.BytesIO(DATA), "/q/a", replication=1)
    columns = fs("count", "-q", "/q").split()
    space = 5 << 20
    assert [int(each) for each in columns[:-1]] == [2, 0, space, space - len(DATA), 1, 1, len(DATA)]
    with pytest.raises(RequestError, match="/q may hold 2 names and holds 2: no room for 1 more"):
        files.put_stream(io.BytesIO(b"x"), "/q/b")
    fs("setquota", "--names", "none", "/q")
    with pytest.raises(RequestError, match="no room for"):
        files.put_stream(io.BytesIO(DATA), "/q/b", replication=2)
    assert [entry.path for entry in files.ls("/q")] == ["/q/a"]
    assert fs("count", "-q", "/q").split()[:2] == [b"none", b"inf"]
    fs("setquota", "/q", status=2)
    fs("setquota", "--names", "many", "/q", status=2)
