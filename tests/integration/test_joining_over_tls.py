from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from minireduce.auth import certificates, joining, tokens, transport
from minireduce.auth.joining import Join
from minireduce.auth.transport import MASTER_ROLE
from minireduce.errors import Refused, Unavailable

TOKENS = tokens.generate()
AUTHORITY = certificates.create_authority(time.time())
IDENTITY = certificates.issue_master(AUTHORITY, ["10.0.0.5"], time.time())


@contextlib.contextmanager
def listening(serve):
    """The address of a server that runs `serve(connection)` for each connection until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def tls_server(identity):
    context = transport.server_context(identity.certificate_pem, identity.key_pem)

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(1)

    return listening(serve)


def plain_server():
    return listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def closing_server():
    return listening(lambda connection: connection.recv(1))


@contextlib.contextmanager
def grpc_server(credentials):
    server = grpc.server(ThreadPoolExecutor(1))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def our_credentials():
    return grpc.ssl_server_credentials([(IDENTITY.key_pem, IDENTITY.certificate_pem)])


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("server", [lambda: tls_server(IDENTITY), lambda: grpc_server(our_credentials())])
def test_the_authority_is_taken_from_a_master_with_the_right_fingerprint(server):
    with server() as address:
        assert joining.fetch_authority(address, AUTHORITY.fingerprint) == AUTHORITY.certificate_pem


def test_another_fingerprint_ends_the_joining_before_anything_is_kept(tmp_path):
    other = certificates.create_authority(time.time())
    with tls_server(IDENTITY) as address, pytest.raises(Refused, match=f"{address} is not the master of this join"):
        joining.accept(Join(address, other.fingerprint, TOKENS.worker), tmp_path / "token")
    assert list(tmp_path.iterdir()) == []


def test_a_joined_machine_holds_authority_and_token(tmp_path):
    with tls_server(IDENTITY) as address:
        join = Join(address, AUTHORITY.fingerprint, TOKENS.worker)
        for _ in range(2):
            assert joining.accept(join, tmp_path / "token") == AUTHORITY.certificate_pem
    assert transport.load_authority(tmp_path / "token") == AUTHORITY.certificate_pem
    assert tokens.load(tmp_path / "token").worker == TOKENS.worker


def test_grpc_trusts_the_fetched_authority_under_the_masters_role():
    with grpc_server(our_credentials()) as address:
        authority = joining.fetch_authority(address, AUTHORITY.fingerprint)
        name = transport.expected_name(authority, MASTER_ROLE, "127.0.0.1")
        options = [("grpc.ssl_target_name_override", name)]
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), options) as channel:
            grpc.channel_ready_future(channel).result(timeout=20)


def test_grpc_does_not_take_a_block_server_for_the_master():
    key_pem, request = certificates.make_request()
    certificate = certificates.sign_request(AUTHORITY, request, [], time.time())
    with grpc_server(grpc.ssl_server_credentials([(key_pem, certificate)])) as address:
        credentials = grpc.ssl_channel_credentials(AUTHORITY.certificate_pem)
        options = [("grpc.ssl_target_name_override", MASTER_ROLE)]
        with grpc.secure_channel(address, credentials, options) as channel:
            call = channel.unary_unary("/minireduce.Jobs/List", _registered_method=False)
            with pytest.raises(grpc.RpcError) as failure:
                call(b"", timeout=20)
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("server", [lambda: tls_server(IDENTITY), lambda: grpc_server(our_credentials())])
def test_who_trusts_the_wrong_authority_is_told_so_before_anything_is_tried(server):
    stranger = certificates.create_authority(time.time())
    with server() as address:
        joining.check_master(address, AUTHORITY.certificate_pem, MASTER_ROLE)
        for authority, name in ((stranger, MASTER_ROLE), (AUTHORITY, transport.BLOCK_SERVER_ROLE)):
            with pytest.raises(Refused, match="is not the master of this cluster") as refused:
                joining.check_master(address, authority.certificate_pem, name)
            assert "token --join" in refused.value.hint
    with plain_server() as address, pytest.raises(Refused, match="does not speak TLS"):
        joining.check_master(address, AUTHORITY.certificate_pem, MASTER_ROLE)
    with pytest.raises(Unavailable, match="no master answers"):
        joining.check_master(free_address(), AUTHORITY.certificate_pem, MASTER_ROLE)


@pytest.mark.parametrize("server", [plain_server, lambda: grpc_server(None)])
def test_a_server_in_the_clear_is_refused_when_a_fingerprint_is_expected(server):
    with server() as address, pytest.raises((Refused, Unavailable)):
        joining.fetch_authority(address, AUTHORITY.fingerprint)


def test_nobody_at_the_address_is_worth_another_try():
    with pytest.raises(Unavailable, match="no master answers"):
        joining.fetch_authority(free_address(), AUTHORITY.fingerprint)


def test_a_client_on_the_same_machine_can_tell_tls_from_clear():
    with tls_server(IDENTITY) as address:
        assert joining.speaks_tls(address)
    with grpc_server(our_credentials()) as address:
        assert joining.speaks_tls(address)
    with grpc_server(None) as address:
        assert not joining.speaks_tls(address)
    with plain_server() as address:
        assert not joining.speaks_tls(address)
    with closing_server() as address:
        assert not joining.speaks_tls(address)
    with pytest.raises(Unavailable, match="nothing answers"):
        joining.speaks_tls(free_address())


def test_a_server_that_says_nothing_does_not_hold_us_for_ever():
    hold = threading.Event()
    with listening(lambda _: hold.wait(30)) as address:
        with pytest.raises(Unavailable):
            joining.speaks_tls(address, timeout_s=0.2)
        hold.set()


def test_a_plain_context_does_not_trust_our_authority():
    """The machine's own roots are not ours: without the pinned authority nothing connects."""
    with tls_server(IDENTITY) as address:
        host, port = joining.split_address(address)
        context = ssl.create_default_context()
        connection = socket.create_connection((host, port), timeout=20)
        with connection, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(connection, server_hostname="localhost")
