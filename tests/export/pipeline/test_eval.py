"""`--eval DIR`: accuracy of every target beside the reference's, in the manifest and the report, and as a gate."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

from efficientvit.errors import BadLabeledSet, BadOption
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import find_weights
from export.cache.store import default_cache
from export.folder.schema import manifest_schema
from export.pipeline.outcome import Outcome
from export.request.evaluation import Evaluation, accuracy_test, evaluation
from export.request.request import Request
from export.targets.target import Make
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.precision import Precision
from tests.export.pipeline.eval_folder import write_eval_folder
from tests.running import run_request
from tests.stages import STAGES
from validation.budgets import Budgets
from validation.verdict import Built, Rejected, VerifiedArtifact

ROOT = Path(__file__).parents[3]
SCHEMA = manifest_schema()
IMAGES = 24


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eval_folder(tmp_path_factory.mktemp("eval"), seeded(model_spec("m0", square(64))), IMAGES)


def _run(
    out: Path, labeled: Path, *targets: str, stages: Mapping[str, Make] | None = None, **options: Any
) -> dict[str, Outcome]:
    request = Request(
        models=("m0",),
        targets=targets,
        weights="seeded",
        image_size=square(64),
        out=out,
        time=False,
        kit=False,
        evaluation=Evaluation(labeled),
        **options,
    )
    cache = default_cache() if stages is None else None  # other tests make the same of the same weights
    ran = run_request(request, stages=stages, cache=cache)
    return {outcome.job.target.name: outcome for outcome in ran}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, labeled: Path) -> dict[str, Outcome]:
    out = tmp_path_factory.mktemp("exports")
    # OpenVINO before ONNX: what is on the way to the one is what ships of the other.
    return _run(out, labeled, "openvino", "onnx", "coreml", "tensorrt")


def _manifest(outcome: Outcome) -> dict[str, Any]:
    assert outcome.folder is not None
    found: dict[str, Any] = json.loads((outcome.folder / "manifest.json").read_text())
    return found


@pytest.mark.parametrize("target", ["onnx", "openvino", "coreml", "tensorrt"])
def test_every_target_is_evaluated_as_it_ships(target: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[target]
    assert isinstance(outcome.final, VerifiedArtifact | Built)
    manifest = _manifest(outcome)
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)
    accuracy = manifest["accuracy"]
    assert (accuracy["images"], accuracy["matched_by"], accuracy["skipped"]) == (IMAGES, "class index", [])
    assert accuracy["reference"] == {"top1": 1.0, "top5": 1.0}
    assert accuracy["artifact"]["top5"] == 1.0
    least = IMAGES if target in ("onnx", "openvino") else IMAGES - 2  # fp16 flips what is undecided
    assert accuracy["agree"] >= least
    assert accuracy["agree"] + accuracy["lost"] == IMAGES
    assert accuracy["evidence"] == ("native" if target in ("onnx", "openvino") else "reference")
    gate = manifest["stages"][-1]["verdict"]["gates"]["accuracy"]
    assert gate["passed"]
    assert gate["warning"] is not None  # two dozen images cannot rule out half a point
    before = [stage["verdict"]["gates"]["accuracy"] for stage in manifest["stages"][:-2]]
    assert before == [None] * len(before)


def test_the_report_has_it(outcomes: dict[str, Outcome]) -> None:
    folder = outcomes["onnx"].folder
    assert folder is not None
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Accuracy on labeled images</h2>" in page
    assert f"On {IMAGES} images of" in page
    assert '<td class="n">100.00</td>' in page
    assert "parity with the checkpoint says nothing of it" not in page


def _rows_swapped(path: Path) -> None:
    """The classifier's rows in another order: every label is another's."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("head.linear.weight", "head.linear.bias"):
            value = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.roll(value, 1, axis=0).copy(), tensor.name))
    onnx.save(model, path)


@pytest.mark.usefixtures("no_blame")
def test_a_classifier_with_swapped_rows_is_rejected(labeled: Path, tmp_path: Path) -> None:
    def simplify(shop: Workshop, job: Any, made: Precision, source: Artifact | None) -> Artifact:
        healthy = STAGES["simplify"](shop, job, made, source)
        _rows_swapped(healthy.path)
        return Artifact.on_disk(healthy.path, healthy.format, healthy.model, made_by="simplify", source=source)

    outcome = _run(tmp_path, labeled, "onnx", stages={**STAGES, "simplify": simplify})["onnx"]
    assert isinstance(outcome.final, Rejected)
    assert "accuracy gate: top-1 0.00% against 100.00%" in outcome.final.reason
    accuracy = _manifest(outcome)["accuracy"]
    assert (accuracy["lost"], accuracy["gained"], accuracy["agree"]) == (IMAGES, 0, 0)
    assert all(flip["outside_margin"] for flip in accuracy["flips"])


