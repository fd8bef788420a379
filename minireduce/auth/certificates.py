"""The cluster's own authority, and the certificates that it signs.

The first master makes the authority beside its token file: `TOKEN_FILE.ca.key` (key and certificate, private) and
`TOKEN_FILE.ca.pem` (the certificate, for those who connect). At each start the master makes itself a certificate and
holds its key in memory only; a worker makes a key, sends a request, and gets its certificate signed.

A certificate names one role, the hosts it was asked for and, if it is the master's, carries the authority's certificate
where certificates say from where to fetch it, as a `data:` URL: who joins knows a fingerprint only, and Python up to
3.12 shows of a server no more than its leaf. What is carried proves nothing by itself; `carried_authority` checks it.

Invariants: keys are ECDSA P-256; the authority signs leaves only; no request decides its own names.
Importing this loads `cryptography` (60 ms), so only what makes or reads certificates does, when it does.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from minireduce.auth import private_files
from minireduce.auth.transport import AUTHORITY_NAME, BLOCK_SERVER_ROLE, MASTER_ROLE, ROLE_DOMAIN, authority_path
from minireduce.errors import Refused, RequestError
from minireduce.frozen import dataclass

AUTHORITY_DAYS = 20 * 365
LEAF_DAYS = 800  # browsers refuse leaves of more than 825 days
CLOCK_SKEW = dt.timedelta(days=1)
REQUEST_BYTES_MAX = 16 << 10
HOSTS_MAX = 100

_CARRIER = "data:application/pkix-cert;base64,"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs for one cluster."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER form, in hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def key_path(token_file: Path) -> Path:
    """Where the authority's key is that goes with a token file."""
    return token_file.with_name(f"{token_file.name}.ca.key")


def load_or_create_authority(token_file: Path, now: float) -> Authority:
    """The authority of the cluster whose tokens are in `token_file`. Raises Refused and RequestError."""
    path = key_path(token_file)
    try:
        if not path.exists():
            # Where another master was quicker, its authority is the cluster's.
            with suppress(FileExistsError):
                made = create_authority(now)
                private_files.create(path, _key_pem(made.key) + made.certificate_pem)
        authority = _read_authority(path)
        if not authority_path(token_file).exists():
            private_files.replace(authority_path(token_file), authority.certificate_pem)
    except OSError as cause:
        raise RequestError(
            f"the authority's key {path} can be neither read nor made: {cause.strerror}",
            hint="name a token file in a directory of your own with --token-file",
        ) from cause
    return authority


def _read_authority(path: Path) -> Authority:
    content = private_files.read(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError:
        raise Refused(f"{path} is damaged", hint="remove it; clients and workers must then join again") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise Refused(
            f"{path} holds a key and a certificate that do not belong together",
            hint="remove it; clients and workers must then join again",
        )
    return Authority(certificate, key)


def create_authority(now: float) -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME)])
    usage = _usage(is_authority=True)
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def issue_master(authority: Authority, hosts: Sequence[str], now: float) -> Identity:
    """What a master that is reached as `hosts` shows. Raises RequestError for a host that is none."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _leaf(authority, key.public_key(), MASTER_ROLE, hosts, now)
    certificate = builder.add_extension(_carrying(authority), critical=False).sign(authority.key, hashes.SHA256())
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def make_request() -> tuple[bytes, bytes]:
    """A worker's new key and its request for a certificate, both PEM. Only the request leaves the machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, BLOCK_SERVER_ROLE)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM)


def sign_request(authority: Authority, request_pem: bytes, hosts: Sequence[str], now: float) -> bytes:
    """The certificate (PEM) of a block server that is reached as `hosts`. Raises RequestError.

    Of the request only the public key counts. The caller has authenticated the worker that sent it.
    """
    key = _requested_key(request_pem)
    if key is None:
        raise RequestError("the request for a certificate is not signed by an ECDSA P-256 key")
    leaf = _leaf(authority, key, BLOCK_SERVER_ROLE, hosts, now).sign(authority.key, hashes.SHA256())
    return leaf.public_bytes(serialization.Encoding.PEM)


def _requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey | None:
    """The key that a request is for, if whoever asks has it and it is of the one kind in use."""
    if len(request_pem) > REQUEST_BYTES_MAX:
        return None
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        has_key = request.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        return None
    return key if has_key and isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1" else None


def carried_authority(leaf_der: bytes, expected_fingerprint: str) -> x509.Certificate:
    """The authority that a master's certificate carries, once it is shown to be the one expected. Raises Refused.

    Shown: its fingerprint is the expected one, it signed the leaf, and the leaf is for the role of a master. That the
    other side holds the leaf's key is the TLS handshake's to show.
    """
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        sources = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        authority = x509.load_der_x509_certificate(_carried_by(sources))
    except (ValueError, x509.ExtensionNotFound):
        raise Refused(
            "the certificate shown was not made by a minireduce master", hint="is the address that of a master?"
        ) from None
    if fingerprint(authority) != expected_fingerprint.lower():
        raise Refused(
            "the certificate shown is of another authority than the one expected",
            hint="take the line to join anew, on the master's machine: minireduce token --join",
        )
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise Refused("the certificate shown carries an authority that did not sign it") from None
    if MASTER_ROLE not in names.get_values_for_type(x509.DNSName):
        raise Refused("the certificate shown is not that of a master", hint="is the address that of a master?")
    return authority


def _carrying(authority: Authority) -> x509.AuthorityInformationAccess:
    der = authority.certificate.public_bytes(serialization.Encoding.DER)
    url = x509.UniformResourceIdentifier(_CARRIER + base64.b64encode(der).decode())
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, url)])


def _carried_by(sources: x509.AuthorityInformationAccess) -> bytes:
    """The certificate (DER) in a `data:` URL among these sources. Raises ValueError."""
    urls = [source.access_location.value for source in sources]
    carried = next((url for url in urls if isinstance(url, str) and url.startswith(_CARRIER)), _CARRIER)
    return base64.b64decode(carried.removeprefix(_CARRIER), validate=True)


def _leaf(
    authority: Authority, key: ec.EllipticCurvePublicKey, role: str, hosts: Sequence[str], now: float
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    issuer = authority.certificate
    issuer_key = x509.SubjectKeyIdentifier.from_public_key(authority.key.public_key())
    builder = _builder(name, issuer.subject, key, now, LEAF_DAYS)
    for extension, is_critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(is_authority=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), False),
        (x509.SubjectAlternativeName([x509.DNSName(role), *_names(hosts)]), False),
    ):
        builder = builder.add_extension(extension, critical=is_critical)
    return builder


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    moment = dt.datetime.fromtimestamp(int(now), dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - CLOCK_SKEW)
        .not_valid_after(moment + dt.timedelta(days=days) - CLOCK_SKEW)
    )


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Hosts as a certificate spells them, loopback included, each once. Raises RequestError."""
    if len(hosts) > HOSTS_MAX:
        raise RequestError(f"a certificate for {len(hosts)} hosts was asked for, and {HOSTS_MAX} is the limit")
    return [_name(host) for host in dict.fromkeys((*hosts, *_LOOPBACK))]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    is_host = host.isascii() and len(host) <= 253 and all(label.replace("-", "a").isalnum() for label in labels)
    if not is_host or host.lower().endswith(ROLE_DOMAIN):
        raise RequestError(f"{host!r} is no host that a certificate can name", hint="see --host and --advertise")
    return x509.DNSName(host)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
