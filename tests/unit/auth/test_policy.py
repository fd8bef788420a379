from __future__ import annotations

import pytest

from minireduce.auth import policy, scopes
from minireduce.auth.policy import Authenticator, Kind, Principal
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads, Login
from minireduce.auth.tokens import Tokens, generate
from minireduce.errors import Refused

NOW = 1_800_000_000.0
JOB = "job-3f9a01-1"
TOKENS = generate()
SECRET = scopes.cluster_secret(TOKENS.worker)
MASTER = Authenticator(TOKENS, lambda: NOW)
ALL_TABLES = [policy.RPCS, policy.MASTER_ROUTES, policy.BLOCK_ROUTES]


def scoped(scope, secret=SECRET):
    return scopes.make(secret, scope)


def bearers():
    expiry = int(NOW) + 60
    return {
        Kind.CLIENT: TOKENS.client,
        Kind.WORKER: TOKENS.worker,
        Kind.JOB_READS: scoped(JobReads(JOB, expiry)),
        Kind.BLOCK_READ: scoped(BlockAccess(1, 2, BlockMode.READ, expiry)),
        Kind.BLOCK_WRITE: scoped(BlockAccess(1, 2, BlockMode.WRITE, expiry)),
        Kind.NOBODY: None,
    }


@pytest.mark.parametrize("kind", Kind)
def test_each_token_is_recognised_as_its_kind(kind):
    assert MASTER.authenticate(bearers()[kind]).kind is kind


@pytest.mark.parametrize("table", ALL_TABLES)
@pytest.mark.parametrize("kind", Kind)
def test_each_door_opens_to_exactly_the_kinds_of_its_row(table, kind):
    principal = MASTER.authenticate(bearers()[kind])
    for door, kinds in table.items():
        if kind in kinds:
            policy.authorize(table, door, principal)
        else:
            with pytest.raises(Refused):
                policy.authorize(table, door, principal)


def test_only_health_and_login_open_without_a_token():
    open_doors = {door for table in ALL_TABLES for door, kinds in table.items() if Kind.NOBODY in kinds}
    assert open_doors == {"GET /healthz", "GET /login", "POST /login"}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("door", ["/minireduce.Jobs/Steal", "GET /secret", "DELETE /", "GET healthz", "", "*"])
def test_a_door_without_a_row_is_open_to_nobody(kind, door):
    for table in ALL_TABLES:
        with pytest.raises(Refused, match="open to nobody"):
            policy.authorize(table, door, Principal(kind))


def test_the_longest_row_that_fits_decides():
    doors = {"GET /a/*": frozenset({Kind.CLIENT}), "GET /a/b/*": frozenset({Kind.WORKER}), "GET /a/b/c": frozenset()}
    policy.authorize(doors, "GET /a/x", Principal(Kind.CLIENT))
    policy.authorize(doors, "GET /a/b/x", Principal(Kind.WORKER))
    for door, kind in [("GET /a/b/x", Kind.CLIENT), ("GET /a/b/c", Kind.WORKER), ("POST /a/x", Kind.CLIENT)]:
        with pytest.raises(Refused):
            policy.authorize(doors, door, Principal(kind))


def test_head_counts_as_get():
    policy.authorize(policy.MASTER_ROUTES, "HEAD /healthz", policy.NOBODY)
    with pytest.raises(Refused):
        policy.authorize(policy.MASTER_ROUTES, "HEAD /metrics", policy.NOBODY)


def test_a_refusal_says_which_token_is_needed():
    with pytest.raises(Refused, match=r"Submit needs a token \(client\), and none was sent"):
        policy.authorize(policy.RPCS, "/minireduce.Jobs/Submit", policy.NOBODY)
    with pytest.raises(Refused, match="a worker token does not open") as refusal:
        policy.authorize(policy.RPCS, "/minireduce.Jobs/Submit", Principal(Kind.WORKER))
    assert refusal.value.hint == "it needs one of kind client"


