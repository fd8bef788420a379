from __future__ import annotations

import ipaddress
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from minireduce.auth import certificates, transport
from minireduce.auth.transport import BLOCK_SERVER_ROLE, MASTER_ROLE
from minireduce.errors import Refused, RequestError

NOW = 1_790_000_000.0
DAY_S = 86400
AUTHORITY = certificates.create_authority(NOW)
OTHER = certificates.create_authority(NOW)


def leaf_der(pem):
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def names_of(pem):
    extension = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return (
        set(extension.value.get_values_for_type(x509.DNSName)),
        {str(address) for address in extension.value.get_values_for_type(x509.IPAddress)},
    )


def signed(hosts=("w1",), authority=AUTHORITY):
    return certificates.sign_request(authority, certificates.make_request()[1], hosts, NOW)


def test_the_first_master_makes_the_authority_and_later_ones_use_it(tmp_path):
    token_file = tmp_path / "token"
    made = certificates.load_or_create_authority(token_file, NOW)
    again = certificates.load_or_create_authority(token_file, NOW + DAY_S)
    assert made.fingerprint == again.fingerprint
    assert transport.load_authority(token_file) == made.certificate_pem
    assert certificates.key_path(token_file).stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in transport.authority_path(token_file).read_bytes()


def test_masters_that_start_at_once_agree_on_one_authority(tmp_path):
    barrier = threading.Barrier(4)
    found = []

    def start():
        barrier.wait()
        found.append(certificates.load_or_create_authority(tmp_path / "token", NOW).fingerprint)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_lost_copy_of_the_certificate_is_written_again(tmp_path):
    made = certificates.load_or_create_authority(tmp_path / "token", NOW)
    transport.authority_path(tmp_path / "token").unlink()
    certificates.load_or_create_authority(tmp_path / "token", NOW)
    assert transport.load_authority(tmp_path / "token") == made.certificate_pem


def test_a_key_that_others_could_have_read_is_refused(tmp_path):
    certificates.load_or_create_authority(tmp_path / "token", NOW)
    certificates.key_path(tmp_path / "token").chmod(0o644)
    with pytest.raises(Refused, match="others could have it"):
        certificates.load_or_create_authority(tmp_path / "token", NOW)


def test_a_damaged_key_file_is_refused_by_name(tmp_path):
    path = certificates.key_path(tmp_path / "token")
    certificates.load_or_create_authority(tmp_path / "token", NOW)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Refused, match=r"token\.ca\.key is damaged"):
        certificates.load_or_create_authority(tmp_path / "token", NOW)
    path.write_bytes(certificates._key_pem(OTHER.key) + AUTHORITY.certificate_pem)
    with pytest.raises(Refused, match="do not belong together"):
        certificates.load_or_create_authority(tmp_path / "token", NOW)


def test_a_place_where_no_key_can_be_made_is_the_callers_to_mend(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="can be neither read nor made"):
        certificates.load_or_create_authority(tmp_path / "file" / "token", NOW)


def test_a_masters_certificate_names_its_role_its_hosts_and_loopback():
    identity = certificates.issue_master(AUTHORITY, ["big.example.org", "10.0.0.5", "fd00::5", "10.0.0.5"], NOW)
    assert names_of(identity.certificate_pem) == (
        {MASTER_ROLE, "big.example.org", "localhost"},
        {"10.0.0.5", "fd00::5", "127.0.0.1", "::1"},
    )
    assert identity.key_pem.decode() not in repr(identity)


def test_certificates_hold_from_a_day_ago_to_less_than_825_days_on():
    leaf = x509.load_pem_x509_certificate(certificates.issue_master(AUTHORITY, [], NOW).certificate_pem)
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    assert begin == NOW - DAY_S
    assert 365 * DAY_S < end - begin < 825 * DAY_S
    assert AUTHORITY.certificate.not_valid_after_utc > leaf.not_valid_after_utc


