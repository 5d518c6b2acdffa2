"""The real pipeline and its command with a fault in one stage: a fault for each gate, and what is not a gate's.

Each is rejected with exit 1 at the stage that has it, named by the manifest, and nothing ships.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import ArtifactChanged
from efficientvit.size import square
from export.cli import main as cli
from export.exits import Exit
from export.pipeline import handover, judging, prepare
from export.pipeline import run as pipeline
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Loaded, load, measure
from export.pipeline.prepare import Prepared as Measured
from export.request.request import Request
from export.selftest.artifacts import WRAPPED
from export.selftest.faults.fault import Fault
from export.selftest.faults.onnx.model import opened
from export.selftest.faults.onnx.weights import last_bit, zeroed_bias
from export.selftest.faults.rewrites import FAULTS as REWRITES
from export.selftest.faults.table import FAULTS
from export.selftest.planting import planted_rewrite, rng_for
from export.targets.target import Job, Make
from export.targets.tensorrt.options import LAYERS
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Precision
from runtimes.runtime import Evidence
from tests.export.selftest.conftest import MODEL, SIZE, Prepared
from tests.once import measured_once
from tests.running import run_request
from tests.stages import STAGES, replace_stages
from validation.timing.latency import TimingPlan, benchmark
from validation.verdict import Built, VerifiedArtifact

Plant = Callable[[Path], object]
Replay = Callable[[str, Plant], None]

IN_THE_PIPELINE = {
    "interface": "truncated_weights-coreml-fp16-coreml",
    "operators": "lost_pair-onnx-int8-quantize",
    "constants": "zeroed_bias-onnx-fp32-trace",
    "structure": "softmax_axis-onnx-fp32-simplify",
    "overflow": "overflowing-coreml-fp16-coreml",
    "precision": "sham-onnx-fp32-trace",
    "labels": "probabilities_over_the_batch-coreml-fp16-coreml",
    "quality": "sham-onnx-int8-quantize",
    "ranges": "ir_coarse_activation-openvino-int8-openvino",
    "execution": "bypassed_quantizer-tensorrt-int8-parse",
    "wrapping": "last_bit_of_the_mean-onnx-wrapped-wrap",
    "pixels": "not_scaled-onnx-wrapped-wrap",
    "answers": "worst_classes-onnx-wrapped-wrap",
}


def _fault(name: str) -> Fault:
    (fault,) = (fault for fault in FAULTS if str(fault) == name)
    return fault


def test_every_gate_that_a_fault_is_for_is_tried_in_the_pipeline() -> None:
    assert IN_THE_PIPELINE.keys() == {fault.gate for fault in FAULTS} | {"precision"}


@pytest.fixture(scope="module")
def measured(prepared: Prepared) -> Iterator[None]:
    """Weights, reference and what is healthy: as prepared, and judged once."""
    known: dict[bool, Measured] = {}

    def measured(loaded: Loaded, jobs: Sequence[Job], photos: Mapping[str, Any], **_: bool) -> Measured:
        assert not photos
        (images,) = {job.image_input for job in jobs}
        if images not in known:
            known[images] = measure(loaded, jobs)
        return known[images]

    with measured_once(lambda artifact: artifact.format != Format.NETWORK), pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "load", lambda *_, **__: Loaded(prepared.weights, prepared.model, None))
        patch.setattr(pipeline, "measure", measured)
        yield


@pytest.fixture
def replay(prepared: Prepared, measured: None, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Let the pipeline's stages hand out copies of the healthy artifacts, that of one stage spoiled."""

    def replayed(spoiled: str = "", plant: Plant = lambda _: None) -> None:
        def stage(name: str) -> Make:
            def made(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
                folder = shop.path(name, job, ".x").parent
                healthy = _engine(source, folder) if name == "build" else prepared.artifacts.chain(job)[name].artifact
                path = healthy.path if name == "build" else healthy.copied_to(folder)
                if name == spoiled:
                    plant(path)
                found = Artifact.on_disk(
                    path,
                    healthy.format,
                    healthy.model,
                    made_by=name,
                    batch=healthy.batch,
                    precision=healthy.precision,
                    source=source,
                    interface=healthy.interface,
                )
                return replace(found, settings=healthy.settings, notes=healthy.notes)

            return made

        replace_stages(monkeypatch, **{name: stage(name) for name in STAGES})

    return replayed


def _engine(source: Artifact | None, folder: Path) -> Artifact:
    """A stand-in: nothing looks into an engine where it cannot run (tests of the target build real ones)."""
    assert source is not None
    path = folder / f"efficientvit_{MODEL}.engine"
    path.write_bytes(b"an engine")
    path.with_name(LAYERS).write_text("{}")
    shutil.copyfile(source.path, path.with_suffix(".onnx"))
    return Artifact.on_disk(
        path, Format.ENGINE, source.model, made_by="build", precision=source.precision, source=source
    )


def _options(target: str, variant: str) -> list[str]:
    options = ["-t", target, "--image-size", str(SIZE), "-w", "seeded", "--no-time", "--no-cache"]
    if target == "coreml":
        return [*options, "--ios", "16"]
    if target == "tensorrt":
        options += ["--sm", "89"]
    if variant == WRAPPED:
        return [*options, "--input", "image", "--output", "topk:2"]
    return [*options, "-p", variant, *(["--calibrate", "golden"] if variant == "int8" else [])]


@pytest.fixture
def run(replay: Replay, tmp_path: Path) -> Callable[..., Outcome]:
    """The outcome of the pipeline with a file spoiled."""

    def runs(target: str, precision: str, stage: str = "", plant: Plant = lambda _: None) -> Outcome:
        replay(stage, plant)
        calibrate = "golden" if precision == "int8" else None
        request = Request(
            (MODEL,), (target,), precision, weights="seeded", image_size=square(SIZE), out=tmp_path / "out", time=False,
            kit=False, calibrate=calibrate,
        )  # fmt: skip
        (outcome,) = run_request(request)
        return outcome

    return runs


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """That of `vit-export` with these arguments, in this process."""

    def exited(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vit-export", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    return exited


@pytest.mark.parametrize("gate", IN_THE_PIPELINE, ids=str)
def test_the_command_exits_with_1_and_ships_nothing(
    gate: str, replay: Replay, exit_code: Callable[..., int], tmp_path: Path
) -> None:
    fault = _fault(IN_THE_PIPELINE[gate])
    if fault.target == "tensorrt":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")
    with ExitStack() as stack:
        replay(fault.stage, lambda path: stack.enter_context(fault.planted(path, rng_for(0, str(fault)))))
        assert exit_code(MODEL, *_options(fault.target, fault.variant), "-o", str(tmp_path / "out")) == Exit.REJECTED
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.endswith(".rejected")
    assert not (folder / "ship").exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    *before, last = manifest["stages"]
    assert last["name"] == manifest["blame"]["stage"] == fault.stage
    gates = last["verdict"]["gates"]
    assert not gates[gate]["passed"]
    assert [stage["verdict"]["status"] for stage in before] == ["verified"] * len(before)


def test_a_faulty_rewrite_is_rejected_before_any_stage(prepared: Prepared, tmp_path: Path) -> None:
    faulty, _ = planted_rewrite(prepared.model, REWRITES[0], rng_for(5, str(REWRITES[0])))
    request = Request((MODEL,), ("onnx",), weights="seeded", image_size=square(SIZE), out=tmp_path, time=False)
    measured = measure(Loaded(prepared.weights, faulty, None), request.jobs())
    (outcome,) = run_request(request, measured)
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert outcome.rewrite is not None
    assert not outcome.rewrite.gates[0].passed
    assert outcome.stages == []


def _zeroed(path: Path) -> None:
    with opened(path) as model:
        zeroed_bias(model, np.random.default_rng(0))


def test_the_layer_is_named_by_the_command_and_by_explain(
    replay: Replay,
    exit_code: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(prepare, "load", load)  # explain computes on all golden images
    monkeypatch.setattr(pipeline, "measure", measure)
    replay("simplify", _zeroed)
    assert exit_code(MODEL, *_options("onnx", "fp32"), "-o", str(tmp_path / "out")) == Exit.REJECTED
    said = capsys.readouterr().err
    assert "constants" in said
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "m0-128-onnx-fp32-untrained.rejected"

    blamed = json.loads((folder / "manifest.json").read_text())["blame"]
    assert blamed["stage"] == "simplify"
    constant = blamed["suspects"][0]["constant"]
    assert constant.endswith("project.bias")
    assert blamed["suspects"][0]["cause"] == "is all zeros"
    assert f"1. {constant.removesuffix('.bias')}: constant '{constant}'" in said

    assert exit_code("explain", str(folder), "--json") == Exit.REJECTED
    explained = json.loads(capsys.readouterr().out)
    assert explained["blame"] == blamed
    assert not explained["gates"]["constants"]["passed"]
    assert len(explained["layers"]) > 150


def test_a_package_that_cannot_be_read_is_told_by_name(
    replay: Replay, exit_code: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = _fault("truncated_weights-coreml-fp16-coreml")
    replay(fault.stage, lambda path: fault.planted(path, np.random.default_rng(0)).__enter__())
    assert exit_code(MODEL, *_options("coreml", "fp16"), "-o", str(tmp_path / "out")) == Exit.REJECTED
    assert "weight.bin" in capsys.readouterr().err
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["m0-128-coreml-fp16-ios16-untrained.rejected"]


def test_the_first_stage_with_the_fault_is_blamed(run: Callable[..., Outcome]) -> None:
    """A fault in the trace is not seen first in the IR that is made of it."""
    outcome = run("openvino", "fp32", "trace", _zeroed)
    assert [stage.name for stage in outcome.stages] == ["trace"]


def test_a_failure_of_the_blame_or_of_the_report_changes_no_verdict(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a file whose interface is wrong is rejected though no layer is looked into."""

    def plant(path: Path) -> None:
        with opened(path) as model:
            model.graph.output[0].name = "scores"
            for node in model.graph.node:
                node.output[:] = ["scores" if name == "logits" else name for name in node.output]

    outcome = run("onnx", "fp32", "simplify", plant)
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert outcome.blame is not None
    assert "no layer is at fault" in (outcome.blame.note or "")

    def broken(*_: object, **__: object) -> None:
        raise KeyError("logits")

    monkeypatch.setattr(judging, "blame_artifact", broken)
    monkeypatch.setattr(handover, "write_report", broken)
    outcome = run("onnx", "fp32", "simplify", plant)
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert outcome.folder is not None
    assert "KeyError: 'logits'" in (outcome.folder / "evidence" / "log.txt").read_text()
    assert not (outcome.folder / "report.html").exists()


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_a_healthy_network_is_built(form: str, run: Callable[..., Outcome]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")
    outcome = run("tensorrt", form)
    assert isinstance(outcome.final, Built), outcome.stages[-1].verdict
    assert outcome.code(Evidence.REFERENCE) is Exit.OK
    assert outcome.code(Evidence.NATIVE) is Exit.NOT_VERIFIED


def test_a_file_beside_the_engine_that_was_not_judged_does_not_ship(run: Callable[..., Outcome]) -> None:
    """Whoever builds the engine again would build it from that."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

    def plant(path: Path) -> None:
        with opened(path.with_suffix(".onnx")) as model:
            model.producer_name = "another"

    outcome = run("tensorrt", "fp16", "build", plant)
    assert isinstance(outcome.error, ArtifactChanged)
    assert outcome.failed_stage == "build"
    assert outcome.code(Evidence.BUILT) is Exit.REJECTED
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()


def test_a_file_edited_after_its_verification_is_not_timed(run: Callable[..., Outcome]) -> None:
    outcome = run("onnx", "fp32")
    assert outcome.code(Evidence.NATIVE) is Exit.OK
    assert isinstance(outcome.final, VerifiedArtifact)
    assert outcome.folder is not None
    shipped = outcome.folder / "ship" / outcome.final.artifact.path.name
    verified = VerifiedArtifact(replace(outcome.final.artifact, path=shipped), outcome.final.report)
    images = np.zeros((1, 3, SIZE, SIZE), np.float32)
    plan = TimingPlan(warm_up_s=0, measure_s=0, least_samples=1)
    assert len(benchmark(verified, OnnxRuntime(), plan, images).samples_ns) == 1
    with opened(shipped) as model:
        last_bit(model, np.random.default_rng(0))
    with pytest.raises(ArtifactChanged):
        benchmark(verified, OnnxRuntime(), plan, images)
