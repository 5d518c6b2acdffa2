"""What may be bundled, and that a bundle is whole or not there."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import BadInput, BadOption, BadOutput, MissingExtra, NotPassed
from export.bundle.layout import SIGNATURE
from export.bundle.make import Release, bundle
from export.bundle.signing import PASSWORD, Signer
from export.exits import exit_code
from export.folder.exported import read_manifest
from export.folder.findings import not_passed
from tests.export.bundle.conftest import COREML, NAMES, ONNX, Keys

RELEASE = Release("effvit", "1.2.0", "mit")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copied(folders: list[Path], tmp_path: Path) -> Path:
    """An export to spoil."""
    return Path(shutil.copytree(folders[0], tmp_path / ONNX))


def device_entry(status: str) -> dict[str, Any]:
    return {
        "report": {"path": "evidence/device-reports/x.json", "sha256": "0" * 64},
        "tool": {"name": "check_on_mac.py", "version": "0.1.0", "runtime": "coremltools 9.0"},
        "device": {"model": "Mac14,2", "os": "macOS 15.1", "os_build": None, "chip": None},
        "unit": "CPU_AND_NE",
        "status": status,
        "reason": None,
        "evidence": "native",
        "engine": None,
        "kinds": [],
        "quality": None,
        "jpeg": None,
        "timing": {"measured": False, "reason": "not asked for"},
        "compute_plan": None,
    }


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_every_ship_is_there_as_it_was(signed_once: Path, folders: list[Path]) -> None:
    for folder in folders:
        place = signed_once / "artifacts" / folder.name
        assert files(place / "ship") == files(folder / "ship")
        assert {each.name for each in place.iterdir()} == {"manifest.json", "ship"}
    index = json.loads((signed_once / "index.json").read_text())
    assert [each["name"] for each in index["artifacts"]] == sorted(NAMES)
    assert {each["path"] for each in index["files"]} == files(signed_once).keys() - {"index.json", SIGNATURE}


def test_the_same_folders_give_the_same_bytes(folders: list[Path], signed_once: Path, tmp_path: Path) -> None:
    again = bundle(folders[::-1], RELEASE, tmp_path).folder
    first = files(signed_once)
    assert first.pop(SIGNATURE)
    assert files(again) == first


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(status="not_run"), "its verdict is not_run"),
        (lambda m: m.update(exit_code=3), "its export exited with code 3"),
        (lambda m: m["weights"].update(fallback=True), "untrained fallback"),
        (lambda m: m["self_check"].update(vacuous=True, failures=["why"]), "vacuous: why"),
        (lambda m: m.update(evidence_required="native"), "reference evidence, where native is required"),
        (lambda m: m["stages"][1]["verdict"].update(status="rejected"), "was rejected"),
        (lambda m: m.update(artifact=None), "holds nothing that may ship"),
    ],
)
def test_what_did_not_pass_is_not_bundled(
    change: Callable[[dict[str, Any]], object], says: str, folders: list[Path], tmp_path: Path
) -> None:
    spoiled = edited(Path(shutil.copytree(folders[NAMES.index(COREML)], tmp_path / COREML)), change)
    with pytest.raises(NotPassed) as raised:
        bundle([folders[0], spoiled], RELEASE, tmp_path / "dist")
    assert f"{spoiled}" in str(raised.value)
    assert says in str(raised.value)
    assert str(folders[0]) not in str(raised.value)
    assert exit_code(raised.value) == 1
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "ship/efficientvit_m0.onnx").write_bytes(b"other"), "is not the file that stage"),
        (lambda f: (f / "ship/runtime-settings.json").write_text("{}"), "is not the one that the manifest is about"),
        (lambda f: (f / "ship/.DS_Store").write_text(""), "ship/.DS_Store is not in its manifest"),
        (lambda f: (f / "ship/link").symlink_to("/etc/passwd"), "ship/link: a symbolic link"),
        (lambda f: (f / "ship/runtime-settings.json").unlink(), "runtime-settings.json"),
    ],
)
def test_files_that_are_not_the_manifests_are_not_bundled(
    spoil: Callable[[Path], object], says: str, copied: Path, tmp_path: Path
) -> None:
    spoil(copied)
    with pytest.raises((NotPassed, OSError)) as raised:
        bundle([copied], RELEASE, tmp_path / "dist")
    assert isinstance(raised.value, NotPassed)
    assert says in str(raised.value)


def test_a_device_that_failed_forbids_it_until_it_passes(folders: list[Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders[NAMES.index(COREML)], tmp_path / COREML))
    failed, passed = device_entry("crashed"), device_entry("passed")
    edited(folder, lambda m: m.update(devices=[failed]))
    assert list(not_passed(read_manifest(folder))) == ["Mac14,2 crashed it on CPU_AND_NE"]
    edited(folder, lambda m: m.update(devices=[failed, passed]))
    assert list(not_passed(read_manifest(folder))) == []
    picture = {"route": "vision", "error": 0.5, "budget": 0.1, "passed": False}
    edited(folder, lambda m: m.update(devices=[{**passed, "jpeg": picture}]))
    (why,) = not_passed(read_manifest(folder))
    assert why == "Mac14,2 rejected it on CPU_AND_NE: its picture is off by 0.5 of at most 1.0e-01"


def test_a_version_is_released_once(folders: list[Path], tmp_path: Path) -> None:
    made = bundle(folders[:1], RELEASE, tmp_path).folder
    (made / "mine.txt").write_text("note")
    with pytest.raises(BadOutput, match="a version is released once"):
        bundle(folders[:1], RELEASE, tmp_path)
    assert (made / "mine.txt").exists()
    bundle(folders[:1], RELEASE, tmp_path, replace=True)
    assert not (made / "mine.txt").exists()
    assert [each.name for each in tmp_path.iterdir()] == [made.name]


def test_a_bundle_that_cannot_be_signed_is_not_there(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    from export.bundle import make

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make, "sign", fails)
    with pytest.raises(BadOutput, match="cannot write"):
        bundle(folders[:1], RELEASE, tmp_path / "dist", signer=Signer(keys.private))
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.parametrize(
    ("release", "says"),
    [
        (Release("a/b", "1"), "--name"),
        (Release("a", "../1"), "--version"),
        (Release("a", "1."), "--version"),
        (Release("", "1"), "--name"),
        (Release("a", "1", "my own"), "--license"),
    ],
)
def test_names_that_cannot_be_are_refused(release: Release, says: str, folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=says):
        bundle(folders[:1], release, tmp_path)


def test_two_folders_of_the_same_name_are_refused(copied: Path, folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="cannot be bundled under the name"):
        bundle([folders[0], copied], RELEASE, tmp_path / "dist")


@pytest.mark.parametrize("package", ["cyclonedx", "model_signing", "OpenSSL"])
def test_a_missing_extra_is_found_before_any_work(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("runtimes.host.packages.find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtra) as raised:
        bundle([tmp_path / "nothing"], RELEASE, tmp_path / "dist")
    assert "release" in str(raised.value.next_step)
    assert exit_code(raised.value) == 3


def test_the_command(folders: list[Path], keys: Keys, command: Any, tmp_path: Path) -> None:
    given = ("--name", "effvit", "--version", "2.0", "--sign-key", str(keys.private), "--json")
    ran = command("bundle", *map(str, folders), *given)
    assert ran.code == 0, ran.err
    assert "verify-bundle dist/effvit-2.0 --key PUBLIC_KEY" in ran.err
    assert json.loads(ran.out)["folder"] == "dist/effvit-2.0"
    assert command("verify-bundle", "dist/effvit-2.0", "--key", str(keys.public)).code == 0
    ran = command("verify-bundle", "dist/effvit-2.0")
    assert (ran.code, "NOT VERIFIED" in ran.err) == (3, True)
    assert command("verify-bundle", "dist/effvit-2.0", "--allow-unsigned").code == 0
    (tmp_path / "dist/effvit-2.0" / SIGNATURE).unlink()
    assert command("verify-bundle", "dist/effvit-2.0").code == 1
    ran = command("verify-bundle", "dist/effvit-2.0", "--allow-unsigned")
    assert (ran.code, "UNSIGNED" in ran.err) == (0, True)
    assert command("verify-bundle", "dist/effvit-2.0", "--allow-unsigned", "--key", str(keys.public)).code == 1


def test_a_folder_that_is_none_exits_with_2(command: Any) -> None:
    for arguments in (("bundle", "nowhere", "--name", "a", "--version", "1"), ("verify-bundle", "nowhere")):
        assert command(*arguments).code == 2


def test_an_encrypted_key_needs_its_password(folders: list[Path], command: Any, tmp_path: Path) -> None:
    keys = Keys.drawn(tmp_path, "locked", password="secret")
    given = ("bundle", str(folders[0]), "--name", "a", "--version", "1", "--sign-key", str(keys.private))
    ran = command(*given)
    assert ran.code == 2
    assert PASSWORD in ran.err
    assert command(*given, **{PASSWORD: "wrong"}).code == 2
    assert not (tmp_path / "dist").exists()
    assert command(*given, **{PASSWORD: "secret"}).code == 0
    assert command("verify-bundle", "dist/a-1", "--key", str(keys.public)).code == 0


@pytest.mark.parametrize("content", [b"", b"no key", "public", "rsa"])
def test_what_is_no_private_key_is_refused(
    content: bytes | str, keys: Keys, folders: list[Path], tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from tests.export.bundle.conftest import write_key

    path = tmp_path / "key.pem"
    if content == "rsa":
        write_key(rsa.generate_private_key(65537, 2048), path, tmp_path / "x")
    else:
        path.write_bytes(keys.public.read_bytes() if content == "public" else bytes(content))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="cannot sign with"):
        bundle(folders[:1], RELEASE, tmp_path / "dist", signer=Signer(path))
