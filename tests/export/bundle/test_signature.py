"""Signatures by certificate: by whom, issued by whom, valid on which day."""

import datetime
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from efficientvit.errors import BadInput
from export.bundle.check import Checked, check_bundle
from export.bundle.layout import SIGNATURE
from export.bundle.signature import Trust
from export.bundle.signing import Signer
from export.exits import Exit
from tests.export.bundle.conftest import NOW, Authority, Keys


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "Root")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "Root")  # the same name, and another key


def signed_by(signer: Signer, folder: Path) -> Path:
    (folder / SIGNATURE).unlink(missing_ok=True)
    signer.open().sign(folder, folder / SIGNATURE)
    return folder


def check(folder: Path, *roots: Path, subject: str | None = None, days: int = 0) -> Checked:
    at = NOW + datetime.timedelta(days=days)
    return check_bundle(folder, Trust(certificates=roots, subject=subject, at=at))


def test_a_certificate_says_who_signed(signed: Path, authority: Authority) -> None:
    signed_by(authority.signer("release"), signed)
    checked = check(signed, authority.root, subject="CN=release")
    assert checked.code is Exit.OK, checked.problems
    assert checked.signed is not None
    assert (checked.signed.subject, checked.signed.issuer) == ("CN=release", "CN=Root")
    assert "certificate CN=release, issued by CN=Root, sha256 " in str(checked.signed)
    assert check_bundle(signed, Trust()).code is Exit.NOT_VERIFIED


def test_a_certificate_of_another_authority_is_refused(signed: Path, authority: Authority, stranger: Authority) -> None:
    signed_by(stranger.signer("release"), signed)
    checked = check(signed, authority.root)
    assert checked.code is Exit.REJECTED
    assert "does not certify CN=release" in str(checked.problems[0])
    assert check(signed, stranger.root).code is Exit.OK


def test_an_expired_certificate_is_refused_unless_the_day_is_named(signed: Path, authority: Authority) -> None:
    signed_by(authority.signer("release", days=-1), signed)
    checked = check(signed, authority.root)
    assert checked.code is Exit.REJECTED
    assert "2026-11-29" in str(checked.problems[0])
    assert "expired" in str(checked.problems[0])
    assert check(signed, authority.root, days=-50).code is Exit.OK
    assert check(signed, authority.root, days=-500).code is Exit.REJECTED  # not yet


def test_another_subject_of_the_same_authority_is_refused(signed: Path, authority: Authority) -> None:
    signed_by(authority.signer("intern"), signed)
    assert check(signed, authority.root).code is Exit.OK
    checked = check(signed, authority.root, subject="CN=release")
    assert "expected CN=release, got CN=intern" in str(checked.problems[0])


def test_a_key_is_no_certificate_and_the_reverse(signed: Path, authority: Authority, keys: Keys) -> None:
    checked = check(signed, authority.root)
    assert "and not with a certificate" in str(checked.problems[0])
    signed_by(authority.signer("release"), signed)
    checked = check_bundle(signed, Trust(key=keys.public))
    assert "not with the key" in str(checked.problems[0])


def test_a_root_that_signs_nothing_does_not_certify_itself(signed: Path, authority: Authority) -> None:
    signed_by(authority.signer("release"), signed)
    (signed / "artifacts" / "x").write_bytes(b"x")
    assert "it does not cover artifacts/x" in " ".join(map(str, check(signed, authority.root).problems))


def test_a_certificate_of_another_key_cannot_sign(authority: Authority) -> None:
    one, other = authority.signer("release"), authority.signer("other")
    with pytest.raises(BadInput, match="cannot sign with"):
        replace(one, key=other.key).open()


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_what_is_no_public_key_or_certificate_is_refused(
    content: bytes, signed: Path, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadInput, match="cannot verify with"):
        check_bundle(signed, Trust(key=tmp_path / "file"))
    signed_by(authority.signer("release"), signed)
    with pytest.raises(BadInput, match="cannot verify with"):
        check(signed, tmp_path / "file")
    with pytest.raises(BadInput, match="cannot verify with"):
        check(signed, tmp_path / "missing")


def test_a_private_key_is_not_taken_for_a_public_one(signed: Path, keys: Keys) -> None:
    with pytest.raises(BadInput, match="a public key in PEM"):
        check_bundle(signed, Trust(key=keys.private))


def test_a_copy_verifies_wherever_it_lies(signed: Path, keys: Keys, tmp_path: Path) -> None:
    moved = Path(shutil.move(signed, tmp_path / "renamed"))
    assert check_bundle(moved, Trust(key=keys.public)).code is Exit.OK