def test_a_master_carries_its_authority_to_who_knows_the_fingerprint():
    leaf = leaf_der(certificates.issue_master(AUTHORITY, ["10.0.0.5"], NOW).certificate_pem)
    assert certificates.carried_authority(leaf, AUTHORITY.fingerprint) == AUTHORITY.certificate
    assert certificates.carried_authority(leaf, AUTHORITY.fingerprint.upper()) == AUTHORITY.certificate
    with pytest.raises(Refused, match="of another authority"):
        certificates.carried_authority(leaf, OTHER.fingerprint)


def forged_leaf(role=MASTER_ROLE, signer=OTHER, carried=AUTHORITY):
    """A leaf that shows the true authority's certificate without having its signature, or for another role."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = certificates._leaf(signer, key.public_key(), role, [], NOW)  # both authorities have one name
    builder = builder.add_extension(certificates._carrying(carried), critical=False)
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_showing_the_right_authority_is_not_enough_without_its_signature():
    with pytest.raises(Refused, match="did not sign it"):
        certificates.carried_authority(forged_leaf(), AUTHORITY.fingerprint)


def test_a_certificate_for_another_role_is_not_taken_for_the_masters():
    leaf = forged_leaf(role=BLOCK_SERVER_ROLE, signer=AUTHORITY)
    with pytest.raises(Refused, match="not that of a master"):
        certificates.carried_authority(leaf, AUTHORITY.fingerprint)


@pytest.mark.parametrize("kind", ["block server", "garbage", "nothing"])
def test_a_certificate_that_carries_no_authority_is_refused(kind):
    der = {"block server": leaf_der(signed()), "garbage": b"\x30\x03abc", "nothing": b""}[kind]
    with pytest.raises(Refused, match="not made by a minireduce master"):
        certificates.carried_authority(der, AUTHORITY.fingerprint)


def test_a_worker_gets_the_hosts_the_master_says_and_the_role_of_a_block_server():
    assert names_of(signed(["w1.example.org"])) == (
        {BLOCK_SERVER_ROLE, "w1.example.org", "localhost"},
        {"127.0.0.1", "::1"},
    )


def test_names_inside_a_request_count_for_nothing():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, MASTER_ROLE)])
    wish = x509.SubjectAlternativeName([x509.DNSName(MASTER_ROLE), x509.IPAddress(ipaddress.ip_address("10.9.9.9"))])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(wish, critical=False)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    certificate = certificates.sign_request(AUTHORITY, pem, [], NOW)
    assert names_of(certificate) == ({BLOCK_SERVER_ROLE, "localhost"}, {"127.0.0.1", "::1"})
    assert MASTER_ROLE not in x509.load_pem_x509_certificate(certificate).subject.rfc4514_string()


def request_by(key, algorithm):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def bad_requests():
    good = certificates.make_request()[1]
    der = bytearray(ssl.PEM_cert_to_DER_cert(good.decode().replace("CERTIFICATE REQUEST", "CERTIFICATE")))
    der[-1] ^= 1
    damaged = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    return {
        "empty": b"",
        "garbage": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "wrong signature": damaged.encode(),
        "another curve": request_by(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        "another algorithm": request_by(ed25519.Ed25519PrivateKey.generate(), None),
        "too long": good + b"\n" * certificates.REQUEST_BYTES_MAX,
    }


@pytest.mark.parametrize("kind", bad_requests())
def test_a_request_that_proves_no_p256_key_is_refused(kind):
    with pytest.raises(RequestError, match="not signed by an ECDSA P-256 key"):
        certificates.sign_request(AUTHORITY, bad_requests()[kind], ["w1"], NOW)


@pytest.mark.parametrize(
    "host",
    ["", "*", "*.example.org", "a b", "a..b", "é.example.org", "x" * 300, MASTER_ROLE, "x.MINIREDUCE.internal", "a/b"],
)
def test_a_host_that_no_certificate_should_name_is_refused(host):
    with pytest.raises(RequestError, match="is no host that a certificate can name"):
        signed([host])


def test_the_number_of_hosts_is_limited():
    with pytest.raises(RequestError, match="100 is the limit"):
        signed([f"w{number}" for number in range(101)])
