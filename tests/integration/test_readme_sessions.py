"""What the README shows of the block store is what its commands print."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

from scenes.cluster import ProcessCluster

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [f"203.0.113.{number % 256} GET /page/{number:05} 200 {number * 37}\n" for number in range(6000)]


def sessions() -> list[tuple[list[str], str]]:
    """The commands of the second screen, each with what it is shown to print."""
    block = README.partition("Files live in the cluster's own block store")[2].partition("```\n")[2].partition("```")[0]
    shown = [part.partition("\n") for part in block.split("$ ")[1:]]
    return [(command.split(), output) for command, _, output in shown]


def likeness(text: str) -> str:
    """`text` without what differs from run to run: numbers, ids and who runs it."""
    text = re.sub(rf"\b({re.escape(getpass.getuser())}|root)\b", "USER", text)
    return re.sub(r"\d[\d,.:-]*", "N", re.sub(r"job-[0-9a-f]+-\d+", "JOB", text))


def test_the_sessions_of_the_second_screen_print_what_they_show(tmp_path):
    (tmp_path / "access.log").write_text("".join(LINES))
    places = {"access.log": str(tmp_path / "access.log"), "jobs/wordcount.py": str(ROOT / "jobs" / "wordcount.py")}
    played = []
    with ProcessCluster(tmp_path, workers=3) as cluster:
        for words, shown in sessions():
            typed, _, beyond = " ".join(words[1:]).partition(" | ")
            command = cluster.command(*(places.get(word, word) for word in typed.split()))
            output, said = command.communicate(timeout=120)
            assert command.returncode == 0, said
            printed = [*said.decode().splitlines(keepends=True), *output.decode().splitlines(keepends=True)]
            if beyond:
                assert beyond == "head -n 2"
                printed = printed[:2]
            assert likeness("".join(printed)) == likeness(shown)
            played.append(words[2] if words[1] == "fs" else words[1])
    assert played == ["put", "ls", "cat", "fsck", "submit"]
