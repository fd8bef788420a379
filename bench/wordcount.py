"""Word count of real text, whole commands from a cold start, beside PySpark's RDDs and Hadoop's local runner.

Everyone gets two slots, the same file and a combiner. The sorted lines of every output must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Contender, run_in_turn, table
from text_input import make_text

HERE = Path(__file__).resolve().parent
SLOTS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    text = work / f"text-{options.megabytes}.txt"
    make_text(text, options.megabytes << 20)
    contenders = [c for c in _contenders(work, text) if not options.only or c.name in options.only]
    run_in_turn(contenders, options.rounds, work / "log")
    print(f"\n{options.megabytes} MiB, {SLOTS} slots, {options.rounds} rounds, {os.cpu_count()} cores\n")
    print(table(contenders, base=next((c.name for c in contenders if c.name == "minireduce"), contenders[0].name)))


def _contenders(work: Path, text: Path) -> list[Contender]:
    expected: list[str] = []

    def contender(name: str, command: list[str], env: dict[str, str] | None = None) -> Contender:
        output = work / name.replace(" ", "-")

        def check() -> None:
            digest = _digest(output)
            expected.append(digest)
            if digest != expected[0]:
                sys.exit(f"the output of {name} differs from the first one's")

        return Contender(
            name,
            [argument.replace("OUTPUT", str(output)) for argument in command],
            lambda: shutil.rmtree(output, ignore_errors=True),
            check,
            env,
        )

    submit = [str(Path(sys.executable).with_name("minireduce")), "submit", str(HERE.parent / "jobs" / "wordcount.py")]
    rows = [
        Contender("python -c pass", [sys.executable, "-c", "pass"]),
        contender("minireduce", [*submit, str(text), "-o", "OUTPUT", "--slots", str(SLOTS), "--reducers", "2", "-q"]),
    ]
    try:
        import pyspark
    except ImportError:
        print("SKIPPED: PySpark and Hadoop, since pyspark is not installed")
        return rows
    jars = Path(pyspark.__file__).parent / "jars"
    if shutil.which("java") is None or shutil.which("javac") is None:
        print("SKIPPED: PySpark and Hadoop, since there is no JDK")
        return rows
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    spark = [sys.executable, str(HERE / "peers" / "pyspark_rdd.py"), "wordcount", str(text), "OUTPUT", str(SLOTS)]
    rows.append(contender("PySpark RDD", spark, env))
    rows.append(contender("Hadoop local", [*_hadoop(work, jars), str(text), "OUTPUT", str(SLOTS)]))
    return rows


def _hadoop(work: Path, jars: Path) -> list[str]:
    classes = work / "classes"
    path = f"{classes}{os.pathsep}{jars}/*"
    subprocess.run(["javac", "-cp", path, "-d", str(classes), str(HERE / "peers" / "WordCount.java")], check=True)
    return ["java", "-Xmx2g", "-cp", path, "WordCount"]


def _digest(output: Path) -> str:
    lines: list[bytes] = []
    for part in sorted(output.rglob("part-*")):
        lines.extend(part.read_bytes().splitlines())
    lines.sort()
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


if __name__ == "__main__":
    main()
