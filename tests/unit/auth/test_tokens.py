from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from minireduce import config
from minireduce.auth import tokens
from minireduce.errors import Refused, RequestError


def configured(flags=None, environment=None):
    return config.load(flags, files=(), environment=environment or {})


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_first_master_makes_a_private_file_of_two_lines(tmp_path):
    path = tmp_path / "new" / "folder" / "token"
    made = tokens.load_or_create(path)
    assert path.read_text(encoding="ascii").split("\n") == [made.client, made.worker, ""]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_a_master_that_starts_again_uses_the_same_tokens(tmp_path):
    first = tokens.load_or_create(tmp_path / "token")
    assert tokens.load_or_create(tmp_path / "token") == first == tokens.load(tmp_path / "token")


def test_masters_that_start_at_once_agree_on_one_file(tmp_path):
    barrier = threading.Barrier(8)
    found = []

    def start():
        barrier.wait()
        found.append(tokens.load_or_create(tmp_path / "token"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({made.worker for made in found}) == 1


def test_tokens_are_256_random_bits_behind_their_kind():
    first, second = tokens.generate(), tokens.generate()
    assert len({first.client, first.worker, second.client, second.worker}) == 4
    assert re.fullmatch(r"mrc_[\w-]{43}", first.client)
    assert re.fullmatch(r"mrw_[\w-]{43}", first.worker)


def test_tokens_hide_from_repr():
    made = tokens.generate()
    assert made.client not in repr(made)
    assert made.worker not in repr(made)


def test_a_file_that_others_may_read_is_refused_rather_than_made_anew(tmp_path):
    path = tmp_path / "token"
    tokens.store(path, tokens.generate())
    path.chmod(0o644)
    for use in (tokens.load, tokens.load_or_create):
        with pytest.raises(Refused, match="others could have it"):
            use(path)


def test_a_joined_machine_holds_the_worker_token_alone(tmp_path):
    made = tokens.generate()
    tokens.store(tmp_path / "token", tokens.Tokens(worker=made.worker))
    held = tokens.load(tmp_path / "token")
    assert held.require_worker() == made.worker
    with pytest.raises(Refused, match="no client token"):
        held.require_client()
    with pytest.raises(Refused, match="a master needs both"):
        tokens.load_or_create(tmp_path / "token")


def test_a_client_machine_cannot_act_as_worker():
    made = tokens.generate()
    held = tokens.parse(made.client, origin="here")
    assert held.require_client() == made.client
    with pytest.raises(Refused, match="no worker token"):
        held.require_worker()


def test_a_token_file_is_never_replaced(tmp_path):
    tokens.store(tmp_path / "token", tokens.generate())
    before = (tmp_path / "token").read_bytes()
    with pytest.raises(FileExistsError):
        tokens.store(tmp_path / "token", tokens.generate())
    assert (tmp_path / "token").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def malformed():
    made = tokens.generate()
    client, worker = made.client, made.worker
    return {
        "empty": "",
        "other text": "secret",
        "wrong order": f"{worker}\n{client}",
        "twice the same kind": f"{client}\n{client}",
        "three lines": f"{client}\n{worker}\n{worker}",
        "cut short": client[:-1],
        "unknown kind": f"mrx_{client[4:]}",
        "foreign letter": client[:-1] + "é",
        "a space inside": f"{client[:20]} {client[20:]}",
    }


@pytest.mark.parametrize("name", malformed())
def test_text_that_is_no_token_is_refused_and_not_repeated(name):
    text = malformed()[name]
    with pytest.raises(Refused, match="here holds no tokens") as refusal:
        tokens.parse(text, origin="here")
    assert not text or text not in str(refusal.value)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(Refused, match=f"no token file at {tmp_path / 'token'}") as refusal:
        tokens.load(tmp_path / "token")
    assert "--token-file" in refusal.value.hint


def test_a_directory_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(Refused, match="cannot be read"):
        tokens.load(tmp_path)


def test_a_place_where_no_file_can_be_made_is_the_callers_to_mend(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="can be neither read nor made"):
        tokens.load_or_create(tmp_path / "file" / "token")


def test_the_flag_beats_the_variable_and_the_variable_beats_files(home):
    by_flag, by_variable, by_setting, by_default = (tokens.generate() for _ in range(4))
    tokens.store(home / "flag", by_flag)
    tokens.store(home / "setting", by_setting)
    tokens.store(home / ".config" / "minireduce" / "token", by_default)
    variable = {"MINIREDUCE_TOKEN": by_variable.client}
    setting = configured(environment={"MINIREDUCE_TOKEN_FILE": str(home / "setting")})
    flag = configured({"token_file": str(home / "flag")})

    assert tokens.find(flag, variable) == by_flag
    assert tokens.find(setting, variable).client == by_variable.client
    assert tokens.find(setting, {}) == by_setting
    assert tokens.find(configured(), {}) == by_default


def test_the_default_file_is_in_the_home_directory(home):
    assert tokens.path_of(configured()) == home / ".config/minireduce/token" == tokens.default_path()
    assert tokens.path_of(configured({"token_file": "/x/y"})) == Path("/x/y")


def test_equality_holds_for_the_token_alone():
    made = tokens.generate()
    assert tokens.equal(made.client, made.client)
    assert not tokens.equal(made.client, made.worker)
    assert not tokens.equal(made.client, None)
    assert not tokens.equal("\ud800", made.client)


def test_derived_secrets_match_the_published_construction():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    reference = HKDF(hashes.SHA256(), 32, salt=b"minireduce", info=b"reads").derive(b"token")
    assert tokens.derive_secret("token", "reads") == reference
    assert tokens.derive_secret("token", "login") != reference
