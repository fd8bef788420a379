"""Every door of a running cluster, tried by everybody who must not pass: no token, and each token of a wrong kind.

The doors are not listed here: methods come from the descriptors of all generated modules, routes from the routers. One
that is added is tried, and one that lost its guard is found.
"""

from __future__ import annotations

import http.client
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from scenes.cluster import ProcessCluster

from minireduce import proto
from minireduce.auth import policy, scopes, tokens
from minireduce.auth.policy import Authenticator, Kind
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads, Login
from minireduce.core.messages import PROTOCOL_VERSION
from minireduce.web.app import COOKIE
from minireduce.web.app import make_app as make_pages
from minireduce.wire import methods
from minireduce.wire.calls import AUTHORIZATION_KEY, PROTOCOL_KEY
from minireduce.worker.block_routes import BlockRoutes
from minireduce.worker.block_server import make_app as make_block_server

CALL_S = 20
DOORS_MIN = 10
SHUT = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
JOB = "job-0000aa-1"
PLACES = {
    "attempt": f"{JOB}_s0_m00000_a0",
    "task": f"{JOB}_s0_m00000",
    "partition": 0,
    "name": "stdout",
    "block": 1,
    "generation": 1,
    "job": JOB,
}
OPEN_TO_ALL = {"/healthz", "/login"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """A master and a worker as processes."""
    with ProcessCluster(tmp_path_factory.mktemp("doors"), workers=1) as started:
        yield started


def every_method() -> list[str]:
    """All methods of all services, from the descriptors of every generated module."""
    found = [importlib.import_module(f"{proto.__name__}.{each.name}") for each in pkgutil.iter_modules(proto.__path__)]
    services = [service for module in found for service in module.DESCRIPTOR.services_by_name.values()]
    return sorted(f"/{service.full_name}/{method.name}" for service in services for method in service.methods)


def every_route(app) -> list[tuple[str, str]]:
    """Method and path of all routes of an application but those that are open to all."""
    routes = {(route.method, route.resource.canonical.format(**PLACES)) for route in app.router.routes()}
    assert len(routes) >= DOORS_MIN
    return sorted(route for route in routes if route[1] not in OPEN_TO_ALL)


def tokens_by_kind(held: tokens.Tokens) -> dict[str, str]:
    """A good token of each kind, and some that are good no more, or nowhere."""
    later, before = int(time.time()) + 600, int(time.time()) - 1
    client, worker = held.require_client(), held.require_worker()
    secret, logins = scopes.cluster_secret(worker), scopes.login_secret(client)
    stranger = tokens.generate()
    return {
        "client": client,
        "worker": worker,
        "job reads": scopes.make(secret, JobReads(JOB, later)),
        "another job's reads": scopes.make(secret, JobReads("job-0000aa-2", later)),
        "block read": scopes.make(secret, BlockAccess(1, 1, BlockMode.READ, later)),
        "another block's read": scopes.make(secret, BlockAccess(2, 1, BlockMode.READ, later)),
        "block write": scopes.make(secret, BlockAccess(1, 1, BlockMode.WRITE, later)),
        "another block's write": scopes.make(secret, BlockAccess(1, 2, BlockMode.WRITE, later)),
        "login": scopes.make(logins, Login(later)),
        "expired job reads": scopes.make(secret, JobReads(JOB, before)),
        "expired block read": scopes.make(secret, BlockAccess(1, 1, BlockMode.READ, before)),
        "expired block write": scopes.make(secret, BlockAccess(1, 1, BlockMode.WRITE, before)),
        "another cluster's client": stranger.require_client(),
        "another cluster's worker": stranger.require_worker(),
        "another cluster's job reads": scopes.make(
            scopes.cluster_secret(stranger.require_worker()), JobReads(JOB, later)
        ),
        "a login made with the wrong secret": scopes.make(secret, Login(later)),
        "half a client": client[: len(client) // 2],
        "garbage": "nonsense",
        "a very long one": "mrs_" + "A" * 4000,
    }


def headers_without(held: tokens.Tokens, *passing: str) -> dict[str, str | None]:
    """Authorization headers of all kinds but those that pass."""
    kinds = tokens_by_kind(held)
    wrong: dict[str, str | None] = {kind: f"Bearer {token}" for kind, token in kinds.items() if kind not in passing}
    right = kinds[passing[0]]
    return {**wrong, "none": None, "no scheme": right, "another scheme": f"Basic {right}", "empty": "Bearer "}


# ── gRPC ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer_of(channel: grpc.Channel, path: str, header: str | None) -> grpc.StatusCode:
    metadata = [(PROTOCOL_KEY, str(PROTOCOL_VERSION)), *([(AUTHORIZATION_KEY, header)] if header else [])]
    is_stream = next((method.is_stream for method in methods.METHODS if method.path == path), False)
    try:
        if is_stream:
            call = channel.stream_stream(path, _registered_method=False)
            list(call(iter([b""]), metadata=metadata, timeout=CALL_S))
        else:
            call = channel.unary_unary(path, _registered_method=False)
            call(b"", metadata=metadata, timeout=CALL_S)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_every_method_is_shut_to_nobody_and_to_every_wrong_kind(cluster: ProcessCluster) -> None:
    assert len(every_method()) >= DOORS_MIN
    passed, tried = [], 0
    with grpc.insecure_channel(cluster.address) as channel:
        for path in [*every_method(), "/minireduce.Jobs/NoSuchMethod", "/grpc.health.v1.Health/Check"]:
            right = "worker" if path.startswith("/minireduce.Workers/") else "client"
            for kind, header in headers_without(cluster.tokens, right).items():
                if answer_of(channel, path, header) not in SHUT:
                    passed.append((path, kind))
                tried += 1
    assert passed == []
    assert tried >= DOORS_MIN * 15


def test_every_method_opens_to_the_one_kind_in_its_row(cluster: ProcessCluster) -> None:
    """Else the test above would be green for a master that refuses everybody."""
    assert sorted(policy.RPCS) == every_method()
    with grpc.insecure_channel(cluster.address) as channel:
        for path in every_method():
            (kind,) = policy.RPCS[path]
            token = {Kind.CLIENT: cluster.tokens.client, Kind.WORKER: cluster.tokens.worker}[kind]
            assert answer_of(channel, path, f"Bearer {token}") not in SHUT, path


# ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pages_address(cluster: ProcessCluster) -> str:
    return re.search(r"pages on (\S+)", (cluster.root / "master.log").read_text())[1]


def block_server_address(cluster: ProcessCluster) -> str:
    (worker,) = cluster.workers().values()
    return worker.data_address


def ask(address: str, method: str, path: str, body: str | None = None, **headers: str) -> http.client.HTTPResponse:
    """The answer, read to its end."""
    connection = http.client.HTTPConnection(address, timeout=CALL_S)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        return answer
    finally:
        connection.close()


def pages_routes() -> list[tuple[str, str]]:
    return every_route(make_pages(None, Authenticator(tokens.Tokens(), time.time), [], is_secure=False))


def block_server_routes() -> list[tuple[str, str]]:
    blocks = BlockRoutes(None, "w1", None, None)
    return every_route(make_block_server(Path(), Authenticator(tokens.Tokens(), time.time), blocks))


def test_every_page_is_shut_to_nobody_and_to_every_wrong_kind(cluster: ProcessCluster) -> None:
    address = pages_address(cluster)
    passed = []
    for method, path in pages_routes():
        for kind, header in headers_without(cluster.tokens, "client").items():
            answer = ask(address, method, path, **({"Authorization": header} if header else {}))
            if answer.status not in {401, 403}:
                passed.append((method, path, kind, answer.status))
        assert ask(address, method, path, Authorization=f"Bearer {cluster.tokens.client}").status in {200, 404}
    assert passed == []


def test_only_the_cookie_of_a_login_opens_a_page_without_a_token(cluster: ProcessCluster) -> None:
    address, kinds = pages_address(cluster), tokens_by_kind(cluster.tokens)
    expired = scopes.make(scopes.login_secret(cluster.tokens.require_client()), Login(int(time.time()) - 1))
    for kind, token in {**kinds, "an expired login": expired}.items():
        status = ask(address, "GET", "/api/v1/jobs", Cookie=f"{COOKIE}={token}").status
        assert status == (200 if kind == "login" else 401), kind
    in_the_query = ask(address, "GET", f"/api/v1/jobs?token={cluster.tokens.client}")
    assert in_the_query.status == 401


PASSES = {"outputs": ("job reads",), "logs": ("job reads",)}
BLOCK_PASSES = {
    "GET": ("job reads", "another job's reads", "block read"),  # a job may name any stored file as its input
    "HEAD": ("job reads", "another job's reads", "block read"),
    "PUT": ("block write",),
}


def test_every_route_of_the_block_server_is_shut_to_nobody_and_to_every_wrong_kind(cluster: ProcessCluster) -> None:
    address, kinds = block_server_address(cluster), tokens_by_kind(cluster.tokens)
    routes = block_server_routes()
    passed, tried = [], 0
    for method, path in routes:
        opening = PASSES.get(path.split("/")[1]) or BLOCK_PASSES[method]
        for kind, header in headers_without(cluster.tokens, *opening).items():
            answer = ask(address, method, path, **({"Authorization": header} if header else {}))
            tried += 1
            if answer.status not in {401, 403}:
                passed.append((method, path, kind, answer.status))
        for kind in opening:
            assert ask(address, method, path, Authorization=f"Bearer {kinds[kind]}").status in {400, 404}, (path, kind)
    assert passed == []
    assert tried >= DOORS_MIN * 15


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_methods_that_no_route_has_are_refused_with_every_token(cluster: ProcessCluster, method: str) -> None:
    """OPTIONS too: no other site's script gets leave to send a token here."""
    for address, routes in (
        (pages_address(cluster), pages_routes()),
        (block_server_address(cluster), block_server_routes()),
    ):
        for path in sorted({path for _, path in routes}):
            for token in (
                None,
                *(tokens_by_kind(cluster.tokens)[kind] for kind in ("client", "job reads", "block write")),
            ):
                headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
                answer = ask(
                    address, method, path, **headers, **({"Authorization": f"Bearer {token}"} if token else {})
                )
                assert answer.status in {400, 401, 403, 404, 405}, (method, path)
                assert not [name for name, _ in answer.getheaders() if name.lower().startswith("access-control-")]


# ── a browser that visits somebody else's page ──────────────────────────────────────────────────────────────────────


def test_a_name_that_somebody_points_at_our_address_reaches_nothing(cluster: ProcessCluster) -> None:
    address = pages_address(cluster)
    login = scopes.make(scopes.login_secret(cluster.tokens.require_client()), Login(int(time.time()) + 600))
    known = {"Authorization": f"Bearer {cluster.tokens.client}", "Cookie": f"{COOKIE}={login}"}
    port = address.rpartition(":")[2]
    for method, path in [*pages_routes(), ("GET", "/healthz"), ("GET", "/login"), ("POST", "/login")]:
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            assert ask(address, method, path, Host=host, **known).status == 421, (method, path, host)


def test_a_form_on_another_sites_page_cannot_log_in(cluster: ProcessCluster) -> None:
    address = pages_address(cluster)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for origin, status in (
        (None, 303),
        (f"http://{address}", 303),
        ("https://evil.example", 401),
        (f"http://evil.example:{address.rpartition(':')[2]}", 401),
        ("http://127.0.0.1:1", 401),
        (f"http://{address}.evil.example", 401),
        ("null", 401),
    ):
        headers = form if origin is None else {**form, "Origin": origin}
        answer = ask(address, "POST", "/login", body=f"token={cluster.tokens.client}", **headers)
        assert answer.status == status, origin
        assert bool(answer.getheader("Set-Cookie")) == (status == 303)
    assert ask(address, "GET", "/login").getheader("Referrer-Policy") == "same-origin", "browsers would hide our origin"


def test_no_page_may_be_framed_or_run_a_script_or_be_kept(cluster: ProcessCluster) -> None:
    address = pages_address(cluster)
    for method, path in [*pages_routes(), ("GET", "/login"), ("GET", "/no/such/page")]:
        for token in (None, cluster.tokens.client):
            answer = ask(address, method, path, **({"Authorization": f"Bearer {token}"} if token else {}))
            policies = answer.getheader("Content-Security-Policy")
            assert "default-src 'none'" in policies
            assert "frame-ancestors 'none'" in policies
            assert "script-src" not in policies
            assert answer.getheader("X-Content-Type-Options") == "nosniff"
            assert answer.getheader("Cache-Control") == "no-store"


# ── where tokens are not ────────────────────────────────────────────────────────────────────────────────────────────


def test_no_token_stands_in_a_log_or_in_what_others_see_of_a_process(cluster: ProcessCluster) -> None:
    """After all that was tried above: refusals too are told without what was sent."""
    held = (cluster.tokens.require_client(), cluster.tokens.require_worker())
    logs = [path.read_text() for path in cluster.root.glob("*.log")]
    assert len(logs) == 2
    family = [psutil.Process(daemon.process.pid) for daemon in cluster.daemons.values()]
    family += [child for process in family for child in process.children(recursive=True)]
    assert len(family) >= 4
    seen = [*logs, *(" ".join(process.cmdline()) for process in family)]
    assert [text for text in seen for token in held if token in text] == []