@pytest.mark.parametrize(
    "bearer",
    ["", "wrong", "mrc_" + "A" * 43, "mrs_job.x", "é", TOKENS.client + " "],
    ids=["none", "word", "another's", "no scope", "no ASCII", "a space after it"],
)
def test_a_token_of_nobody_is_refused_rather_than_taken_for_none(bearer):
    with pytest.raises(Refused):
        MASTER.authenticate(bearer)


def test_an_expired_token_is_refused():
    with pytest.raises(Refused, match="expired"):
        MASTER.authenticate(scoped(JobReads(JOB, int(NOW))))


def test_a_worker_recognises_scopes_but_no_client():
    worker = Authenticator(Tokens(worker=TOKENS.worker), lambda: NOW)
    assert worker.authenticate(bearers()[Kind.JOB_READS]).kind is Kind.JOB_READS
    with pytest.raises(Refused, match="not one of this cluster"):
        worker.authenticate(TOKENS.client)
    with pytest.raises(Refused, match="not the client token"):
        worker.log_in(TOKENS.client)
    assert worker.authenticate_cookie(MASTER.log_in(TOKENS.client)) == policy.NOBODY


def test_a_job_token_reads_its_own_job_and_blocks_but_writes_nothing():
    principal = MASTER.authenticate(bearers()[Kind.JOB_READS])
    assert principal.may_read_job(JOB)
    assert not principal.may_read_job("job-3f9a01-2")
    assert principal.may_read_block(7, 7)
    assert not principal.may_write_block(7, 7)


def test_a_block_token_opens_one_block_in_one_generation_in_one_way():
    reader = MASTER.authenticate(bearers()[Kind.BLOCK_READ])
    writer = MASTER.authenticate(bearers()[Kind.BLOCK_WRITE])
    assert reader.may_read_block(1, 2)
    assert writer.may_write_block(1, 2)
    assert not reader.may_write_block(1, 2)
    assert not writer.may_read_block(1, 2)
    for principal in (reader, writer):
        assert not principal.may_read_job(JOB)
        for block_id, generation in [(1, 3), (2, 2), (2, 1)]:
            assert not principal.may_read_block(block_id, generation)
            assert not principal.may_write_block(block_id, generation)


@pytest.mark.parametrize("kind", [Kind.CLIENT, Kind.WORKER, Kind.NOBODY])
def test_a_token_without_scope_opens_no_single_thing(kind):
    principal = MASTER.authenticate(bearers()[kind])
    assert not principal.may_read_job(JOB)
    assert not principal.may_read_block(1, 2)
    assert not principal.may_write_block(1, 2)


def test_a_login_makes_a_client_until_it_ends():
    times = [NOW]
    master = Authenticator(TOKENS, lambda: times[-1])
    cookie = master.log_in(f" {TOKENS.client}\n")
    assert TOKENS.client not in cookie
    assert master.authenticate_cookie(cookie) == Principal(Kind.CLIENT)
    times.append(NOW + policy.LOGIN_S)
    assert master.authenticate_cookie(cookie) == policy.NOBODY


@pytest.mark.parametrize("token", [TOKENS.worker, "", "x"], ids=["of a worker", "none", "rubbish"])
def test_only_the_client_token_logs_in(token):
    with pytest.raises(Refused, match="not the client token"):
        MASTER.log_in(token)


def test_a_worker_cannot_forge_a_login():
    forged = scoped(Login(int(NOW) + 60))
    assert MASTER.authenticate_cookie(forged) == policy.NOBODY
    with pytest.raises(Refused, match="no token"):
        MASTER.authenticate(forged)


def test_a_cookie_is_no_token_and_a_token_is_no_cookie():
    with pytest.raises(Refused):
        MASTER.authenticate(MASTER.log_in(TOKENS.client))
    for kind, bearer in bearers().items():
        assert MASTER.authenticate_cookie(bearer) == policy.NOBODY, kind


def test_a_header_holds_a_bearer_token_or_is_refused():
    assert policy.bearer_of(None) is None
    assert policy.bearer_of("Bearer abc") == "abc"
    assert policy.bearer_of("bearer  abc ") == "abc"
    for header in ["", "Basic abc", "Bearer", "Bearer ", "abc"]:
        with pytest.raises(Refused):
            policy.bearer_of(header)
