"""Faults planted in saved Core ML packages. Each must be rejected, with exit 1, at the stage that has it.

A fault is data (where it is planted, which gate has to see it and which others may) and a function that spoils the
package on disk. Magnitudes and places are drawn at random from a seed that the test's name shows.
"""

import os
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.spec import MODELS
from export.cli import main as cli
from export.exits import Exit
from export.pipeline import handover, judging
from export.pipeline.outcome import Outcome
from export.selftest.faults.coreml.bytes import truncated_weights
from export.selftest.faults.coreml.package import Package
from export.selftest.faults.coreml.table import FAULTS, MORE_FAULTS
from export.selftest.faults.fault import FileFault
from export.targets.coreml.options import CoreMlOptions
from runtimes.artifact import digest
from runtimes.runtime import Evidence
from tests.once import Models, measured_once
from validation.gates.result import GateResult
from validation.inputs.golden_set import GoldenSet
from validation.inputs.synthetic import synthetic
from validation.verdict import Rejected, Verdict

SIZE = 128  # as conftest.py exports it

FULL = bool(os.environ.get("VIT_EXPORT_FULL"))
"""With VIT_EXPORT_FULL=1 every fault is planted from five seeds, and the healthy matrix is the whole family's."""


SEEDS = range(5 if FULL else 1)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """As everywhere, but on one image of each kind: three times as fast, and a fault has fewer on which to show."""
    with measured_once(golden=synthetic if FULL else _one_of_each_kind) as models:
        yield models


def _one_of_each_kind(preprocessing: Preprocessing) -> GoldenSet:
    return synthetic(preprocessing).one_of_each_kind()


@pytest.mark.blames
def test_a_package_whose_outputs_are_wrong_is_rejected_though_it_cannot_be_looked_into(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a failure of the blame, or of the report, changes no verdict and loses no folder."""
    (fault,) = (fault for fault in FAULTS if fault.name == "renamed_output")
    outcome = run("coreml", fault.variant, fault.stage, lambda path: fault.plant(path, np.random.default_rng(0)))
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert outcome.blame is not None
    assert "no layer is at fault" in (outcome.blame.note or "")

    def broken(*_: object, **__: object) -> None:
        raise KeyError("logits")

    monkeypatch.setattr(judging, "blame_artifact", broken)
    monkeypatch.setattr(handover, "write_report", broken)
    outcome = run("coreml", fault.variant, fault.stage, lambda path: fault.plant(path, np.random.default_rng(0)))
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert outcome.folder is not None
    assert "KeyError: 'logits'" in (outcome.folder / "evidence" / "log.txt").read_text()
    assert not (outcome.folder / "report.html").exists()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", (*FAULTS, *MORE_FAULTS) if FULL else FAULTS, ids=str)
def test_planted_in_a_package(fault: FileFault, seed: int, run: Callable[..., Outcome]) -> None:
    rng = np.random.default_rng([seed, zlib.crc32(f"{fault.name}-{fault.variant}-{fault.stage}".encode())])
    outcome = run("coreml", fault.variant, fault.stage, lambda path: fault.plant(path, rng))
    assert isinstance(outcome.final, Rejected)
    assert outcome.stages[-1].name == fault.stage
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    failed = {gate.gate for gate in outcome.final.report.gates if not gate.passed}
    assert fault.gate in failed
    assert failed <= {fault.gate, *fault.others}
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()


IOS = 15 if FULL else 16  # 15 is the default; at 16 the packages are those that are compressed

IMAGE = CoreMlOptions(ios=IOS)
TENSOR = CoreMlOptions(ios=IOS, input="tensor", labels="none")

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

QUICK = {
    ("m0", 0, 64): ("fp16-image-labels", "fp32", "int8", "palette4"),
    ("m0", 1, 64): ("fp16-tensor-nolabels", "palette8-tensor", "palette6-tensor"),
}
"""Model, seed and size, and the variants: those that are made of the same packages."""

WHOLE = {(model, seed, 224): tuple(VARIANTS)[:7] for model in MODELS for seed in range(5)}

UNTRAINED = ("palette6", "palette6-tensor", "palette4")
"""Few bits leave too little of weights that nobody trained. Quality says so, and it is true; nothing else may."""


@pytest.mark.parametrize(
    ("made", "variant"),
    [
        pytest.param(made, variant, id=f"{'-'.join(map(str, made))}-{variant}")
        for made, variants in (WHOLE if FULL else QUICK).items()
        for variant in variants
    ],
)
def test_healthy_packages_pass(made: tuple[str, int, int], variant: str, export: Callable[..., Outcome]) -> None:
    """No false alarm, whatever the weights were drawn from."""
    outcome = export(made, *VARIANTS[variant])
    assert outcome.error is None
    assert [stage.name for stage in outcome.stages] == [stage.name for stage, _ in outcome.job.plan]
    failed = {gate.gate for stage in outcome.stages for gate in _gates(stage.verdict) if not gate.passed}
    if variant in UNTRAINED:
        assert failed <= {"quality"}
    else:
        assert failed == set()
        assert outcome.code(Evidence.REFERENCE) is Exit.OK


def _gates(verdict: Verdict) -> tuple[GateResult, ...]:
    assert verdict.report is not None
    return verdict.report.gates


def test_opening_and_saving_changes_nothing(run: Callable[..., Outcome]) -> None:
    """What is rejected above is rejected for the fault, and not for having been written again."""
    digests: list[str] = []

    def plant(path: Path) -> None:
        digests.append(digest(path))
        Package(path).save()
        digests.append(digest(path))

    outcome = run("coreml", "fp16", "coreml", plant)
    assert digests[0] == digests[1]
    assert outcome.code(Evidence.REFERENCE) is Exit.OK


@pytest.mark.parametrize("variant", ["int8", "palette6"])
def test_the_unspoiled_package_passes(variant: str, run: Callable[..., Outcome]) -> None:
    assert run("coreml", variant).code(Evidence.REFERENCE) is Exit.OK


def test_the_command_exits_with_1(
    spoil: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a package that cannot be read at all, too."""
    rng = np.random.default_rng(0)
    spoil("coreml", "fp16", "coreml", lambda path: truncated_weights(path, rng))
    command = [
        "vit-export",
        "m0",
        "-t",
        "coreml",
        "--ios",
        "16",
        "--image-size",
        str(SIZE),
        "-w",
        "seeded",
        "--no-time",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    assert "weight.bin" in capsys.readouterr().err
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["m0-128-coreml-fp16-ios16-untrained.rejected"]
