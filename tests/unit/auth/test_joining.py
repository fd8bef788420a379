from __future__ import annotations

import pytest

from minireduce.auth import joining, tokens
from minireduce.auth.joining import Join, make_join, parse_join, split_address
from minireduce.errors import Refused, RequestError

TOKENS = tokens.generate()
FINGERPRINT = "0123456789abcdef" * 4


def line(version="mrj1", address="10.0.0.5:7070", fingerprint=FINGERPRINT, token=TOKENS.worker):
    return f"{version},{address},{fingerprint},{token}"


@pytest.mark.parametrize("address", ["10.0.0.5:7070", "big.example.org:1", "[fd00::5]:65535"])
@pytest.mark.parametrize("fingerprint", [FINGERPRINT, None])
def test_a_line_says_what_was_put_into_it(address, fingerprint):
    join = Join(address, fingerprint, TOKENS.worker)
    made = make_join(join)
    assert parse_join(made) == join
    assert parse_join(f"  {made}\n") == join
    assert len(made.split()) == 1


def test_the_line_shows_address_and_fingerprint():
    assert make_join(Join("10.0.0.5:7070", FINGERPRINT, TOKENS.worker)) == line()


def test_the_token_hides_from_repr():
    assert TOKENS.worker not in repr(parse_join(line()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no join line"),
        ("minireduce token --join", "no join line"),
        (line()[: -len(TOKENS.worker) - 1], "no join line"),
        (line() + ",more", "no join line"),
        (line(version="mrj2"), "of version mrj2, and mrj1"),
        (line(version="mrjx"), "no join line"),
        (line(address="10.0.0.5"), "is no address"),
        (line(fingerprint="abc"), "64 hexadecimal"),
        (line(fingerprint=FINGERPRINT.replace("a", "g")), "64 hexadecimal"),
        (line(fingerprint=""), "64 hexadecimal"),
        (line(token=TOKENS.client), "no worker token"),
        (line(token=TOKENS.worker[:-1]), "no worker token"),
        (line(token=""), "no worker token"),
    ],
    ids=map(str, range(13)),
)
def test_a_line_that_is_wrong_says_where_and_keeps_its_secret(text, said):
    with pytest.raises(RequestError, match=said) as refusal:
        parse_join(text)
    assert TOKENS.worker[4:] not in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("h:1", ("h", 1)),
        ("10.0.0.5:7070", ("10.0.0.5", 7070)),
        ("[fd00::5]:7070", ("fd00::5", 7070)),
    ],
)
def test_an_address_is_a_host_and_a_port(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", "h", ":1", "h:", "h:0", "h:65536", "h:port", "fd00::5:7070", "[]:1", "u@h:1", "h:1/x", "h h:1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(RequestError, match="is no address"):
        split_address(address)


def test_joining_a_master_on_loopback_keeps_the_token_and_may_be_repeated(tmp_path):
    join = Join("127.0.0.1:7070", None, TOKENS.worker)
    for _ in range(2):
        assert joining.accept(join, tmp_path / "token") is None
        assert tokens.load(tmp_path / "token") == tokens.Tokens(worker=TOKENS.worker)


def test_joining_never_replaces_the_token_of_another_cluster(tmp_path):
    other = tokens.generate()
    tokens.store(tmp_path / "token", other)
    with pytest.raises(Refused, match="holds the token of another cluster"):
        joining.accept(Join("127.0.0.1:7070", None, TOKENS.worker), tmp_path / "token")
    assert tokens.load(tmp_path / "token") == other


def test_joining_on_the_masters_own_machine_leaves_its_file_as_it_is(tmp_path):
    tokens.store(tmp_path / "token", TOKENS)
    joining.accept(Join("127.0.0.1:7070", None, TOKENS.worker), tmp_path / "token")
    assert tokens.load(tmp_path / "token") == TOKENS
