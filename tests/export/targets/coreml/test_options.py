"""Options of a Core ML package through the command line: an app team's own classes, weights in 8 bits, and refusals."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import pytest

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded
from runtimes.artifact import digest
from tests.command_line import SEARCHED, in_this_process

ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibex", "jay", "kiwi", "lynx")
SHARED = ("m0", "-t", "coreml", "-w", "animals.safetensors", "--no-time", "--no-kit", "-o", "out")
pytestmark = pytest.mark.tiny_m0
EIGHT_BITS = ("--ios", "16", "--weights-bits", "8", "--labels", "animals.txt")


@dataclass(frozen=True)
class Shipped:
    """A folder with somebody's weights and labels, and what one command made of them."""

    place: Path
    code: int
    err: str

    @property
    def folder(self) -> Path:
        (good,) = [path for path in (self.place / "out").iterdir() if path.suffix != ".rejected"]
        return good

    @property
    def manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return content

    @property
    def package(self) -> Path:
        return self.folder / "ship" / "efficientvit_m0.mlpackage"


def _vit_export(place: Path, *arguments: str) -> Shipped:
    """In a process of its own, whose sets are in an order of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "export", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": SEARCHED, "PYTHONHASHSEED": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Shipped(place, done.returncode, done.stderr)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes: as many as no published weights have."""
    place = tmp_path_factory.mktemp("animals")
    save_checkpoint(seeded(model_spec("m0", square(64), len(ANIMALS))), place / "animals.safetensors")
    (place / "animals.txt").write_text("".join(f"{name}\n" for name in ANIMALS))
    (place / "eleven.txt").write_text("".join(f"{name}\n" for name in ANIMALS[:-1]))
    (place / "twice.txt").write_text("".join(f"{name}\n" for name in (*ANIMALS[:-1], "cat")))
    return place


@pytest.fixture(scope="module")
def shipped(place: Path) -> Shipped:
    """One's own classes, weights in 8 bits, what is to stand in the metadata, and work fit for the Neural Engine."""
    said = ("--author", "The zoo", "--license", "CC0", "--ane-budget", "0.95")
    ran = in_this_process((*SHARED, *EIGHT_BITS, *said), place)
    return Shipped(place, ran.code, ran.err)


def test_weights_in_eight_bits_are_verified_and_say_what_is_in_them(shipped: Shipped) -> None:
    assert shipped.code == 0, shipped.err
    manifest = shipped.manifest
    assert manifest["status"] == "verified"
    spent = {"weights": "int8", "activations": "fp16", "execution": "fp16", "float_layers": []}
    assert manifest["precision"] == {**spent, "equalization": {}}
    assert [stage["name"] for stage in manifest["stages"]] == ["rewrite", "coreml", "compress"]
    assert manifest["settings"]["effective"]["precision"] == "fp16"
    sizes = [stage["artifact"]["bytes"] for stage in manifest["stages"][1:]]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    gates = manifest["stages"][-1]["verdict"]["gates"]
    assert 0 < gates["quality"]["worst"] < gates["quality"]["budget"]
    assert (gates["readiness"]["passed"], gates["readiness"]["worst"]) == (True, 0)
    assert manifest["coreml"]["neural_engine"]["budget"] == 0.95
    assert shipped.folder.name.startswith("m0-64-coreml-fp16-int8-labels-")
    assert "-ios16-animals-" in shipped.folder.name


def test_the_package_bears_the_labels_of_the_file(shipped: Shipped) -> None:
    """In Core ML's own words, read by coremltools: the class it is asked for, and a probability for each label."""
    model = ct.utils.load_spec(str(shipped.package))
    outputs = {output.name: output.type.WhichOneof("Type") for output in model.description.output}
    assert outputs == {"logits": "multiArrayType", "classLabel": "stringType", "probabilities": "dictionaryType"}
    (function,) = model.mlProgram.functions.values()
    (classify,) = [op for op in function.block_specializations[function.opset].operations if op.type == "classify"]
    values = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
    assert [value.immediateValue.tensor.strings.values[0] for value in values] == list(ANIMALS)
    assert (shipped.folder / "ship" / "labels.txt").read_text().splitlines() == list(ANIMALS)


def test_a_package_found_in_an_app_can_be_traced_to_its_weights_and_its_check(shipped: Shipped) -> None:
    metadata = ct.utils.load_spec(str(shipped.package)).description.metadata
    manifest = shipped.manifest
    assert (metadata.author, metadata.license) == ("The zoo", "CC0")
    assert metadata.shortDescription == "EfficientViT-M0 at 64 x 64, 12 classes"
    own = {key.removeprefix("vit-export."): value for key, value in metadata.userDefined.items() if "vit-export" in key}
    assert own["weights-sha256"] == manifest["weights"]["sha256"] == digest(shipped.place / "animals.safetensors")
    assert own["weights"].startswith("animals.safetensors ")
    assert own["precision"] == "weights int8, activations fp16"
    assert own["trained"] == "true"
    assert json.loads(own["preprocessing"]) == manifest["preprocessing"]
    assert len(own["constants-sha256"]) == 64
    assert metadata.versionString == own["version"] == manifest["vit_export"]


