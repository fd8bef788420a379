"""DuckDB: lines as a table of one column, words by splitting at white space."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
from common import KEY_CHARACTERS, NEEDLE, ONE, ROUNDS, files_of, run, write_pairs

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


def terasort(source: Path, output: Path, slots: int) -> None:
    copy(connect(slots), f"SELECT line || chr(13) FROM {lines(source)} ORDER BY line[1:{KEY_CHARACTERS}]", output)


def pairs_of(path: Path, names: str) -> str:
    first, second = names.split()
    columns = f"{{'{first}': 'VARCHAR', '{second}': 'VARCHAR'}}"
    return f"read_csv('{path}', columns={columns}, header=false, delim=' ', auto_detect=false)"


def join(source: Path, output: Path, slots: int) -> None:
    users, orders = pairs_of(source / "users.txt", "k name"), pairs_of(source / "orders.txt", "k amount")
    copy(connect(slots), f"SELECT name, amount FROM {orders} JOIN {users} USING (k)", output)


def pagerank(source: Path, output: Path, slots: int) -> None:
    base = connect(slots)
    base.execute(f"CREATE TABLE edges AS SELECT * FROM {pairs_of(source, 'page target')}")
    base.execute("CREATE TABLE links AS SELECT page, target, count(*) OVER (PARTITION BY page) AS n FROM edges")
    base.execute(f"CREATE TABLE ranks AS SELECT DISTINCT page, {ONE}::BIGINT AS rank FROM edges")
    for _ in range(ROUNDS):
        base.execute(
            "CREATE TABLE new AS SELECT page, (150000000 + coalesce(sum(share), 0) * 85 // 100)::BIGINT AS rank FROM "
            "(SELECT target AS page, rank // n AS share FROM links JOIN ranks USING (page) "
            "UNION ALL SELECT page, 0 FROM ranks) GROUP BY page"
        )
        base.execute("DROP TABLE ranks")
        base.execute("ALTER TABLE new RENAME TO ranks")
    copy(base, "SELECT page, rank FROM ranks ORDER BY page", output)


if __name__ == "__main__":
    run({body.__name__: body for body in (wordcount, grep, inverted_index, group_by, terasort, join, pagerank)})
