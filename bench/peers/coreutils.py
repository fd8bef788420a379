"""GNU coreutils, awk and grep in a pipe: C locale, two sorting threads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from common import NEEDLE, files_of, run


def shell(command: str) -> None:
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, env={**os.environ, "LC_ALL": "C"})


def joined(source: Path) -> str:
    return " ".join(f"'{path}'" for path in files_of(source))


def wordcount(source: Path, output: Path, slots: int) -> None:
    shell(
        rf"cat {joined(source)} | tr -s '[:space:]' '\n' | grep -v '^$' | sort --parallel={slots} -S 1G | uniq -c "
        rf"| sed -E 's/^ *([0-9]+) (.*)$/\2\t\1/' > '{output}/part-00000'"
    )


def grep(source: Path, output: Path, slots: int) -> None:
    shell(f"grep -h -F '{NEEDLE}' {joined(source)} > '{output}/part-00000' || test $? -eq 1")


def group_by(source: Path, output: Path, slots: int) -> None:
    awk = r"""awk '{sum[$1] += $2} END {for (key in sum) printf "%s\t%d\n", key, sum[key]}'"""
    shell(f"cat {joined(source)} | {awk} | sort --parallel={slots} > '{output}/part-00000'")


def terasort(source: Path, output: Path, slots: int) -> None:
    shell(f"sort --parallel={slots} -S 2G {joined(source)} > '{output}/part-00000'")


def join(source: Path, output: Path, slots: int) -> None:
    sorted_by_key = f"sort --parallel={slots} -S 512M -k1,1"
    shell(
        rf"join -o '1.2 2.2' <({sorted_by_key} '{source}/users.txt') <({sorted_by_key} '{source}/orders.txt') "
        rf"| tr ' ' '\t' > '{output}/part-00000'"
    )


if __name__ == "__main__":
    run({body.__name__: body for body in (wordcount, grep, group_by, terasort, join)})
