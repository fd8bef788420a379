from __future__ import annotations

import ssl
import subprocess
import sys
import time

import pytest

from minireduce.auth import certificates, transport
from minireduce.auth.transport import BLOCK_SERVER_ROLE, MASTER_ROLE
from minireduce.errors import Refused, RequestError

NOW = time.time()
AUTHORITY = certificates.create_authority(NOW)
MASTER = certificates.issue_master(AUTHORITY, ["big.example.org"], NOW)


def block_server(hosts=("w1",)):
    key_pem, request = certificates.make_request()
    return certificates.Identity(certificates.sign_request(AUTHORITY, request, hosts, NOW), key_pem)


def shake_hands(identity, authority_pem, name):
    """Both ends of a TLS handshake, in memory. Raises ssl.SSLError where the client does not trust the server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = transport.server_context(identity.certificate_pem, identity.key_pem).wrap_bio(
        to_server, to_client, server_side=True
    )
    client = transport.client_context(authority_pem).wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client, server]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)
    return client.version()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback_needs_no_tls(host):
    assert not transport.needs_tls(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.5", "fd00::5", "big.example.org", "127.0.0.1.example.org", "localhost.evil"]
)
def test_everything_else_needs_tls(host):
    assert transport.needs_tls(host)


def test_a_master_is_trusted_by_its_role_and_by_its_hosts():
    for name in (MASTER_ROLE, "big.example.org", "localhost", "127.0.0.1"):
        assert shake_hands(MASTER, AUTHORITY.certificate_pem, name) == "TLSv1.3"


def test_a_block_server_is_trusted_as_one_and_never_as_the_master():
    assert shake_hands(block_server(), AUTHORITY.certificate_pem, BLOCK_SERVER_ROLE) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(block_server(), AUTHORITY.certificate_pem, MASTER_ROLE)


def test_another_authority_is_not_trusted():
    other = certificates.create_authority(NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(certificates.issue_master(other, [], NOW), AUTHORITY.certificate_pem, MASTER_ROLE)


def test_an_expired_certificate_is_not_trusted():
    years_ago = NOW - 1000 * 86400
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(certificates.issue_master(AUTHORITY, [], years_ago), AUTHORITY.certificate_pem, MASTER_ROLE)


def test_the_strictest_checks_of_ssl_accept_our_certificates():
    context = transport.client_context(AUTHORITY.certificate_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = transport.server_context(MASTER.certificate_pem, MASTER.key_pem)
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    client_end = context.wrap_bio(to_client, to_server, server_hostname=MASTER_ROLE)
    for end in (client_end, server_end):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
    client_end.do_handshake()
    assert client_end.version() == "TLSv1.3"


def test_our_authority_is_asked_for_roles_and_any_other_for_the_host():
    assert transport.expected_name(AUTHORITY.certificate_pem, MASTER_ROLE, "10.0.0.5") == MASTER_ROLE
    foreign = MASTER.certificate_pem  # any certificate that is not named as our authority is
    assert transport.expected_name(foreign, MASTER_ROLE, "10.0.0.5") == "10.0.0.5"


def test_unusable_certificates_and_keys_are_the_callers_to_mend():
    with pytest.raises(RequestError, match="certificate and key"):
        transport.server_context(MASTER.certificate_pem, block_server().key_pem)
    with pytest.raises(RequestError, match="certificate and key"):
        transport.server_context(b"garbage", b"")
    for authority in (b"", b"garbage", b"\xff"):
        with pytest.raises(RequestError, match="authority's certificate"):
            transport.client_context(authority)


def test_a_missing_authority_says_what_to_copy(tmp_path):
    with pytest.raises(Refused, match=r"token\.ca\.pem cannot be read") as refusal:
        transport.load_authority(tmp_path / "token")
    assert "beside the master's token file" in refusal.value.hint


def test_all_but_certificates_stay_light():
    code = (
        "import sys; from minireduce.auth import joining, policy, private_files, scopes, tokens, transport\n"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_nobody_but_the_given_authority_is_trusted():
    trusted = transport.client_context(AUTHORITY.certificate_pem).get_ca_certs(binary_form=True)
    assert trusted == [ssl.PEM_cert_to_DER_cert(AUTHORITY.certificate_pem.decode())]
