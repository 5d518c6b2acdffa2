"""docs/release.md is followed as it stands."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from export import api
from tests.export.bundle.conftest import write_key
from tests.export.conftest import Command

PAGE = (Path(__file__).parents[3] / "docs/release.md").read_text(encoding="utf-8")
FIRST, SECOND = (block.partition("```")[0] for block in PAGE.split("```toml\n")[1:])


def test_the_first_recipe_is_made_by_the_commands_shown(command: Command, tmp_path: Path) -> None:
    (tmp_path / "release.toml").write_text(FIRST)
    lines = [line.split("#")[0].split() for line in PAGE.splitlines() if line.startswith("vit-export release ")]
    assert [("--dry-run" in words, "--junit" in words) for words in lines] == [(True, False), (False, True)]
    for words in lines:
        ran = command(*words[1:], XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert ran.code == 0, ran.err
    folder = tmp_path / "releases" / "plants-1.4.0"
    assert sorted(path.name for path in folder.iterdir()) == [
        "m0-64-onnx-fp16-untrained",
        "m0-64-onnx-fp32-untrained",
        "m0-64-openvino-fp16-untrained",
        "m0-64-openvino-fp32-untrained",
        "release.html",
        "release.json",
    ]
    assert (tmp_path / "plants.xml").is_file()
    _signed(command, folder)
    _refused_once_it_was_changed(command, folder)


def _signed(command: Command, folder: Path) -> None:
    root = folder.parents[1]
    write_key(ec.generate_private_key(ec.SECP256R1()), root / "key.pem", root / "key.pub")
    lines = [line.split() for line in PAGE.splitlines() if re.match("vit-export (verify-)?bundle ", line)]
    assert [words[1] for words in lines] == ["bundle", "verify-bundle"]
    for words in lines:
        ran = command(*words[1:])
        assert ran.code == 0, ran.err
    bundled = root / "dist" / "plants-1.4.0" / "artifacts"
    assert {path.name for path in bundled.iterdir()} == {path.name for path in folder.iterdir() if path.is_dir()}


def _refused_once_it_was_changed(command: Command, folder: Path) -> None:
    record = folder / "release.json"
    honest = record.read_text()

    def bundled(change: Callable[[dict[str, Any]], object]) -> tuple[int, str]:
        document = json.loads(honest)
        change(document)
        record.write_text(json.dumps(document))
        ran = command("bundle", str(folder), "-o", "other")
        return ran.code, ran.err

    def rejected(document: dict[str, Any]) -> None:
        document["ready"] = False
        document["artifacts"][1].update(exit_code=1, reason="the size gate")

    assert bundled(lambda document: None)[0] == 0
    name = json.loads(honest)["artifacts"][1]["name"]
    code, said = bundled(rejected)
    assert code == 1
    assert f"{name}: the size gate" in " ".join(said.split())
    code, said = bundled(lambda document: document["artifacts"][0].update(folder="../elsewhere"))
    assert code == 2
    assert "within the release" in said
    code, said = bundled(lambda document: document.update(version=7))
    assert (code, "version" in said) == (2, True)
    code, said = bundled(lambda document: document["artifacts"][0].update(manifest_sha256="0" * 64))
    assert code == 1
    assert "is not what the release in" in " ".join(said.split())
    assert command("bundle", str(folder / name)).code == 2, "exports alone have no name and no version"


def test_the_second_recipe_asks_for_what_the_page_says(tmp_path: Path) -> None:
    for folder in ("photos", "checkpoints"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (300, 300)).save(tmp_path / "photos" / "a.png")
    for model in ("m0", "m2"):
        (tmp_path / "checkpoints" / f"{model}.pth").touch()
    (tmp_path / "release.toml").write_text(SECOND)
    found = [each.artifact.name for each in api.plan(tmp_path / "release.toml").artifacts]
    assert len(found) == 2 * (3 * 3 - 1) + 1
    assert "m0-coreml-fp16-int8-ios16-m0" in found
    assert "m2-onnx-fp32-image-topk-5-m2" in found
    assert not any(name.startswith("m0-coreml-fp32") for name in found)


def test_the_error_is_the_one_shown(command: Command, tmp_path: Path) -> None:
    said = re.search(r"```\nerror: (.*?)```", PAGE, re.DOTALL)
    assert said is not None
    (tmp_path / "release.toml").write_text(FIRST.replace("precision = [", "precison = ["))
    assert f"error: {said[1]}" == command("release", "release.toml").err
