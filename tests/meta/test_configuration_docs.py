from __future__ import annotations

import re
from pathlib import Path

from minireduce import config

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def rows_under(heading):
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_page_lists_every_setting_with_its_default_and_no_other():
    declared = [f"| `{s.name}` | {s.default_text} | {s.meaning} |" for s in config.SETTINGS.values()]
    assert rows_under("Settings") == declared


def test_the_page_lists_every_other_variable():
    assert rows_under("Other variables") == [f"| `{name}` | {text} |" for name, text in config.OTHER_VARIABLES.items()]


def test_the_example_of_the_page_is_accepted(tmp_path):
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "minireduce.toml"
    path.write_text(example[1], encoding="utf-8")
    loaded = config.load(files=(path,), environment={})
    assert (loaded.settings.master, loaded.settings.block_size) == ("10.0.0.5:7070", 128 << 20)


def test_names_that_measure_something_end_in_the_unit():
    for setting in config.SETTINGS.values():
        if setting.kind is config._seconds:
            assert setting.name.endswith("_s"), setting.name
