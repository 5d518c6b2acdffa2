"""docs/release.md is followed as it stands."""

import re
from pathlib import Path

from PIL import Image

from export import api
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
