"""`--input` and `--output`: refused where a target has none, made and judged where it has, run as an app would."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import BadOption
from efficientvit.head import Head
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import find_weights
from export.request.request import Request
from export.selftest.artifacts import Artifacts, verdict_on
from export.targets.coreml.options import CoreMlOptions
from export.targets.workshop import Workshop
from export.targets.wrapping import require_preprocessing
from runtimes.wrapping import Answers, Feed
from validation.blame.artifact import blame_artifact
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel
from validation.verdict import Verdict

SIZE = square(64)
pytestmark = pytest.mark.tiny_m0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    weights = find_weights("seeded", "m0", SIZE)
    golden = synthetic(Preprocessing(image_size=SIZE)).one_of_each_kind()
    return Workshop(weights, ReferenceModel(weights.model, golden), tmp_path_factory.mktemp("wrapped"))


@pytest.fixture(scope="module")
def artifacts(shop: Workshop) -> Artifacts:
    return Artifacts(shop, shop.folder)


def _request(target: str = "onnx", feed: str = "tensor", answers: str = "logits", **more: Any) -> Request:
    given = Request(("m0",), (target,), feed=Feed.parse(feed), answers=Answers.parse(answers))
    changed: Request = replace(given, **more)
    return changed


def _rejecting(verdict: Verdict) -> set[str]:
    assert verdict.report is not None
    return {gate.gate for gate in verdict.report.gates if not gate.passed}


@pytest.mark.parametrize(
    ("target", "precision", "feed", "answers", "batch"),
    [
        ("onnx", "int8", "pixels", "probabilities", None),
        ("onnx", "fp16", "image:70x90", "topk:2", 2),
        ("openvino", "fp16", "image", "logits", None),
        ("openvino", "int8", "tensor", "topk:3", 1),
    ],
)
def test_every_precision_is_wrapped_and_verified(
    target: str, precision: str, feed: str, answers: str, batch: int | None, artifacts: Artifacts, shop: Workshop
) -> None:
    calibrate = "golden" if precision == "int8" else None
    (job,) = _request(target, feed, answers, precision=precision, batch=batch, calibrate=calibrate).jobs()
    *_, inside, made = artifacts.chain(job).values()
    verdict = verdict_on(made, shop.reference)
    assert verdict.report is not None
    # Of untrained weights int8 costs too much, and on some CPUs more: wrapping adds nothing to it.
    costs = _rejecting(verdict_on(inside, shop.reference)) if precision == "int8" else set()
    assert _rejecting(verdict) == costs
    gates = {gate.gate: gate.detail for gate in verdict.report.gates}
    assert {"wrapping", "identity", "answers"} <= set(gates)
    assert ("pixels" in gates) == (feed != "tensor")
    assert "proven" in gates["identity"]
    if verdict.report.passed:
        assert not blame_artifact(made.artifact, shop.reference, verdict.report.gates).suspects


@pytest.mark.parametrize(
    ("target", "precision", "head", "feed", "batch"),
    [
        ("onnx", "fp32", "features", "image", None),
        ("onnx", "fp16", "embedding", "pixels", 2),
        ("openvino", "fp32", "features:2,3", "image:70x90", 1),
        ("openvino", "fp16", "embedding", "image", 1),
    ],
)
def test_maps_and_embeddings_are_given_of_photos(
    target: str, precision: str, head: str, feed: str, batch: int | None, tmp_path: Path
) -> None:
    of_head = Head.parse(head)
    weights = find_weights("seeded", "m0", SIZE, reading=Reading(head=of_head))
    reference = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=SIZE)).one_of_each_kind())
    (job,) = _request(target, feed, precision=precision, batch=batch, head=of_head, image_size=SIZE).jobs()
    *_, made = Artifacts(Workshop(weights, reference, tmp_path), tmp_path).chain(job).values()
    verdict = verdict_on(made, reference)
    assert verdict.report is not None
    assert not _rejecting(verdict)
    gates = {gate.gate: gate.detail for gate in verdict.report.gates}
    names = ", ".join(output.name for output in reference.outputs)
    assert f"{names} as the network's" in gates["answers"]
    assert {"wrapping", "pixels"} <= set(gates)
    assert "proven" in gates["identity"]


@pytest.mark.parametrize(
    ("request_", "what", "next_step"),
    [
        (_request("tensorrt", "image"), "TensorRT engines do not take --input image", "-t onnx"),
        (_request("tensorrt", answers="topk"), "TensorRT engines do not take --output topk:5", "-t onnx"),
        (_request("coreai", "image"), "Core AI assets do not take --input image", "of -t coreml, takes images"),
        (_request("coreai", "pixels"), "Core AI assets do not take --input pixels", "of -t coreml, takes images"),
        (_request("coreai", answers="topk"), "Core AI assets do not take --output topk:5", "gives the probabilities"),
        (_request("coreml", "image:480x640"), "a Core ML package does not take --input image:480x640", "Vision"),
        (_request("coreml", answers="topk"), "Core ML packages do not take --output topk:5", "with labels"),
        (
            _request("onnx", answers="topk", head=Head.parse("embedding")),
            "--output topk:5 is for classifiers",
            "leave --output out",
        ),
        (
            _request("openvino", "image", "probabilities", head=Head.parse("features")),
            "--output probabilities is for classifiers",
            "no classes",
        ),
        (_request("onnx", "image", opset=17), "a newer opset", "--input pixels"),
        (_request("openvino", "pixels", precision="bf16"), "bfloat16", "-p fp32"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_before_any_work(request_: Request, what: str, next_step: str) -> None:
    with pytest.raises(BadOption) as refused:
        request_.jobs()
    assert what in str(refused.value)
    assert next_step in str(refused.value)


@pytest.mark.parametrize(
    ("feed", "answers", "preprocessing", "classes", "what"),
    [
        ("image", "logits", Preprocessing(interpolation="lanczos"), 10, "--interpolation bicubic or bilinear"),
        ("image", "logits", Preprocessing(crop="squash"), 10, "a center crop"),
        ("image:2x19999", "logits", Preprocessing(), 10, "too long and thin"),
        ("image:99999x99999", "logits", Preprocessing(), 10, "too large"),
        ("tensor", "topk:5", Preprocessing(), 3, "--output topk:K with K from 1 to 3"),
        ("tensor", "topk:5", Preprocessing(), 1, "--output probabilities"),
    ],
)
def test_what_the_weights_do_not_allow_is_refused(
    feed: str, answers: str, preprocessing: Preprocessing, classes: int, what: str
) -> None:
    (job,) = _request("onnx", feed, answers).jobs()
    with pytest.raises(BadOption) as refused:
        require_preprocessing(job, preprocessing, classes)
    assert what in str(refused.value)


def test_pixels_leave_resizing_to_the_app() -> None:
    (job,) = _request("onnx", "pixels").jobs()
    require_preprocessing(job, Preprocessing(interpolation="lanczos"), 10)


@pytest.mark.parametrize(
    ("feed", "takes"), [(None, "image"), ("image", "image"), ("pixels", "image"), ("tensor", "tensor")]
)
def test_a_core_ml_package_takes_an_image_of_its_own(feed: str | None, takes: str) -> None:
    (job,) = replace(_request("coreml"), feed=None if feed is None else Feed.parse(feed)).jobs()
    assert CoreMlOptions.of(job).input == takes
    assert not job.wrapped
