from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minireduce.auth import scopes
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads, Login
from minireduce.auth.tokens import generate
from minireduce.errors import Refused

SECRET = b"s" * 32
numbers = st.integers(min_value=0, max_value=(1 << 63) - 1).filter(lambda number: number < 10**18)
job_ids = st.from_regex(r"job-[0-9a-f]{6}-[0-9]{1,9}", fullmatch=True)
any_scope = st.one_of(
    st.builds(JobReads, job_ids, numbers),
    st.builds(BlockAccess, numbers, numbers, st.sampled_from(BlockMode), numbers),
    st.builds(Login, numbers),
)


@given(any_scope)
def test_a_scope_comes_back_as_it_was_made(scope):
    assert scopes.check(SECRET, scopes.make(SECRET, scope), now=-1) == scope


@given(any_scope, any_scope)
def test_equal_scopes_and_only_those_are_equal_tokens(first, second):
    assert (scopes.make(SECRET, first) == scopes.make(SECRET, second)) == (first == second)


def test_the_spelling_is_the_documented_one():
    token = scopes.make(SECRET, BlockAccess(17, 3, BlockMode.WRITE, 1_800_000_000))
    assert re.fullmatch(r"mrs_block\.17\.3\.w\.1800000000\.[\w-]{43}", token)


def test_a_known_scope_has_a_known_token():
    """The bytes are part of what masters and workers of two versions agree on."""
    token = scopes.make(SECRET, JobReads("job-3f9a01-1", 1_800_000_000))
    assert token == "mrs_job.job-3f9a01-1.1800000000.zQNhd2WDRrvlBsMSIHZ5B_VIUbrxhvivfzszADZ90mQ"


def test_a_token_ends_when_it_says():
    token = scopes.make(SECRET, JobReads("job-3f9a01-1", 100))
    assert scopes.check(SECRET, token, now=99.9).job == "job-3f9a01-1"
    with pytest.raises(Refused, match="expired"):
        scopes.check(SECRET, token, now=100.0)


@given(any_scope, st.data())
def test_no_single_letter_of_a_token_can_change(scope, data):
    token = scopes.make(SECRET, scope)
    position = data.draw(st.integers(min_value=0, max_value=len(token) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda drawn: drawn != token[position]))
    with pytest.raises(Refused):
        scopes.check(SECRET, token[:position] + letter + token[position + 1 :], now=-1)


@pytest.mark.parametrize("token", ["", ".", "mrs_", "mrs_job.job-3f9a01-1.9", "é", "\ud800", "a" * 100_000, "a.b\n"])
def test_text_that_is_no_token_is_refused(token):
    with pytest.raises(Refused):
        scopes.check(SECRET, token, now=0)


@pytest.mark.parametrize(
    "signed",
    [
        "mrs_job.job-3f9a01-1.007",
        "mrs_job.../etc.7",
        "mrs_job.job-3f9a01-1.7.7",
        "mrs_block.1.1.rw.7",
        "mrs_block.-1.1.r.7",
        "mrs_block.1.٣.r.7",
        "mrs_moon.7",
        "login.7",
        "mrs_mrs_login.7",
    ],
)
def test_a_second_spelling_is_refused_even_with_a_good_mac(signed):
    with pytest.raises(Refused):
        scopes.check(SECRET, f"{signed}.{scopes._mac(SECRET, signed)}", now=0)


def test_a_token_of_another_cluster_is_refused():
    ours, theirs = generate(), generate()
    token = scopes.make(scopes.cluster_secret(theirs.worker), JobReads("job-3f9a01-1", 100))
    with pytest.raises(Refused, match="not made by this cluster"):
        scopes.check(scopes.cluster_secret(ours.worker), token, now=0)


def test_a_job_id_that_could_forge_fields_makes_no_token():
    with pytest.raises(ValueError, match="no job id"):
        scopes.make(SECRET, JobReads("job-3f9a01-1.9999999999", 1))
