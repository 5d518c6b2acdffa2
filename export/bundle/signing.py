"""Signing a bundle with a key or a certificate, offline, by OpenSSF's model-signing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import BadInput
from export.bundle.layout import SIGNATURE
from runtimes.host.packages import missing

if TYPE_CHECKING:
    from model_signing import hashing, signing

PASSWORD = "VIT_EXPORT_KEY_PASSWORD"  # noqa: S105 - the variable's name
"""The environment variable with the password of an encrypted key: on the command line others would see it."""

_CURVES = "a private key on P-256, P-384 or P-521 in PEM"
_PACKAGES = ("cyclonedx", "model_signing", "OpenSSL")


@dataclass(frozen=True, slots=True)
class Signer:
    """The private key; with a certificate, that of the key and those between it and the root."""

    key: Path
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()
    password: str | None = None

    def open(self) -> "signing.Config":
        """Ready to sign.

        Raises:
            BadInput: the key or a certificate cannot be used.
        """
        from model_signing import signing

        config = signing.Config().set_hashing_config(hashed())
        try:
            if self.certificate is None:
                # The library hands it on to `cryptography`, which wants bytes.
                password: object = None if self.password is None else self.password.encode()
                return config.use_elliptic_key_signer(private_key=self.key, password=password)  # type: ignore[arg-type]
            return config.use_certificate_signer(
                private_key=self.key, signing_certificate=self.certificate, certificate_chain=self.chain
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            # TypeError: a password is missing, or not needed; AttributeError: a key that is not on a curve.
            files = [self.key, *([self.certificate] if self.certificate else []), *self.chain]
            own = self.certificate is not None and self.password is not None
            raise BadInput(
                f"cannot sign with {', '.join(map(str, files))}",
                expected=f"{_CURVES}{', unencrypted, and its certificate' if self.certificate else ''}",
                got=_said(error, own_password=own),
                next_step=f"of an encrypted key the password goes into {PASSWORD}"
                if self.certificate is None
                else "model-signing takes no password of a key that has a certificate: decrypt it for the signing",
            ) from error


def _said(error: Exception, *, own_password: bool) -> str:
    if isinstance(error, AttributeError):
        return "a key of another kind"
    if own_password:
        return "an encrypted key"
    return str(error) or type(error).__name__


def hashed() -> "hashing.Config":
    """Every file but the signature, whatever its name; no links."""
    from model_signing import hashing

    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def sign(folder: Path, signer: "signing.Config") -> None:
    """Write the signature over all that lies in `folder`."""
    signer.sign(folder, folder / SIGNATURE)


def require_packages(purpose: str) -> None:
    """Before any work.

    Raises:
        MissingExtra: one of the packages of the extra `release` is not installed.
    """
    for package in _PACKAGES:
        if (error := missing(package, "release", purpose)) is not None:
            raise error
