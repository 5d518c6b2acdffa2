"""Everything that can be done to a bundle is refused, and the message names the file and what is wrong with it."""

import base64
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from efficientvit.digests import file_digest
from export.bundle.check import check_bundle
from export.bundle.layout import BOM, CARD, INDEX, SIGNATURE, STATEMENT
from export.bundle.make import Release, bundle
from export.bundle.signature import Trust
from export.bundle.signing import Signer, hashed
from export.exits import Exit
from tests.export.bundle.conftest import COREML, ONNX, OPENVINO, Keys

Tamper = Callable[[Path], None]

MODEL = f"artifacts/{ONNX}/ship/efficientvit_m0.onnx"
IR, BIN = (f"artifacts/{OPENVINO}/ship/efficientvit_m0.{ending}" for ending in ("xml", "bin"))
PACKAGE = f"artifacts/{COREML}/ship/efficientvit_m0.mlpackage"
WEIGHTS = f"{PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
SETTINGS, MANIFEST = f"artifacts/{ONNX}/ship/runtime-settings.json", f"artifacts/{ONNX}/manifest.json"
LABELS = f"artifacts/{COREML}/ship/labels.txt"


def flip(path: str, place: int = -9) -> Tamper:
    """One bit."""

    def tamper(root: Path) -> None:
        content = bytearray((root / path).read_bytes())
        content[place] ^= 1
        (root / path).write_bytes(content)

    return tamper


def append(path: str, text: bytes = b"\n") -> Tamper:
    def tamper(root: Path) -> None:
        (root / path).write_bytes((root / path).read_bytes() + text)

    return tamper


def remove(path: str) -> Tamper:
    return lambda root: (root / path).unlink()


