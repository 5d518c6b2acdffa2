"""Every fault in every place: the gate that has to see it does, and in a Core ML package none but those that may.

Places and magnitudes are drawn at random from a seed that the test's name shows. That the pipeline acts on such a
verdict is in test_pipeline.py.
"""

from collections.abc import Collection
from dataclasses import replace

import pytest

from efficientvit.errors import BrokenArtifact
from export.selftest.artifacts import Made, verdict_on
from export.selftest.faults.coreml.package import Package
from export.selftest.faults.fault import Fault
from export.selftest.faults.openvino.quantized import exchanged_ranges
from export.selftest.faults.rewrites import FAULTS as REWRITES
from export.selftest.faults.rewrites import RewriteFault
from export.selftest.faults.table import FAULTS, FORMS
from export.selftest.planting import planted_rewrite, rng_for
from runtimes.artifact import digest
from runtimes.registry import reader_of, runtime_for
from tests.export.selftest.conftest import FULL, Prepared, Spoiled
from tests.integer_cpu import needs_exact_int8, skip_without_exact_int8
from validation.blame.artifact import blame_artifact
from validation.gates import table as gate_table
from validation.gates.interface import unreadable
from validation.gates.rewrite import rewrite_gates
from validation.int8.ranges import with_calibration
from validation.network import network_of
from validation.trial import Trial
from validation.verdict import Rejected, VerifiedArtifact

PLANTED = [
    pytest.param(fault, seed, id=f"{fault}-{seed}")
    for fault in FAULTS
    if FULL or not fault.rare
    for seed in range(5 if FULL else 1)
]


def _needs(target: str) -> None:
    if target == "coreai":
        pytest.importorskip("coreai_torch", reason="Apple's packages are not installed")
    if target == "tensorrt":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")


def _failed(made: Made, prepared: Prepared) -> set[str]:
    """By every gate."""
    verdict = verdict_on(made, prepared.model)
    assert isinstance(verdict, Rejected), verdict
    return {gate.gate for gate in verdict.report.gates if not gate.passed}


def _rejecting(made: Made, prepared: Prepared, names: Collection[str]) -> set[str]:
    """Of these gates, those that reject it. What only the others would run is not run."""
    artifact = made.artifact
    reference = prepared.model.at(artifact.precision, image_input=artifact.interface.image_input)
    reference, runtime = with_calibration(reference, artifact, made.source), runtime_for(artifact.format)
    try:
        with network_of(artifact) as network:
            trial = Trial(network, reference, runtime, whole=None if network is artifact else artifact)
            found = gate_table.results(trial, [gate_table.named(name) for name in names])
    except BrokenArtifact as error:
        found = (unreadable(error),)
    return {result.gate for result in found if not result.passed}


@pytest.mark.parametrize(("fault", "seed"), PLANTED)
def test_planted_in_a_file(fault: Fault, seed: int, planted: Spoiled, prepared: Prepared) -> None:
    _needs(fault.target)
    made = planted(fault, seed)
    apples = fault.target in ("coreml", "coreai")  # whose faults may be seen by no other gate
    program = fault.program and reader_of(made.artifact).has_program
    if fault.gate == "interface" or FULL:  # for one of the interface it may be a run that cannot be made
        failed = _failed(made, prepared)
    elif program or apples:
        failed = _rejecting(made, prepared, {fault.gate, "identity"})
    else:
        failed = _rejecting(made, prepared, {fault.gate})
    assert not apples or failed <= {fault.gate, *fault.others, "identity"}
    assert fault.gate in failed
    # What was dequantized and moved may be read past the next pair: it is the same.
    if program and fault.gate != "interface" and fault.name != "lost_pair":
        assert "identity" in failed


@pytest.mark.parametrize("fault", REWRITES, ids=str)
def test_planted_in_the_rewrites(fault: RewriteFault, prepared: Prepared) -> None:
    faulty, place = planted_rewrite(prepared.model, fault, rng_for(5, str(fault)))
    assert not rewrite_gates(faulty)[0].passed, place


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_healthy_chain_passes(form: tuple[str, str], prepared: Prepared) -> None:
    _needs(form[0])
    if form[1] == "int8" and form[0] in ("onnx", "openvino"):
        skip_without_exact_int8()
    for stage, made in prepared.made(*form).items():
        assert isinstance(verdict_on(made, prepared.model), VerifiedArtifact), stage


def test_opening_and_saving_a_package_changes_nothing(prepared: Prepared) -> None:
    """What is rejected above is rejected for the fault, and not for having been written again."""
    artifact = prepared.made("coreml", "fp16")["coreml"].artifact
    before = digest(artifact.path)
    Package(artifact.path).save()
    assert digest(artifact.path) == before


@needs_exact_int8
def test_exchanged_ranges_are_blamed_on_the_modules_whose_tensors_they_are_of(
    planted: Spoiled, prepared: Prepared
) -> None:
    """Only calibration knows them: the file that the IR was made of says what they were."""
    (fault,) = (fault for fault in FAULTS if fault.name == exchanged_ranges.__name__)
    made = planted(fault, 5)
    verdict = verdict_on(made, prepared.model)
    assert verdict.report is not None
    blame = blame_artifact(made.artifact, prepared.model, verdict.report.gates, source=made.source)
    assert len(blame.suspects) == 2
    assert all((suspect.cause or "").startswith("holds '") for suspect in blame.suspects)  # of several alike: one
    assert all((suspect.constant or "").endswith("_range") for suspect in blame.suspects)
    assert all((suspect.module or "").startswith(("stem", "stage", "head")) for suspect in blame.suspects)


def test_what_calibration_found_is_its_own_to_say(planted: Spoiled, prepared: Prepared) -> None:
    """A scale off by its last bit is another calibration where the scales are made, and a fault in the next stage."""
    _needs("tensorrt")
    (fault,) = (fault for fault in FAULTS if fault.name == "slight_activation")
    made = prepared.made("tensorrt", "int8")
    quantized = replace(fault, stage="quantize")
    assert isinstance(verdict_on(planted(quantized), prepared.model), VerifiedArtifact)
    other = replace(made["parse"], source=planted(quantized).artifact)
    assert _failed(other, prepared) == {"constants", "identity"}
