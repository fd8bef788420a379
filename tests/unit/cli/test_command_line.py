"""Flags, settings and mistakes that need no cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from minireduce.cli import wordcount
from minireduce.cli.main import COMMANDS, minireduce
from minireduce.config import SETTINGS

HEAVY = ("grpc", "numpy", "pyarrow", "sqlalchemy", "aiohttp", "rich", "google.protobuf", "asyncio")


def commands(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        found += commands(command, f"{path}{name} ") if isinstance(command, click.Group) else [(path + name, command)]
    return found


@pytest.mark.parametrize(("name", "command"), commands(minireduce))
def test_every_command_has_json_help_and_an_example(name: str, command: click.Command) -> None:
    assert command.epilog is not None
    assert command.epilog.startswith(f"Example:  minireduce {name}")
    assert command.help
    assert any("--json" in parameter.opts for parameter in command.params)
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


def test_the_listing_of_commands_says_of_each_what_it_says_of_itself() -> None:
    for name, (_, text) in COMMANDS.items():
        command = minireduce.get_command(click.Context(minireduce), name)
        assert command is not None
        assert text.endswith(".")
        assert command.name == name


@pytest.mark.parametrize("arguments", [["--help"], ["submit", "--help"], ["jobs", "--help"], ["nothing"]])
def test_help_and_mistakes_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from minireduce.cli.main import main\n"
        f"try: main({arguments!r})\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_demo_counts_with_the_job_that_people_copy() -> None:
    copied = Path(__file__).parents[3] / "jobs" / "wordcount.py"
    assert Path(wordcount.__file__).read_text() == copied.read_text()


def test_an_unknown_command_and_an_unknown_flag_are_usage_errors(run) -> None:
    assert run("frobnicate").status == 2
    ran = run("submit", "--skip-bad-recrods", "3")
    assert ran.status == 2
    assert ran.err.startswith("error: No such option")
    assert ran.err.endswith("hint: minireduce submit --help\n")


def test_settings_are_shown_with_their_origin(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIREDUCE_SPLIT_SIZE", "1MiB")
    (tmp_path / "minireduce.toml").write_text("attempts_max = 2\n")
    shown = run("config", "show", "--json", "--master", "node1:7070").json
    assert shown["split_size"] == {"value": 1 << 20, "origin": "MINIREDUCE_SPLIT_SIZE"}
    assert shown["attempts_max"]["origin"].endswith("minireduce.toml")
    assert shown["master"] == {"value": "node1:7070", "origin": "--master"}
    assert shown["replication"] == {"value": 3, "origin": "default"}
    assert set(shown) == set(SETTINGS)
    assert "MINIREDUCE_SPLIT_SIZE" in run("config", "show", "--origin").out


def test_an_unknown_setting_is_an_error_everywhere(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIREDUCE_SPLITSIZE", "1MiB")
    ran = run("config", "show")
    assert ran.status == 2
    assert "the nearest is split_size" in ran.err


def test_the_master_may_stand_before_the_verb_and_the_one_after_it_counts(run) -> None:
    before = run("--master", "node1:1", "config", "show", "--json").json
    after = run("--master", "node1:1", "config", "show", "--json", "--master", "node2:2").json
    assert (before["master"]["value"], after["master"]["value"]) == ("node1:1", "node2:2")


def test_a_command_that_needs_a_cluster_says_how_to_name_one(run) -> None:
    ran = run("jobs")
    assert ran.status == 2
    assert "MINIREDUCE_MASTER" in ran.err


def test_a_missing_token_is_refused_with_what_to_do(run) -> None:
    ran = run("jobs", "--master", "127.0.0.1:1")
    assert ran.status == 4
    assert "there is no token file" in ran.err


def test_the_join_line_holds_the_address_and_the_workers_token(run, tmp_path: Path) -> None:
    from minireduce.auth import tokens
    from minireduce.auth.joining import parse_join

    held = tokens.generate()
    tokens.store(tmp_path / "own" / "token", held)
    named = ("--token-file", tmp_path / "own" / "token", "--master", "127.0.0.1:7070")
    join = parse_join(run("token", "--join", *named).out)
    assert (join.address, join.worker_token) == ("127.0.0.1:7070", held.worker)
    assert run("token", *named).out.strip() == held.client
    assert run("token", "--join", "--token-file", tmp_path / "own" / "token").status == 2


def test_doctor_finds_this_machine_fit(run) -> None:
    ran = run("doctor", "--json")
    found = {each["what"]: each for each in json.loads(ran.out)}
    assert ran.status == 0, ran.out
    assert found["loopback"]["well"]
    assert found["cluster"]["found"].startswith("none is named")