def add(path: str, content: bytes = b"x") -> Tamper:
    def tamper(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return tamper


def rename(old: str, new: str) -> Tamper:
    def tamper(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return tamper


def swap(one: str, other: str) -> Tamper:
    def tamper(root: Path) -> None:
        contents = (root / one).read_bytes(), (root / other).read_bytes()
        (root / one).write_bytes(contents[1])
        (root / other).write_bytes(contents[0])

    return tamper


def replace(path: str, old: str, new: str, count: int = 1) -> Tamper:
    def tamper(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        (root / path).write_text(text.replace(old, new, count), encoding="utf-8")

    return tamper


def substitute(path: str, pattern: str, new: str) -> Tamper:
    """The first match: figures are another host's on another host."""

    def tamper(root: Path) -> None:
        changed, found = re.subn(pattern, new, (root / path).read_text(encoding="utf-8"), count=1)
        assert found, f"{path} has no {pattern!r}"
        (root / path).write_text(changed, encoding="utf-8")

    return tamper


def edit(path: str, change: Callable[[Any], object]) -> Tamper:
    """A JSON document, written as ours are."""

    def tamper(root: Path) -> None:
        document = json.loads((root / path).read_text(encoding="utf-8"))
        change(document)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (root / path).write_text(text, encoding="utf-8")

    return tamper


def relisted(*tampers: Tamper) -> Tamper:
    """By somebody who writes the index anew as well."""

    def tamper(root: Path) -> None:
        for each in tampers:
            each(root)
        index = json.loads((root / INDEX).read_text(encoding="utf-8"))
        paths = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
        index["files"] = [
            {"path": path, "bytes": (root / path).stat().st_size, "sha256": file_digest(root / path)}
            for path in paths
            if path not in (INDEX, SIGNATURE)
        ]
        (root / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    return tamper


def to_link(path: str, *, hard: bool = False) -> Tamper:
    """The same content under a name outside of the bundle, and a link to it."""

    def tamper(root: Path) -> None:
        outside = root.parent / "outside"
        shutil.copyfile(root / path, outside)
        (root / path).unlink()
        (root / path).hardlink_to(outside) if hard else (root / path).symlink_to(outside)

    return tamper


def folder_link(root: Path) -> None:
    (root / f"artifacts/{ONNX}").rename(root.parent / "elsewhere")
    (root / f"artifacts/{ONNX}").symlink_to(root.parent / "elsewhere", target_is_directory=True)


def listed(change: Callable[[list[dict[str, Any]]], object]) -> Tamper:
    return edit(INDEX, lambda index: change(index["files"]))


def entry(path: str) -> dict[str, Any]:
    return {"path": path, "bytes": 1, "sha256": "0" * 64}


def resign(change: Callable[[dict[str, Any]], object]) -> Tamper:
    """The signed list of files, edited under the old signature."""

    def change_payload(document: dict[str, Any]) -> None:
        envelope = document["dsseEnvelope"]
        payload = json.loads(base64.b64decode(envelope["payload"]))
        change(payload)
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    return edit(SIGNATURE, change_payload)


def relabel_signed(root: Path) -> None:
    """A file changed, listed anew, and the signed list with it."""
    relisted(append(CARD))(root)

    def change(payload: dict[str, Any]) -> None:
        for each in payload["predicate"]["resources"]:
            each["digest"] = file_digest(root / each["name"])

    resign(change)(root)


def models(bom: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in bom["components"] if each["type"] == "machine-learning-model"]


def out_of_the_bundle(manifest: dict[str, Any]) -> None:
    manifest["artifact"] = manifest["stages"][-1]["artifact"]["path"] = "../../../../etc/passwd"


def rejected(manifest: dict[str, Any]) -> None:
    manifest["status"] = "rejected"


CARELESS: dict[str, tuple[Tamper, str, str]] = {
    "a bit of an ONNX file": (flip(MODEL), MODEL, "it was changed: expected sha256"),
    "a bit of an IR": (flip(IR), IR, "it was changed"),
    "a bit of an IR's weights": (flip(BIN), BIN, "it was changed"),
    "a bit of a Core ML package's weights": (flip(WEIGHTS), WEIGHTS, "it was changed"),
    "a bit of a Core ML package's manifest": (flip(f"{PACKAGE}/Manifest.json"), f"{PACKAGE}/Manifest.json", "changed"),
    "a bit of the labels": (flip(LABELS), LABELS, "it was changed"),
    "a bit of the settings": (flip(SETTINGS), SETTINGS, "it was changed"),
    "a bit of a manifest": (flip(MANIFEST), MANIFEST, "it was changed"),
    "a bit of the card": (flip(CARD), CARD, "it was changed"),
    "a bit of the BOM": (flip(BOM), BOM, "it was changed"),
    "a bit of the statement": (flip(STATEMENT), STATEMENT, "it was changed"),
    "a bit of the index": (flip(INDEX), INDEX, "it cannot be read"),
    "a bit of the signature's file": (flip(SIGNATURE, 40), SIGNATURE, "it is no signature"),
    "a file cut off": (lambda root: os.truncate(root / MODEL, 1000), MODEL, "it has 1000 bytes, and the index says"),
    "a file made empty": (lambda root: os.truncate(root / BIN, 0), BIN, "it has 0 bytes"),
    "a line more in the card": (append(CARD), CARD, "bytes, and the index says"),
    "a file added": (add("run_me.sh"), "run_me.sh", "it is not in the index"),
    "a file added to an artifact": (add(f"artifacts/{ONNX}/ship/x.so"), f"artifacts/{ONNX}/ship/x.so", "not in the"),
    "a file that git ignores added": (add(".gitattributes"), ".gitattributes", "it is not in the index"),
    "an empty folder added": (lambda root: (root / "new").mkdir(), "new", "an empty folder"),
    "a file removed": (remove(MODEL), MODEL, "the index lists it, and it is missing"),
    "the card removed": (remove(CARD), CARD, "the index lists it, and it is missing"),
    "a manifest removed": (remove(MANIFEST), MANIFEST, "it is missing"),
    "the index removed": (remove(INDEX), INDEX, "it is missing"),
    "a file renamed": (rename(MODEL, f"{MODEL}.bak"), MODEL, "it is missing"),
    "an artifact renamed": (rename(f"artifacts/{ONNX}", "artifacts/better"), MANIFEST, "it is missing"),
    "two artifacts' settings swapped": (swap(SETTINGS, SETTINGS.replace(ONNX, COREML)), SETTINGS, "the index says"),
    "two artifacts' manifests swapped": (swap(MANIFEST, MANIFEST.replace(ONNX, OPENVINO)), MANIFEST, "the index says"),
    "a symbolic link in a file's place": (to_link(MODEL), MODEL, "a symbolic link"),
    "a symbolic link in a folder's place": (folder_link, f"artifacts/{ONNX}", "a symbolic link"),
    "a dangling link added": (lambda root: (root / "a").symlink_to("nowhere"), "a", "a symbolic link"),
    "a hard link in a file's place": (to_link(MODEL, hard=True), MODEL, "a hard link"),
    "a pipe added": (lambda root: os.mkfifo(root / "pipe"), "pipe", "no regular file"),
    "a name in another case added": (add("readme.md"), "readme.md", "on some systems it is the same file as README.md"),
    "a name in decomposed Unicode added": (add("cafe\u0301.txt"), "cafe\u0301.txt", "composed form"),
    "a name with a line break added": (add("a\nb"), "a\nb", "not every system allows"),
    "a name that Windows shortens added": (add("README.md."), "README.md.", "not every system allows"),
    "more in the index": (listed(lambda files: files.append(entry("more"))), "more", "it is missing"),
    "less in the index": (listed(lambda files: files.pop()), STATEMENT, "it is not in the index"),
    "a file twice in the index": (listed(lambda files: files.append(files[0])), INDEX, "twice"),
    "a path out of the bundle": (listed(lambda files: files.append(entry("../x"))), INDEX, "leads out of the bundle"),
    "an absolute path": (listed(lambda files: files.append(entry("/etc/passwd"))), INDEX, "leads out of the bundle"),
    "a path by detours": (listed(lambda files: files.append(entry("a/./b"))), INDEX, "not in its shortest form"),
    "a path with backslashes": (listed(lambda files: files.append(entry("a\\..\\b"))), INDEX, "not every system"),
    "a key twice in the index": (replace(INDEX, '"schema": 1,', '"schema": 1, "schema": 1,'), INDEX, "twice in one"),
    "an unknown key in the index": (edit(INDEX, lambda index: index.update(extra=1)), INDEX, "extra"),
    "another schema in the index": (edit(INDEX, lambda index: index.update(schema=2)), INDEX, "schema"),
    "the version edited": (edit(INDEX, lambda index: index.update(version="1.2.1")), STATEMENT, "predicate.version"),
    "the name edited": (edit(INDEX, lambda index: index.update(name="other")), CARD, "line"),
    "the license edited": (edit(INDEX, lambda index: index.update(license="GPL-3.0-only")), CARD, "line"),
    "no name in the index": (edit(INDEX, lambda index: index.update(name="\x1b[2J")), INDEX, "cannot be printed"),
    "the index nested too deeply": (add(INDEX, b"[" * 100_000), INDEX, "nested too deeply"),
    "no artifact in the index": (edit(INDEX, lambda index: index.update(artifacts=[])), INDEX, "it lists no artifact"),
    "the signature removed": (remove(SIGNATURE), SIGNATURE, "it is missing: the bundle is unsigned"),
    "the signature made empty": (add(SIGNATURE, b""), SIGNATURE, "it is no signature"),
    "no signature in the signature": (
        edit(SIGNATURE, lambda file: file["dsseEnvelope"].update(signatures=[])), SIGNATURE, "expected one"
    ),
    "an empty signature in the signature": (
        edit(SIGNATURE, lambda file: file["dsseEnvelope"]["signatures"][0].update(sig="")), SIGNATURE, "not an empty"
    ),
    "the signed list edited": (resign(lambda said: said["predicate"].update(extra=1)), SIGNATURE, "not this key's"),
    "files left out of the signed list": (
        resign(lambda said: said["predicate"]["serialization"].update(ignore_paths=["README.md"])),
        SIGNATURE,
        "it leaves files out: README.md",
    ),
    "a file changed, and listed anew": (relisted(append(CARD)), SIGNATURE, f"it is about another {CARD}, {INDEX}"),
    "a file changed, and the signed list with it": (relabel_signed, SIGNATURE, "not this key's signature"),
    "a file added, and listed": (relisted(add("artifacts/x")), SIGNATURE, "it does not cover artifacts/x"),
    "a file removed, and not listed": (relisted(remove(CARD)), SIGNATURE, f"it is about {CARD}"),
}  # fmt: skip
"""What: how, the file that is named, and what is said of it."""

CAREFUL: dict[str, tuple[Tamper, str, str]] = {
    "another model": (flip(MODEL), MANIFEST, "efficientvit_m0.onnx is not the file that stage"),
    "other weights in a package": (flip(WEIGHTS), f"artifacts/{COREML}/manifest.json", "is not the file that stage"),
    "other labels": (replace(LABELS, "tench", "tank"), f"artifacts/{COREML}/manifest.json", "labels.txt"),
    "other settings": (append(SETTINGS), MANIFEST, "runtime-settings.json is not the one"),
    "two artifacts' files swapped": (swap(BIN, MODEL), MANIFEST, "is not the file that stage"),
    "a file that no manifest speaks of": (
        add(f"artifacts/{ONNX}/ship/x.so"), f"artifacts/{ONNX}/ship/x.so", "its manifest does not speak of it"
    ),
    "a file of no artifact": (add("artifacts/stray"), "artifacts/stray", "belongs to no artifact"),
    "a file at the top": (add("setup.py"), "setup.py", "belongs to no artifact"),
    "a verdict edited to rejected": (edit(MANIFEST, rejected), MANIFEST, "its verdict is rejected"),
    "an exit code edited": (edit(MANIFEST, lambda m: m.update(exit_code=3)), MANIFEST, "exited with code 3"),
    "a gate edited": (
        edit(MANIFEST, lambda m: m["stages"][-1]["verdict"]["gates"]["structure"].update(passed=False)),
        MANIFEST,
        "over budget: structure",
    ),
    "an error edited": (
        edit(MANIFEST, lambda m: m["stages"][-1]["verdict"]["gates"]["structure"].update(worst=1e-9)),
        STATEMENT,
        "and the manifests say",
    ),
    "a key twice in a manifest": (replace(MANIFEST, '"schema": 1,', '"schema": 1, "schema": 1,'), MANIFEST, "twice"),
    "a manifest's path out of the bundle": (
        edit(MANIFEST, out_of_the_bundle),
        MANIFEST,
        "names a file outside of it",
    ),
    "another artifact in a manifest": (
        edit(MANIFEST, lambda m: m.update(artifact="ship/labels.txt")), MANIFEST, "its last stage made ship/efficient"
    ),
    "evidence edited in the index": (
        edit(INDEX, lambda index: index["artifacts"][0].update(evidence="native")), INDEX, "evidence is native"
    ),
    "a digest edited in the index": (
        edit(INDEX, lambda index: index["artifacts"][1].update(sha256="0" * 64)), INDEX, "sha256 is 000"
    ),
    "trained, says the index": (
        edit(INDEX, lambda index: index["artifacts"][1].update(trained=True)), INDEX, "trained is True"
    ),
    "an artifact left out of the index": (
        edit(INDEX, lambda index: index["artifacts"].pop(0)), f"artifacts/{COREML}/manifest.json", "no artifact"
    ),
    "an artifact twice in the index": (
        edit(INDEX, lambda index: index["artifacts"].append(index["artifacts"][0])), INDEX, "twice"
    ),
    "a verdict edited in the statement": (
        replace(STATEMENT, '"status": "verified"', '"status": "built"'), STATEMENT, "artifacts[0].status says 'built'"
    ),
    "a digest edited in the statement": (
        edit(STATEMENT, lambda said: said["subject"][0]["digest"].update(sha256="0" * 64)), STATEMENT, "subject[0]"
    ),
    "a subject left out of the statement": (
        edit(STATEMENT, lambda said: said["subject"].pop()), STATEMENT, "subject has"
    ),
    "another kind of statement": (
        edit(STATEMENT, lambda said: said.update(predicateType="https://example.org")), STATEMENT, "predicateType"
    ),
    "a digest edited in the BOM": (
        edit(BOM, lambda bom: models(bom)[0]["components"][0]["hashes"][0].update(content="0" * 64)),
        BOM,
        "hashes[0].content says",
    ),
    "a tool edited in the BOM": (replace(BOM, '"torch"', '"touch"'), BOM, "'touch'"),
    "a component left out of the BOM": (edit(BOM, lambda bom: bom["components"].pop()), BOM, "components has"),
    "a BOM that is none": (add(BOM, b"{"), BOM, "it is no JSON"),
    "a figure edited in the card": (substitute(CARD, r"(\d\.\d)e-0(\d)", r"\1e-1\2"), CARD, "the manifests say"),
    "the warning gone from the card": (replace(CARD, "**Untrained weights**", "**Trained**"), CARD, "Untrained"),
    "a line more in the card": (append(CARD, b"Trust me.\n"), CARD, "lines"),
    "no card": (remove(CARD), CARD, "it is missing"),
}  # fmt: skip
"""The same of an unsigned bundle whose index was written anew: its parts contradict each other all the same."""


@pytest.mark.parametrize("what", CARELESS)
def test_a_signed_bundle_that_was_tampered_with_is_refused_by_name(what: str, signed: Path, keys: Keys) -> None:
    tamper, file, says = CARELESS[what]
    tamper(signed)
    checked = check_bundle(signed, Trust(key=keys.public))
    assert checked.code is Exit.REJECTED
    assert [each for each in checked.problems if each.file.startswith(file) and says in each.what], checked.problems
    assert not (checked.signed and checked.signed.verified) or file != SIGNATURE


@pytest.mark.parametrize("what", CAREFUL)
def test_an_unsigned_bundle_that_contradicts_itself_is_refused_by_name(what: str, unsigned: Path) -> None:
    tamper, file, says = CAREFUL[what]
    relisted(tamper)(unsigned)
    checked = check_bundle(unsigned, Trust(), allow_unsigned=True)
    assert checked.code is Exit.REJECTED
    assert [each for each in checked.problems if each.file == file and says in each.what], checked.problems


def test_nothing_that_was_not_tampered_with_is_refused(signed: Path, keys: Keys) -> None:
    checked = check_bundle(signed, Trust(key=keys.public))
    assert (checked.problems, checked.notes, checked.code) == ((), (), Exit.OK)
    relisted()(signed)
    assert check_bundle(signed, Trust(key=keys.public)).code is Exit.OK
    (signed / SIGNATURE).unlink()
    assert check_bundle(signed, Trust(), allow_unsigned=True).code is Exit.OK


def test_a_signature_by_another_key_is_refused(signed: Path, keys: Keys, other_keys: Keys) -> None:
    (signed / SIGNATURE).unlink()
    config = Signer(other_keys.private).open()
    config.set_hashing_config(hashed()).sign(signed, signed / SIGNATURE)
    assert check_bundle(signed, Trust(key=other_keys.public)).code is Exit.OK
    checked = check_bundle(signed, Trust(key=keys.public))
    assert checked.code is Exit.REJECTED
    assert "it was made with another key: expected sha256" in str(checked.problems[0])


def test_a_key_named_as_another_is_refused(signed: Path, keys: Keys, other_keys: Keys) -> None:
    """The name of the right key, and the signature of another."""
    right = json.loads((signed / SIGNATURE).read_text())["verificationMaterial"]
    (signed / SIGNATURE).unlink()
    Signer(other_keys.private).open().sign(signed, signed / SIGNATURE)
    edit(SIGNATURE, lambda file: file.update(verificationMaterial=right))(signed)
    checked = check_bundle(signed, Trust(key=keys.public))
    assert "it is not this key's signature" in str(checked.problems[0])


def test_the_signature_of_another_bundle_is_refused(
    signed: Path, folders: list[Path], keys: Keys, tmp_path: Path
) -> None:
    other = bundle(folders, Release("effvit", "1.1.0", "mit"), tmp_path, signer=Signer(keys.private)).folder
    shutil.copyfile(other / SIGNATURE, signed / SIGNATURE)
    for trust in (Trust(key=keys.public), Trust()):  # even if nobody says whose it has to be
        checked = check_bundle(signed, trust)
        assert checked.code is Exit.REJECTED
        assert f"it is about another {CARD}, " in str(checked.problems[0])


def test_the_command_exits_with_1_and_names_the_file(signed: Path, keys: Keys, command: Any) -> None:
    ran = command("verify-bundle", str(signed), "--key", str(keys.public), "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["signed"]["verified"] is True
    flip(MODEL)(signed)
    ran = command("verify-bundle", str(signed), "--key", str(keys.public), "--json")
    assert ran.code == 1
    assert f"{MODEL}: it was changed" in " ".join(ran.err.split())
    assert MODEL in {each["file"] for each in json.loads(ran.out)["problems"]}
