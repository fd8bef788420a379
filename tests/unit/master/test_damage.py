"""A scripted history, its files cut or damaged at every place where SQLite writes.

What a crash can leave opens clean and holds every commit that was synced. What was synced and is damaged is never taken
for something else: it is told, or, where the damaged bytes mean nothing, all rows are there.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.errors import Corruption
from minireduce.master import store as stores
from minireduce.master.mirror import open_mirrored
from minireduce.master.store import FILE_NAME, Store, open_store
from minireduce.master.write_ahead_log import check_log

LOG_NAME = f"{FILE_NAME}-wal"
HEADER_BYTES, FRAME_BYTES, PAGE_BYTES = 32, 24 + 4096, 4096


def history():
    """Commits as a cluster makes them: small ones, one of many pages, one that only removes."""
    for number in range(1, 13):
        rows = [
            Row("inodes", (number * 100 + n,), (1, f"f{number}-{n}", "file", 1.5, n, 64, 3, "ada", 420, 0, 0))
            for n in range(120 if number == 5 else 3)
        ]
        rows += [Row("blocks", (number * 100 + n,), (n, 0, 1, 7, 1)) for n in range(2)]
        rows += [Row("winners", ("job-a-1", 0, "map", number % 3), (number, "w", {"": "x"}, ()))]
        if number == 9:
            rows = [Row("winners", ("job-a-1",), None), Row("inodes", (102,), None)]
        yield Persist(1, number, tuple(rows))


class Recorded:
    """The files after each commit of the history, as a copy of the disk would have them, and the rows then."""

    def __init__(self, directory: Path) -> None:
        self.files: list[tuple[bytes, bytes]] = []
        self.rows: list[list[Row]] = []
        store = open_store(directory / "written")
        self._record(store)
        for commit in history():
            store.write([commit])
            self._record(store)
        store.close()
        self.closed = (directory / "written" / FILE_NAME).read_bytes()
        self.name = (directory / "written" / stores.NAME_FILE).read_bytes()

    def _record(self, store: Store) -> None:
        log = store.directory / LOG_NAME
        self.files.append(((store.directory / FILE_NAME).read_bytes(), log.read_bytes() if log.exists() else b""))
        self.rows.append(list(store.load()))

    def lay(self, directory: Path, database: bytes, log: bytes = b"") -> Path:
        """A directory with these files."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        (directory / FILE_NAME).write_bytes(database)
        (directory / stores.NAME_FILE).write_bytes(self.name)
        if log:
            (directory / LOG_NAME).write_bytes(log)
        return directory


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return Recorded(tmp_path_factory.mktemp("history"))


def found(directory):
    """The mark and the rows that a start would find, without one. Raises Corruption."""
    held = stores.lock(directory)
    try:
        store = stores.examine(directory, held)
        try:
            store.verify()
            return store.txid, list(store.load())
        finally:
            store.let_go()
    finally:
        held.close()


def cuts(before, after):
    """Every length of the log at which a write ended, between two commits, and one within each write."""
    for begin in range(before, after, FRAME_BYTES):
        yield from (begin, begin + 24, begin + (11 if begin % 3 else 2000))


def test_a_log_that_a_crash_cut_off_at_any_write_opens_with_all_that_was_synced(recorded, tmp_path):
    tried = 0
    for number in range(1, len(recorded.files)):
        database, log = recorded.files[number]
        before = max(HEADER_BYTES, len(recorded.files[number - 1][1]))
        for length in cuts(before, len(log)):
            txid, rows = found(recorded.lay(tmp_path / "d", database, log[:length]))
            assert (txid, rows) == (number - 1, recorded.rows[number - 1]), (number, length)
            tried += 1
        assert found(recorded.lay(tmp_path / "d", database, log)) == (number, recorded.rows[number])
    assert tried > 100


def test_a_log_whose_last_transaction_reached_the_disk_in_part_opens_with_all_that_was_synced(recorded, tmp_path):
    for number in (3, 5, 9):
        database, log = recorded.files[number]
        before = len(recorded.files[number - 1][1])
        for begin in range(before, len(log), FRAME_BYTES):
            torn = log[:begin] + bytes(FRAME_BYTES) + log[begin + FRAME_BYTES :]
            found_now = found(recorded.lay(tmp_path / "d", database, torn))
            assert found_now == (number - 1, recorded.rows[number - 1]), (number, begin)


