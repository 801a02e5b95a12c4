"""Certificates of one organisation: a CA for its identities, another for TLS, and what they issue.

Made for networks on loopback. The layout that Fabric reads is an MSP folder: `cacerts`, `tlscacerts`,
`signcerts`, `keystore` and a `config.yaml` that tells clients, peers, orderers and admins by their OU.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Where Fabric CA puts an identity's attributes.
ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
LEAF_DAYS = 365
ROOT_DAYS = 3650
NODE_OUS = {
    "NodeOUs": {
        "Enable": True,
        **{
            f"{kind.capitalize()}OUIdentifier": {
                "Certificate": "cacerts/ca.pem",
                "OrganizationalUnitIdentifier": kind,
            }
            for kind in ("client", "peer", "admin", "orderer")
        },
    }
}


@dataclass(frozen=True)
class Authority:
    """A root certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str, *, days: int = ROOT_DAYS) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key.public_key(), timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path, name: str) -> "Authority":
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()), key)

    def save(self, folder: Path, name: str) -> None:
        write_pair(folder, name, self.pem, _key_pem(self.key))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str,
        *,
        unit: str | None = None,
        role: str | None = None,
        tls: bool = False,
        valid: timedelta = timedelta(days=LEAF_DAYS),
    ) -> tuple[bytes, bytes]:
        """(certificate, key), PEM. `unit` is the OU; `role` becomes the attribute `gateway.role`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.certify(name, key.public_key(), unit=unit, role=role, tls=tls, valid=valid)
        return certificate, _key_pem(key)

    def certify(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        unit: str | None = None,
        role: str | None = None,
        tls: bool = False,
        valid: timedelta = timedelta(days=LEAF_DAYS),
    ) -> bytes:
        """A certificate (PEM) for a key that is kept elsewhere, in an HSM."""
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if unit is not None:
            parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
        builder = (
            _builder(self.certificate.subject, x509.Name(parts), key, valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if role is not None:
            attributes = json.dumps({"attrs": {"gateway.role": role}}).encode()
            builder = builder.add_extension(
                x509.UnrecognizedExtension(ATTRIBUTES, attributes), critical=False
            )
        if tls:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            ).add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: timedelta
) -> x509.CertificateBuilder:
    # Five minutes back, for clocks that differ a little.
    start = datetime.now(UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(datetime.now(UTC) + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_pair(folder: Path, name: str, certificate: bytes, key: bytes) -> None:
    """`<name>.pem` and `<name>.key`, the key readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pem").write_bytes(certificate)
    path = folder / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(key)


@dataclass(frozen=True)
class OrganisationFiles:
    """Where one organisation's files lie: `ca`, `tlsca`, `msp/`, `nodes/<node>/`, `identities/<name>/`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> "OrganisationFiles":
        folder.mkdir(parents=True, mode=0o700)
        Authority.make(f"ca.{name}").save(folder, "ca")
        Authority.make(f"tlsca.{name}").save(folder, "tlsca")
        files = cls(folder)
        files._write_msp(folder / "msp")
        return files

    def node(self, name: str, *, unit: str) -> Path:
        """Make a peer's or orderer's `msp/` and `tls.pem`, `tls.key`."""
        folder = self.folder / "nodes" / name
        self._write_msp(folder / "msp", self.ca.issue(name, unit=unit))
        write_pair(folder, "tls", *self.tlsca.issue(name, tls=True))
        return folder

    def identity(
        self, name: str, *, unit: str, role: str, valid: timedelta = timedelta(days=LEAF_DAYS)
    ) -> Path:
        """Make a client's or admin's `cert.pem`, `cert.key`, and `msp/` for Fabric's own commands."""
        folder = self.folder / "identities" / name
        pair = self.ca.issue(name, unit=unit, role=role, valid=valid)
        write_pair(folder, "cert", *pair)
        self._write_msp(folder / "msp", pair)
        return folder

    @property
    def ca(self) -> Authority:
        return Authority.load(self.folder, "ca")

    @property
    def tlsca(self) -> Authority:
        return Authority.load(self.folder, "tlsca")

    def _write_msp(self, folder: Path, pair: tuple[bytes, bytes] | None = None) -> None:
        contents = {"cacerts/ca.pem": self.ca.pem, "tlscacerts/tlsca.pem": self.tlsca.pem}
        contents["config.yaml"] = json.dumps(NODE_OUS).encode()
        if pair is not None:
            contents |= {"signcerts/cert.pem": pair[0], "keystore/key.pem": pair[1]}
        for name, data in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(data)


def write_trust(folder: Path, members: Mapping[str, OrganisationFiles], ordering: str) -> None:
    """Whom an auditor of this channel believes, as `ledger/verify.py` reads it: roots, by organisation."""
    folder.mkdir(exist_ok=True)
    for msp, files in members.items():
        (folder / f"{'orderers' if msp == ordering else msp}.pem").write_bytes(files.ca.pem)


def expiries(folder: Path) -> list[tuple[datetime, Path]]:
    """Every certificate below `folder` with the moment it ends, the first to end first."""
    found = []
    for path in folder.rglob("*.pem"):
        data = path.read_bytes()
        if b"BEGIN CERTIFICATE" in data:
            found.append((x509.load_pem_x509_certificate(data).not_valid_after_utc, path))
    return sorted(found)
