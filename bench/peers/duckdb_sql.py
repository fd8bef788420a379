"""DuckDB: lines as a table of one column, words by splitting at white space."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
from common import NEEDLE, files_of, run, write_pairs

# A separator and a quote that no line has, so that every line is one value.
LINES = (
    r"read_csv([{files}], columns={{'line': 'VARCHAR'}}, header=false, delim='\x01', quote='', escape='', "
    r"auto_detect=false, filename={names})"
)


def connect(slots: int) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": slots})


def lines(source: Path, *, names: bool = False) -> str:
    files = ", ".join(f"'{path}'" for path in files_of(source))
    return LINES.format(files=files, names="true" if names else "false").replace(r"\x01", "\x01")


def words(column: str) -> str:
    return rf"unnest(regexp_extract_all({column}, '\S+'))"


def copy(connection: duckdb.DuckDBPyConnection, query: str, output: Path) -> None:
    connection.execute(
        f"COPY ({query}) TO '{output}/part-00000' (FORMAT csv, DELIMITER '\t', QUOTE '', ESCAPE '', HEADER false)"
    )


def wordcount(source: Path, output: Path, slots: int) -> None:
    query = (
        f"SELECT word, count(*) FROM (SELECT {words('line')} AS word FROM {lines(source)}) GROUP BY word ORDER BY word"
    )
    copy(connect(slots), query, output)


def grep(source: Path, output: Path, slots: int) -> None:
    copy(connect(slots), f"SELECT line FROM {lines(source)} WHERE contains(line, '{NEEDLE}')", output)


def inverted_index(source: Path, output: Path, slots: int) -> None:
    query = (
        f"SELECT word, list_sort(list(DISTINCT parse_filename(filename))) FROM "
        f"(SELECT {words('line')} AS word, filename FROM {lines(source, names=True)}) GROUP BY word ORDER BY word"
    )
    found = connect(slots).execute(query).fetchall()
    write_pairs(output / "part-00000", ((word, json.dumps(names)) for word, names in found))


def group_by(source: Path, output: Path, slots: int) -> None:
    files = ", ".join(f"'{path}'" for path in files_of(source))
    table = (
        f"read_csv([{files}], columns={{'k': 'VARCHAR', 'n': 'BIGINT'}}, header=false, delim=' ', auto_detect=false)"
    )
    copy(connect(slots), f"SELECT k, sum(n)::BIGINT FROM {table} GROUP BY k ORDER BY k", output)


if __name__ == "__main__":
    run({"wordcount": wordcount, "grep": grep, "inverted_index": inverted_index, "group_by": group_by})
