from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minireduce import config
from minireduce.core import spec
from minireduce.errors import RequestError


def load(flags=None, *, files=(), environment=None, config_file=None):
    return config.load(flags, files=tuple(files), environment=environment or {}, config_file=config_file)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_every_value_is_its_default():
    loaded = load()
    assert loaded.settings == config.Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins.keys() == config.SETTINGS.keys()


def test_a_later_source_wins_and_the_origin_tells_which(tmp_path):
    system = write(
        tmp_path / "etc.toml", "replication = 4\nlosses_max = 11\nattempts_max = 5\nslots = 2\nreplicas_min = 1"
    )
    home = write(tmp_path / "home.toml", "replication = 5\nlosses_max = 12\nattempts_max = 6\nslots = 3")
    named = write(tmp_path / "named.toml", "replication = 6\nlosses_max = 13\nattempts_max = 7")
    environment = {"MINIREDUCE_REPLICATION": "7", "MINIREDUCE_LOSSES_MAX": "14", "PATH": "/bin"}
    loaded = load({"replication": 8}, files=(system, home), config_file=named, environment=environment)
    found = {
        name: (getattr(loaded.settings, name), loaded.origins[name])
        for name in ("replication", "losses_max", "attempts_max", "slots", "replicas_min", "block_size")
    }
    assert found == {
        "replication": (8, "--replication"),
        "losses_max": (14, "MINIREDUCE_LOSSES_MAX"),
        "attempts_max": (7, str(named)),
        "slots": (3, str(home)),
        "replicas_min": (1, str(system)),
        "block_size": (64 << 20, "default"),
    }


def test_a_flag_that_was_not_given_hides_nothing():
    assert load({"slots": None}, environment={"MINIREDUCE_SLOTS": "3"}).settings.slots == 3


def test_the_files_are_those_of_the_system_the_user_and_the_directory(tmp_path):
    assert config.default_files(tmp_path / "home", tmp_path / "here") == (
        Path("/etc/minireduce.toml"),
        tmp_path / "home/.config/minireduce/config.toml",
        tmp_path / "here/minireduce.toml",
    )


def test_a_missing_file_is_passed_over_unless_it_was_named(tmp_path):
    assert load(files=[tmp_path / "absent.toml"]).settings == config.Settings()
    with pytest.raises(RequestError, match=r"absent\.toml does not exist"):
        load(config_file=tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "sources",
    [
        {"flags": {"blok_size": 1}},
        {"environment": {"MINIREDUCE_BLOK_SIZE": "1"}},
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(sources):
    with pytest.raises(RequestError, match="no setting 'blok_size'") as refusal:
        load(**sources)
    assert refusal.value.hint == "the nearest is block_size"


def test_an_unknown_key_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path / "minireduce.toml", "[worker]\nslots = 3")
    with pytest.raises(RequestError, match=rf"no setting 'worker' \(from {path}\)"):
        load(files=[path])


def test_variables_with_another_meaning_are_no_settings():
    assert load(environment=dict.fromkeys(config.OTHER_VARIABLES, "x")).settings == config.Settings()


@pytest.mark.parametrize(
    ("name", "written", "wanted"),
    [
        ("attempts_max", 0, "at least 1"),
        ("merge_ahead", "perhaps", "on or off"),
        ("merge_ahead", 1, "on or off"),
        ("attempts_max", True, "whole number"),
        ("attempts_max", "four", "whole number"),
        ("attempts_max", 2.5, "whole number"),
        ("task_timeout_s", 0, "seconds above 0"),
        ("task_timeout_s", "nan", "seconds above 0"),
        ("task_timeout_s", "inf", "seconds above 0"),
        ("task_timeout_s", False, "seconds above 0"),
        ("task_timeout_s", [], "seconds above 0"),
        ("memory_fraction", 1.01, "at most 1"),
        ("block_size", "64 mb", "such as 67108864, 64MiB"),
        ("block_size", "64 M", "such as"),
        ("block_size", "0", "such as"),
        ("block_size", "-1KiB", "such as"),
        ("block_size", "MiB", "such as"),
        ("block_size", "", "such as"),
        ("block_size", 1.5, "such as"),
        ("task_user", " ", "not empty"),
        ("priority", 1001, "from -1000 to 1000"),
        ("priority", "9" * 30, "from -1000 to 1000"),
        ("task_user", 65534, "not empty"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_is_wanted(name, written, wanted):
    with pytest.raises(RequestError, match=f"{name} cannot be") as refusal:
        load({name: written})
    assert wanted in refusal.value.hint
    assert "--" in refusal.value.message


@pytest.mark.parametrize("content", [b"slots = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_refused_by_name(content, tmp_path):
    path = tmp_path / "minireduce.toml"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"minireduce\.toml is no"):
        load(files=[path])


def test_a_directory_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        load(files=[tmp_path])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (1, 1),
        ("7", 7),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("2B", 2),
        ("512MB", 512_000_000),
        ("1TiB", 1 << 40),
    ],
)
def test_a_size_is_bytes_or_a_number_with_its_unit(written, meant):
    assert config.size_bytes(written) == meant


@given(st.integers(min_value=1, max_value=1 << 62))
def test_a_size_that_is_shown_reads_back_as_itself(size):
    assert config.size_bytes(config.show(size, config.size_bytes)) == size


def test_paths_may_begin_with_the_home_directory():
    assert load({"token_file": "~/secret"}).settings.token_file == Path.home() / "secret"


def test_importing_settings_reads_no_file_and_loads_no_parser():
    code = "import sys, minireduce.config; sys.exit('tomllib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_each_table_of_queues_is_a_queue_beside_the_one_that_is_always_there(tmp_path):
    path = tmp_path / "minireduce.toml"
    path.write_text("[queues.night]\nweight = 2\nslots_max = 20\n[queues.day]\n", encoding="utf-8")
    queues = config.load(files=(path,), environment={}).settings.queues
    assert str(queues) == "default (weight 1), night (weight 2, slots_max 20), day (weight 1)"


@pytest.mark.parametrize("text", ["queues = 'night'", "[queues]\nnight = 3", "[queues.night]\nslots = 3"])
def test_what_is_no_table_of_a_queue_is_refused(tmp_path, text):
    path = tmp_path / "minireduce.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match="queues cannot be"):
        config.load(files=(path,), environment={})


def test_a_flag_is_named_as_it_is_typed_without_the_unit_of_its_setting():
    with pytest.raises(RequestError, match=r"from --time-limit\)"):
        load({"time_limit_s": -1})


def test_a_priority_that_is_taken_here_is_one_that_masters_take():
    assert config.PRIORITY_MAX == spec.PRIORITY_MAX


@pytest.mark.parametrize(("written", "meant"), [("on", True), ("off", False), (True, True), (False, False)])
def test_a_switch_is_on_or_off(written, meant):
    assert config.load(flags={"merge_ahead": written}, files=(), environment={}).settings.merge_ahead is meant