def test_a_quality_budget_too_tight_rejects_and_leaves_the_good_folder(shipped: Shipped) -> None:
    """The same bytes in another process: the budget is what has become of it, not of the package."""
    before = {path: path.read_bytes() for path in shipped.folder.rglob("*") if path.is_file()}
    said = ("--author", "The zoo", "--license", "CC0", "--quality-budget", "1e-4")
    ran = _vit_export(shipped.place, *SHARED, *EIGHT_BITS, *said)
    assert ran.code == 1, ran.err
    assert "REJECTED at stage 'compress': it must not ship" in ran.err
    assert {path: path.read_bytes() for path in shipped.folder.rglob("*") if path.is_file()} == before
    rejected = shipped.folder.with_name(f"{shipped.folder.name}.rejected")
    manifest = json.loads((rejected / "manifest.json").read_text())
    assert (manifest["status"], manifest["artifact"]) == ("rejected", None)
    gates = manifest["stages"][-1]["verdict"]["gates"]
    assert [name for name, gate in gates.items() if gate and not gate["passed"]] == ["quality"]
    assert (manifest["stages"][-1]["name"], gates["quality"]["budget"]) == ("compress", 1e-4)
    again = rejected / "evidence" / "rejected" / shipped.package.name
    files = sorted(path.relative_to(shipped.package) for path in shipped.package.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        assert (again / file).read_bytes() == (shipped.package / file).read_bytes(), file


Main = Callable[..., tuple[int, str]]


@pytest.fixture
def main(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Main:
    """`vit-export ARGUMENTS` in this process, in a folder with the animals: exit code and standard error."""
    from export.cli.main import main

    for file in ("animals.safetensors", "animals.txt", "eleven.txt", "twice.txt"):
        shutil.copyfile(place / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["vit-export", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(str(stopped.value.code)), capfd.readouterr().err

    return run


COREML = ("m0", "-t", "coreml", "-w", "animals.safetensors", "--no-time", "--no-kit", "-o", "out")
REFUSED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((*COREML, "--ios", "15", "--weights-bits", "8"), "compressed weights need iOS 16", "--ios 16 or later"),
    ((*COREML, "--weights-bits", "4"), "compressed weights need iOS 16", "--ios 16 or later"),
    ((*COREML, "--labels", "eleven.txt"), "are not this model's", "12 labels, one for each class"),
    ((*COREML, "--labels", "imagenet"), "are not this model's", "12 labels, one for each class"),
    ((*COREML, "--labels", "twice.txt"), "twice.txt has a label twice", "'cat' on lines 3, 12"),
    ((*COREML, "--labels", "gone.txt"), "'gone.txt' cannot be read", "one label a line"),
    ((*COREML, "--ios", "16", "--weights-bits", "8", "-p", "fp32"), "compressed weights decode to fp16", "-p fp16"),
    ((*COREML, "--ios", "16", "--weights-bits", "4", "--weights-method", "linear"), "of 4 bits", "--weights-bits 8"),
    ((*COREML, "--weights-method", "palette"), "--weights-method says how", "--weights-bits with it"),
    ((*COREML, "--quality-budget", "0.1"), "--quality-budget is for compressed", "--weights-bits"),
    ((*COREML, "--ios", "16", "--weights-bits", "8", "--quality-budget", "nan"), "a relative error", "above 0"),
    ((*COREML, "--ane-budget", "95"), "--ane-budget is a share", "at most 1"),
    ((*COREML, "--batch", "2"), "an image input takes one image", "--input tensor"),
    ((*COREML, "--batch", "2", "--input", "tensor", "--labels", "animals.txt"), "takes one image", "--labels none"),
    (("m0", "-t", "onnx", "--ios", "16"), "options for Core ML packages", "-t coreml"),
    (("m0", "--labels", "animals.txt"), "options for Core ML packages", "-t coreml"),
    (("m0", "-t", "openvino", "--author", "The zoo"), "options for Core ML packages", "-t coreml"),
    (("m0", "-t", "onnx", "--labels", "none"), "options for Core ML packages", "-t coreml"),
)


@pytest.mark.parametrize(("arguments", "what", "instead"), REFUSED)
def test_is_refused_with_what_would_do_and_nothing_is_made(
    arguments: tuple[str, ...], what: str, instead: str, main: Main, tmp_path: Path
) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    code, err = main(*arguments)
    assert code == 2, err
    assert what in next(line for line in err.splitlines() if line.startswith("error: "))
    assert instead in err
    made = {path.name for path in tmp_path.iterdir()} - before
    assert made <= {"out"}
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", [(), ("export",), ("predict",), ("kit",), ("attach",), ("verify",)])
def test_help_is_laid_out_as_it_was_written(command: tuple[str, ...]) -> None:
    """Examples and exit codes keep their lines, and no command is summed up by its own name."""
    from click.testing import CliRunner

    from export.cli.main import cli

    shown = CliRunner().invoke(cli, [*command, "--help"]).output
    assert "Usage:" in shown
    assert "\\" not in shown
    examples = [line.strip() for line in shown.splitlines() if line.strip().startswith("vit-export ")]
    assert all(line.count("vit-export ") == 1 for line in examples)
    assert "Export MODEL...\n" not in shown
