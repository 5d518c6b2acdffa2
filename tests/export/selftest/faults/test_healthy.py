"""No false alarm: what is not spoiled passes, whatever the weights were drawn from."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import MODELS
from efficientvit.weights.source import find_weights
from export.request.request import Request
from export.selftest.artifacts import Artifacts, verdict_on
from export.targets.coreml.options import CoreMlOptions
from export.targets.target import Job
from export.targets.workshop import Workshop
from runtimes.precision import Dtype
from tests.export.selftest.conftest import FULL, own_filters
from validation.gates.rewrite import rewrite_gates
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel
from validation.verdict import Verdict

pytestmark = pytest.mark.published_m0 if FULL else pytest.mark.tiny_m0


def _prepared(
    model: str, seed: int, size: int, folder: Path, *, every: bool = FULL
) -> tuple[ReferenceModel, Artifacts]:
    """With `every` golden image, or with one of each kind."""
    weights = find_weights(f"seeded:{seed}", model, square(size))
    golden = synthetic(Preprocessing(image_size=square(size)))
    reference = ReferenceModel(weights.model, golden if every else golden.one_of_each_kind())
    return reference, Artifacts(Workshop(weights, reference, folder), folder)


def _verdicts(jobs: Sequence[Job], reference: ReferenceModel, artifacts: Artifacts) -> Iterator[Verdict]:
    """On every stage of each, the shared ones once."""
    with own_filters():
        made = {each.artifact.path: each for job in jobs for each in artifacts.chain(job).values()}
    return (verdict_on(each, reference) for each in made.values())


def _failed(verdict: Verdict) -> set[str]:
    assert verdict.report is not None, verdict
    return {gate.gate for gate in verdict.report.gates if not gate.passed}


@pytest.mark.parametrize(
    ("model", "seed", "size"),
    # Seed 0 at 128 is in test_planted.py.
    [("m0", 1, 64), ("m0", 3, 96), ("m2", 5, 64)],
)
def test_healthy_files_pass(model: str, seed: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both runtimes and both precisions. A block a stage, where it is not the whole family's."""
    if not FULL:
        monkeypatch.setitem(MODELS, model, replace(MODELS[model], depths=(1, 1, 1)))
    reference, artifacts = _prepared(model, seed, size, tmp_path, every=FULL or (model, size) == ("m0", 64))
    assert all(gate.passed for gate in rewrite_gates(reference))
    request = Request((model,), ("onnx", "openvino"), precisions=("fp32", "fp16"))
    verdicts = list(_verdicts(request.jobs(), reference, artifacts))
    assert len(verdicts) == 5
    assert [_failed(verdict) for verdict in verdicts] == [set()] * 5


IMAGE = CoreMlOptions(ios=15 if FULL else 16)  # 15 is the default; at 16 the packages are those that are compressed
TENSOR = replace(IMAGE, input="tensor", labels="none")

VARIANTS = {
    "fp16-image-labels": ("fp16", IMAGE),
    "fp16-tensor-nolabels": ("fp16", TENSOR),
    "fp32": ("fp32", IMAGE),
    "int8": ("fp16", replace(IMAGE, ios=16, weights_bits=8)),
    "palette8": ("fp16", replace(IMAGE, ios=16, weights_bits=8, weights_method="palette")),
    "palette6": ("fp16", replace(IMAGE, ios=16, weights_bits=6)),
    "palette4": ("fp16", replace(IMAGE, ios=16, weights_bits=4)),
    "palette8-tensor": ("fp16", replace(TENSOR, ios=16, weights_bits=8, weights_method="palette")),
    "palette6-tensor": ("fp16", replace(TENSOR, ios=16, weights_bits=6)),
}

QUICK = {("m0", 1, 64): ("fp16-image-labels", "int8", "palette4", "fp16-tensor-nolabels", "palette8-tensor")}
"""Model, seed and size, and the variants: those that are made of the same packages."""

WHOLE = {(model, seed, 224): tuple(VARIANTS)[:7] for model in MODELS for seed in range(5)}

FEW_BITS = (Dtype.PALETTE6, Dtype.PALETTE4)
"""They leave too little of weights that were not trained. Quality says so, and it is true; nothing else may."""


@pytest.mark.parametrize(
    ("made", "variants"),
    [pytest.param(made, names, id="-".join(map(str, made))) for made, names in (WHOLE if FULL else QUICK).items()],
)
def test_healthy_packages_pass(made: tuple[str, int, int], variants: tuple[str, ...], tmp_path: Path) -> None:
    model, seed, size = made
    reference, artifacts = _prepared(model, seed, size, tmp_path)
    for variant in variants:
        precision, options = VARIANTS[variant]
        jobs = Request((model,), ("coreml",), precision, kit=False, options={"coreml": options}).jobs()
        for verdict in _verdicts(jobs, reference, artifacts):
            few_bits = verdict.artifact.precision.weights in FEW_BITS
            assert _failed(verdict) <= ({"quality"} if few_bits else set()), variant