def test_a_crash_at_any_write_while_the_log_is_folded_in_loses_nothing(recorded, tmp_path):
    database, log = recorded.files[-1]
    pages = [
        n
        for n in range(0, len(recorded.closed), PAGE_BYTES)
        if database[n : n + PAGE_BYTES] != recorded.closed[n : n + PAGE_BYTES]
    ]
    assert len(pages) > 10
    now = bytearray(database.ljust(len(recorded.closed), b"\0"))
    for begin in pages:
        now[begin : begin + 2000] = recorded.closed[begin : begin + 2000]
        assert found(recorded.lay(tmp_path / "d", bytes(now), log)) == (12, recorded.rows[-1])
        now[begin : begin + PAGE_BYTES] = recorded.closed[begin : begin + PAGE_BYTES]
        assert found(recorded.lay(tmp_path / "d", bytes(now), log)) == (12, recorded.rows[-1])


def ends_of_transactions(log):
    return [begin for begin in range(HEADER_BYTES, len(log), FRAME_BYTES) if log[begin + 4 : begin + 8] != bytes(4)]


@pytest.mark.parametrize("at", [0, 5, 9, 18, 24, 1000, 4119])
def test_damage_to_a_synced_part_of_the_log_is_told_before_anything_is_changed(recorded, tmp_path, at):
    database, log = recorded.files[-1]
    last = ends_of_transactions(log)[-2]  # behind it only the last transaction, of which this file knows no more
    for begin in range(HEADER_BYTES, last + 1, FRAME_BYTES):
        bad = bytearray(log)
        bad[begin + at] ^= 0x10
        directory = recorded.lay(tmp_path / "d", database, bytes(bad))
        for _ in range(2):  # asking leaves everything as it is
            with pytest.raises(Corruption, match=r"is damaged behind its frame \d+, so commits that were synced"):
                found(directory)
        assert (directory / LOG_NAME).read_bytes() == bytes(bad)


def test_a_damaged_header_of_the_log_is_told(recorded, tmp_path):
    database, log = recorded.files[-1]
    for at in range(HEADER_BYTES):
        bad = bytearray(log)
        bad[at] ^= 0x01
        with pytest.raises(Corruption, match="header"):
            found(recorded.lay(tmp_path / "d", database, bytes(bad)))


def test_a_log_is_judged_as_sqlite_does(recorded, tmp_path):
    """Its checksums are computed here once more; were they wrong, each log above would be called damaged."""
    database, log = recorded.files[-1]
    check_log(recorded.lay(tmp_path / "d", database, log) / LOG_NAME)
    assert struct.unpack_from(">I", log)[0] & ~1 == 0x377F0682


def damaged_databases(recorded):
    """The file of a master that stopped, cut at each page, and with one bit changed in many places of each page."""
    whole = recorded.closed
    for length in range(0, len(whole), PAGE_BYTES):
        yield whole[:length]
        yield whole[: length + 100]
    for page in range(0, len(whole), PAGE_BYTES):
        for at in (0, 3, 5, 8, 11, 700, 3900, 4060, 4090):
            bad = bytearray(whole)
            bad[page + at] ^= 0x04
            yield bytes(bad)


def damage_of(directory, rows):
    """What a start says is wrong; None where it finds exactly these rows."""
    try:
        now = found(directory)
    except Corruption as error:
        return error
    assert now == (12, rows)
    return None


def test_a_damaged_database_is_told_or_holds_every_row(recorded, tmp_path):
    told = whole = 0
    for database in damaged_databases(recorded):
        directory = recorded.lay(tmp_path / "d", database)
        error = damage_of(directory, recorded.rows[-1])
        if error is None:
            whole += 1
        else:
            assert str(directory) in error.message
            assert "restore" in error.hint
            told += 1
    assert told > 100
    assert whole, "some bytes of a page mean nothing"


def test_whatever_happens_to_one_copy_the_mirror_mends_it(recorded, tmp_path):
    database, log = recorded.files[-1]
    last = ends_of_transactions(log)[-1]
    cases = [(database, log[:length]) for length in range(HEADER_BYTES, len(log), 23 * FRAME_BYTES)]
    cases += [(database, log[: last + 24] + b"\xff" + log[last + 25 :]), (b"", b"")]
    cases += [(damaged, b"") for damaged in list(damaged_databases(recorded))[::17]]
    for damaged, damaged_log in cases:
        for is_mirror in (False, True):
            good = recorded.lay(tmp_path / "good", recorded.closed)
            bad = recorded.lay(tmp_path / "bad", damaged, damaged_log)
            store = open_mirrored(good, bad) if is_mirror else open_mirrored(bad, good)
            assert [row for row in store.load() if row.table != "settings"] == [
                row for row in recorded.rows[-1] if row.table != "settings"
            ]
            assert (store.txid, store.epoch) == (12, 2)
            store.close()
            assert found(bad) == found(good)
