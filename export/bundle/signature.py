"""The signature of a bundle, read back: whose it is, whether it holds, and for which files."""

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from efficientvit.errors import BadInput
from efficientvit.files import parse_unique_json
from export.bundle.layout import SIGNATURE
from export.bundle.signing import hashed
from export.records import Record

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_LARGEST = 16 * 2**20


class Broken(Exception):
    """The signature does not hold; the text says why."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe: the public key, or root certificates and, if given, the one subject among those they certify.

    `at`: the day on which certificates have to be valid; None: now.
    """

    key: Path | None = None
    certificates: tuple[Path, ...] = ()
    subject: str | None = None
    at: datetime.datetime | None = None

    @property
    def anyone(self) -> bool:
        """Nobody was named."""
        return self.key is None and not self.certificates


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed, as the signature says; `verified`: by whom `Trust` names.

    `fingerprint`: SHA-256; of a key over its PEM file, as `sha256sum` gives it, of a certificate over its DER.
    """

    by: Literal["key", "certificate", "sigstore"]
    fingerprint: str
    subject: str | None = None
    issuer: str | None = None
    expires: datetime.datetime | None = None
    verified: bool = False

    def __str__(self) -> str:
        if self.by == "certificate":
            return f"certificate {self.subject}, issued by {self.issuer}, sha256 {self.fingerprint}"
        return f"{self.by} with sha256 {self.fingerprint}" if self.by == "key" else "Sigstore, without a key"


class _PublicKey(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hint: str


class _RawCertificate(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    raw: bytes = msgspec.field(name="rawBytes")


class _Chain(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    certificates: list[_RawCertificate]


class _Material(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: _PublicKey | None = msgspec.field(name="publicKey", default=None)
    chain: _Chain | None = msgspec.field(name="x509CertificateChain", default=None)
    sigstore: dict[str, Any] | None = msgspec.field(name="certificate", default=None)
    log: list[Any] = msgspec.field(name="tlogEntries", default_factory=list)
    timestamps: Any = msgspec.field(name="timestampVerificationData", default=None)


class _OneSignature(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sig: bytes
    keyid: str = ""


class _Envelope(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    payload: bytes
    type: Literal["application/vnd.in-toto+json"] = msgspec.field(name="payloadType")
    signatures: list[_OneSignature]


class SignatureFile(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Sigstore bundle (v0.3) as model-signing writes it."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = msgspec.field(name="mediaType")
    material: _Material = msgspec.field(name="verificationMaterial")
    envelope: _Envelope = msgspec.field(name="dsseEnvelope")


def read_signature(folder: Path) -> SignatureFile:
    """The signature in `folder`, its form checked and nothing else.

    Raises:
        Broken: it is no signature.
    """
    path = folder / SIGNATURE
    if path.stat().st_size > _LARGEST:
        raise Broken(f"it is no signature: {path.stat().st_size} bytes")
    try:
        found = msgspec.convert(parse_unique_json(path.read_bytes()), SignatureFile)
    except ValueError as error:  # msgspec's are as well
        raise Broken(f"it is no signature: {error}") from error
    if len(found.envelope.signatures) != 1 or not found.envelope.signatures[0].sig:
        raise Broken("it is no signature: expected one, and not an empty one")
    material = found.material
    if sum(each is not None for each in (material.key, material.chain, material.sigstore)) != 1:
        raise Broken("it is no signature: expected one key or certificate chain")
    return found


def signed_by(signature: SignatureFile) -> Signed:
    """Whom the signature names; not whether it is theirs.

    Raises:
        Broken: its certificate cannot be read.
    """
    material = signature.material
    if material.key is not None:
        return Signed("key", material.key.hint)
    if material.chain is None:
        return Signed("sigstore", "")
    certificate = _chain(material.chain)[0]
    return Signed(
        "certificate",
        hashlib.sha256(certificate.public_bytes(_der())).hexdigest(),
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        certificate.not_valid_after_utc,
    )


def signed_files(signature: SignatureFile) -> dict[str, str]:
    """Path -> SHA-256 of every file that was signed, as the payload has them.

    Raises:
        Broken: it is not about files in this form.
    """
    try:
        said = parse_unique_json(signature.envelope.payload)
        predicate = said["predicate"]
        resources = predicate["resources"]
        found = {str(each["name"]): str(each["digest"]) for each in resources if each["algorithm"] == "sha256"}
        ignored = set(predicate["serialization"].get("ignore_paths", []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Broken(f"what it signs is no list of files: {error!r}") from error
    if len(found) != len(resources):
        raise Broken("it signs a file twice, or by another digest than SHA-256")
    if not ignored <= {SIGNATURE}:
        raise Broken(f"it leaves files out: {', '.join(sorted(map(str, ignored - {SIGNATURE})))}")
    return found


def require_valid(folder: Path, signature: SignatureFile, signed: Signed, trust: Trust) -> None:
    """The signature is by whom `trust` names, and for what lies in `folder`.

    Raises:
        Broken: it is not.
        BadInput: the key or the certificates of `trust` cannot be used.
    """
    if signed.by == "sigstore":
        raise Broken("it was made by Sigstore without a key, which cannot be verified offline")
    if trust.key is not None:
        if signed.by != "key":
            raise Broken(f"it was made with a {signed}, and not with the key {trust.key}")
        if (own := fingerprint(trust.key)) != signed.fingerprint:
            raise Broken(f"it was made with another key: expected sha256 {own} ({trust.key}), got {signed.fingerprint}")
    elif signed.by != "certificate":
        raise Broken(f"it was made with a {signed}, and not with a certificate")
    else:
        assert signature.material.chain is not None
        _require_chain(_chain(signature.material.chain), trust, signed)
    _require_signature(folder, trust)


def _require_signature(folder: Path, trust: Trust) -> None:
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    config = verifying.Config().set_hashing_config(hashed())
    if trust.key is not None:
        config = config.use_elliptic_key_verifier(public_key=trust.key)
    else:
        config = config.use_certificate_verifier(certificate_chain=trust.certificates)
    try:
        config.verify(folder, folder / SIGNATURE)
    except InvalidSignature as error:
        raise Broken("it is not this key's signature of what it lists") from error
    except ValueError as error:
        raise Broken(str(error)) from error


def _require_chain(chain: list["Certificate"], trust: Trust, signed: Signed) -> None:
    """The library looks at the day on which the certificate began: nothing attests when the signature was made."""
    from OpenSSL import crypto

    at = trust.at or datetime.datetime.now(datetime.UTC)
    store = crypto.X509Store()
    for root in (root for path in trust.certificates for root in _certificates(path)):
        store.add_cert(crypto.X509.from_cryptography(root))
    store.set_time(at)
    leaf, *others = (crypto.X509.from_cryptography(each) for each in chain)
    try:
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        whose = error.certificate.to_cryptography().subject.rfc4514_string()
        files = ", ".join(map(str, trust.certificates))
        raise Broken(f"on {at:%Y-%m-%d} {files} does not certify {whose}: {error}") from error
    if trust.subject is not None and trust.subject != signed.subject:
        raise Broken(f"it was made by another subject: expected {trust.subject}, got {signed.subject}")


def fingerprint(key: Path) -> str:
    """SHA-256 of a public key in PEM, as signatures name it.

    Raises:
        BadInput: it is no public key.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        public = serialization.load_pem_public_key(key.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(key, "a public key in PEM", error) from error
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise _unusable(key, "a public key on P-256, P-384 or P-521", "a key of another kind")
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _certificates(path: Path) -> list["Certificate"]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(path, "certificates in PEM", error) from error


def _chain(chain: _Chain) -> list["Certificate"]:
    from cryptography import x509

    try:
        found = [x509.load_der_x509_certificate(each.raw) for each in chain.certificates]
    except ValueError as error:
        raise Broken(f"its certificate cannot be read: {error}") from error
    if not found:
        raise Broken("it has no certificate")
    return found


def _der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def _unusable(path: Path, expected: str, got: object) -> BadInput:
    return BadInput(
        f"cannot verify with {path}",
        expected=expected,
        got=str(got),
        next_step="name the file that whoever signs has published, not one that lies in the bundle",
    )