def test_a_folder_is_verified_on_labeled_images(outcomes: dict[str, Outcome], labeled: Path, command: Any) -> None:
    folder = outcomes["onnx"].folder
    ran = command("verify", str(folder), "--eval", str(labeled), "--json", "--junit", "verdict.xml")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["accuracy"]["agree"] == IMAGES
    assert found["gates"]["accuracy"]["passed"]
    assert found["not_repeated"] == []
    without = command("verify", str(folder), "--json")
    assert json.loads(without.out)["not_repeated"] == ["accuracy on labeled images (--eval DIR)"]
    assert "not checked again: accuracy" in without.err
    assert "accuracy: top-1 100.00%, reference 100.00%; top-5 100.00%" in ran.err


def test_whose_weights_the_manifest_cannot_give_have_to_be_named(
    outcomes: dict[str, Outcome], labeled: Path, tmp_path: Path
) -> None:
    import shutil

    from export.commands.verify import verify

    folder = outcomes["onnx"].folder
    assert folder is not None
    copy = shutil.copytree(folder, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["weights"]["source"] = "best.pth"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadOption, match="weights that only you have"):
        verify(copy, asked=Evaluation(labeled))


@pytest.mark.parametrize(
    ("folder", "budget", "why"),
    [
        (None, 0.5, "--accuracy-budget is for labeled images"),
        (Path(), -1.0, "in percentage points"),
        (Path(), float("nan"), "in percentage points"),
        (Path("nowhere"), None, "names no folder"),
        (Path(__file__), None, "names no folder"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path | None, budget: float | None, why: str) -> None:
    with pytest.raises((BadOption, BadLabeledSet), match=why) as caught:
        evaluation(folder, Budgets(accuracy=budget))
    assert caught.value.expected is not None


def test_options_beside_it_need_it() -> None:
    assert evaluation(None, Budgets(), labels=None, skip_bad_photos=False) is None
    with pytest.raises(BadOption, match="--skip-bad-photos"):
        evaluation(None, Budgets(), labels=None, skip_bad_photos=True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--eval", "nowhere"], "--eval names no folder: nowhere"),
        (["--eval", "unclear"], "their number is not that of the classes"),
        (["--accuracy-budget", "1"], "--accuracy-budget is for labeled images"),
        (["--reduce-range"], "--reduce-range is for int8 files of ONNX Runtime"),
        (["--all-int8"], "--all-int8 is for int8 files"),
    ],
)
def test_the_command_line_exits_2(arguments: list[str], why: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "unclear" / "cats").mkdir(parents=True)
    ran = command("m0", "--image-size", "64", "-w", "seeded", "--no-time", *arguments)
    assert ran.code == 2, ran.err
    for line in (why, "expected:", "got:"):
        assert line in ran.err
    assert not (tmp_path / "exports").exists() or not list((tmp_path / "exports").iterdir())


def test_labels_say_what_folders_are_for_every_target(labeled: Path) -> None:
    """`--labels` is Core ML's, and of `--eval`; alone with ONNX it would change nothing."""
    from export.targets.coreml.options import CoreMlOptions

    own = {"coreml": CoreMlOptions(labels="imagenet")}
    options: dict[str, Any] = {"models": ("m0",), "targets": ("onnx",), "options": own}
    assert len(Request(**options, evaluation=Evaluation(labeled)).jobs()) == 1
    with pytest.raises(BadOption, match="options for Core ML packages"):
        Request(**options).jobs()


def test_folders_that_are_not_the_model_s_classes_are_refused(tmp_path: Path, labeled: Path) -> None:
    """Counted from 1 in place of 0, say: the reference is never right, and nothing could be lost."""
    weights = tmp_path / "trained.safetensors"
    save_checkpoint(seeded(model_spec("m0", square(64))), weights)
    shifted = tmp_path / "eval"
    for folder in labeled.iterdir():
        shutil.copytree(folder, shifted / str((int(folder.name) + 1) % 1000))
    loaded = find_weights(str(weights), "m0", square(64))
    preprocessing = Preprocessing(image_size=square(64))
    with pytest.raises(BadLabeledSet, match="no more often than by guessing"):
        accuracy_test(Evaluation(shifted), loaded, preprocessing, None, Budgets(), skip_bad=False, step=lambda _: None)
    assert not accuracy_test(
        Evaluation(labeled), loaded, preprocessing, None, Budgets(), skip_bad=False, step=lambda _: None
    ).guessed
