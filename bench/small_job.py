"""`minireduce submit` of a 1 KB file on an embedded cluster, whole command, beside `python -c pass`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import Contender, run_in_turn, table

JOB = Path(__file__).resolve().parent.parent / "jobs" / "wordcount.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "kilobyte.txt")
        text.write_bytes((b"the quick brown fox jumps over the lazy dog\n" * 24)[:1024])
        minireduce = str(Path(sys.executable).with_name("minireduce"))
        contenders = [
            Contender("python -c pass", [sys.executable, "-c", "pass"]),
            Contender("minireduce submit", [minireduce, "submit", str(JOB), str(text), "-q"]),
            Contender("minireduce submit --inline", [minireduce, "submit", str(JOB), str(text), "-q", "--inline"]),
            Contender("minireduce --help", [minireduce, "--help"]),
        ]
        run_in_turn(contenders, options.rounds, Path(folder, "log"))
        print(table(contenders, base="minireduce submit"))


if __name__ == "__main__":
    main()
