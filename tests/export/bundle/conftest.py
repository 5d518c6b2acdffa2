"""A signed bundle of three real exports, made once and copied by the tests that spoil it; keys and certificates."""

import datetime
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from export.bundle.make import Release, bundle
from export.bundle.signing import Signer

ONNX, OPENVINO, COREML = "m0-64-onnx-fp32-untrained", "m0-64-openvino-fp32-untrained", "m0-64-coreml-fp16-untrained"
NAMES = (ONNX, OPENVINO, COREML)
NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Keys:
    """A private key and its public half, as files."""

    private: Path
    public: Path

    @classmethod
    def drawn(cls, folder: Path, name: str, password: str | None = None) -> "Keys":
        keys = cls(folder / f"{name}.pem", folder / f"{name}.pub")
        write_key(ec.generate_private_key(ec.SECP256R1()), keys.private, keys.public, password)
        return keys


def write_key(key: Any, private: Path, public: Path, password: str | None = None) -> None:
    encrypted: Any = serialization.NoEncryption()
    if password is not None:
        encrypted = serialization.BestAvailableEncryption(password.encode())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(pem, form, encrypted))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))


class Authority:
    """A root certificate, and those that it issues."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self._key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self._root = self._issue(name, self._key, self._key, NOW - 900 * _DAY, NOW + 900 * _DAY, ca=True)
        self.root = self._write(name, self._root)

    def signer(self, subject: str, *, days: int = 90) -> Signer:
        """With a certificate that began 100 days before NOW and ends `days` after it."""
        key = ec.generate_private_key(ec.SECP256R1())
        place = f"{self.name}-{subject}-{days}"
        write_key(key, self.folder / f"{place}.pem", self.folder / f"{place}.pub")
        certificate = self._issue(subject, key, self._key, NOW - 100 * _DAY, NOW + days * _DAY)
        return Signer(self.folder / f"{place}.pem", self._write(place, certificate), (self.root,))

    def _issue(
        self, subject: str, key: Any, by: Any, begins: datetime.datetime, ends: datetime.datetime, *, ca: bool = False
    ) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, self.name)]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        usage = x509.KeyUsage(
            digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return builder.add_extension(usage, critical=True).sign(by, hashes.SHA256())

    def _write(self, place: str, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{place}.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture(scope="session")
def folders(exported: Any) -> list[Path]:
    """Three exports that passed."""
    return [exported.out / name for name in NAMES]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.drawn(tmp_path_factory.mktemp("keys"), "own")


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.drawn(tmp_path_factory.mktemp("keys"), "other")


@pytest.fixture(scope="session")
def signed_once(folders: list[Path], keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test changes it."""
    out = tmp_path_factory.mktemp("dist")
    return bundle(folders, Release("effvit", "1.2.0", "mit"), out, signer=Signer(keys.private)).folder


@pytest.fixture
def signed(signed_once: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(signed_once, tmp_path / "bundle" / signed_once.name))


@pytest.fixture
def unsigned(signed: Path) -> Path:
    """The same without its signature."""
    (signed / "model.sig").unlink()
    return signed


Make = Callable[..., Path]
