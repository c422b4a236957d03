"""A certificate authority of the tests' own: certificates for servers and clients, good, expired and revoked."""

import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)
_PEM = serialization.Encoding.PEM


class Issued(NamedTuple):
    """A certificate and its key, as files whose key only their owner may read."""

    certificate: Path
    key: Path
    serial: int

    def copy_to(self, certificate: Path, key: Path) -> None:
        """Replace two files by these, as a program that renews certificates does: one after the other."""
        for source, target in ((self.certificate, certificate), (self.key, key)):
            draft = target.with_suffix(".draft")
            draft.write_bytes(source.read_bytes())
            draft.chmod(0o600)
            draft.replace(target)


_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
_SIGNS = {use: use in {"key_cert_sign", "crl_sign"} for use in _USES}
"""What Python asks of an authority since 3.13."""


class Authority:
    """Signs what it is asked to; ``roots`` is the file for whoever trusts it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.roots = folder / f"{name}.pem"
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        own = own.add_extension(x509.KeyUsage(**_SIGNS), critical=True)
        self.roots.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(self, name: str, *, expired: bool = False) -> Issued:
        """A certificate for a host or a client of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, expired=expired)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        stem = f"{name}-{made.serial_number:x}"
        issued = Issued(self._folder / f"{stem}.pem", self._folder / f"{stem}.key", made.serial_number)
        issued.certificate.write_bytes(made.public_bytes(_PEM))
        issued.key.touch(mode=0o600)
        pkcs8 = serialization.PrivateFormat.PKCS8
        issued.key.write_bytes(key.private_bytes(_PEM, pkcs8, serialization.NoEncryption()))
        return issued

    def revoke(self, *issued: Issued) -> Path:
        """A file that lists these certificates as revoked."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now - _DAY, now + _DAY)
        for one in issued:
            revoked = x509.RevokedCertificateBuilder(one.serial, now - _DAY).build()
            builder = builder.add_revoked_certificate(revoked)
        file = self._folder / f"revoked-{len(issued)}.pem"
        file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        return file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder(
            self._name,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            now - 2 * _DAY,
            now - _DAY if expired else now + _DAY,
        )
        own, signing = key.public_key(), self._key.public_key()
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        return made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing), critical=False)
