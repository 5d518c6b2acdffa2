"""`vit-export selftest`: on the seeded weights everything is caught; a gate that sees less is told."""

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from efficientvit.errors import MissingExtra
from efficientvit.size import square
from export.exits import Exit
from export.selftest.faults import inputs, rewrites, table
from export.selftest.faults.fault import Fault
from export.selftest.result import Detection, SelfTest
from export.selftest.run import selftest
from validation.blame import artifact
from validation.blame.matching import Right
from validation.blame.model_tensors import right_tensors
from validation.gates import table as gate_table
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.proof.outcome import Outcome

_THIRD = tuple(
    fault
    for number, fault in enumerate(table.FAULTS)
    if number % 3 == 0 or fault.name in ("renamed_input", "transposed_windows")
)


@pytest.fixture(scope="module")
def found() -> SelfTest:
    """A third of ONNX's and IRs'; every fault of every target is planted one by one in faults/test_planted.py."""
    right = functools.lru_cache(maxsize=8)(right_tensors)  # the model's tensors on an image are those of every fault

    def once(model: Any, precision: Any, calls: Any, *others: Any, **options: Any) -> Right:
        return right(model, precision, tuple(map(tuple, calls)), *others, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifact, "right_tensors", once)
        patch.setattr(table, "FAULTS", _THIRD)
        return selftest("m0", "seeded", image_size=square(64), seed=4, forms=(("onnx", "fp32"), ("openvino", "fp32")))


def _only(monkeypatch: pytest.MonkeyPatch, *names: str) -> Sequence[Fault]:
    """Plant none but these."""
    chosen = tuple(fault for fault in table.FAULTS if str(fault) in names)
    monkeypatch.setattr(table, "FAULTS", chosen)
    monkeypatch.setattr(rewrites, "FAULTS", ())
    monkeypatch.setattr(inputs, "FAULTS", ())
    return chosen


def test_everything_is_caught_and_nothing_healthy_rejected(found: SelfTest) -> None:
    assert found.missed == ()
    assert found.invisible == ()
    assert found.false_alarms == ()
    assert found.exit_code is Exit.OK
    assert found.unplanted == ("transposed_windows: no grid has more than one window",)
    assert [each.stage for each in found.healthy] == [
        "rewrite", "trace", "simplify", "openvino", "input",
    ]  # fmt: skip


def test_the_layer_is_named(found: SelfTest) -> None:
    right, of = found.blamed
    assert of > 8
    assert right >= 0.9 * of, [each.name for each in found.detections if each.blamed is False]


def test_the_proof_tells_all_that_changes_the_program_and_names_the_operation(found: SelfTest) -> None:
    assert found.taken_for_equal == ()
    told, of = found.told_apart
    assert told == of > 15
    named, of = found.named
    assert of > 8
    assert named >= 0.95 * of, [each.name for each in found.detections if each.named is False]
    kept = {each.name for each in found.detections if not each.program}
    assert kept == {each.name for each in found.detections if not each.told_apart} == {"renamed_input"}


def test_every_kind_and_every_place_is_planted_once() -> None:
    kinds = {(fault.name, fault.target) for fault in table.FAULTS}
    places = {str(fault) for fault in table.FAULTS}
    assert len(kinds) >= 203
    assert len(places) == len(table.FAULTS) >= 235
    assert len(rewrites.FAULTS) >= 16
    assert len(inputs.FAULTS) >= 7
    assert all(fault.says.endswith(".") for fault in table.FAULTS)
    assert all(fault.says.endswith(".") for fault in inputs.FAULTS)


def test_what_is_missed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the proof, the structure and the precision gate made blind, faults that show must be told as missed."""

    def blind(gate: Gate) -> Gate:
        return replace(gate, judge=lambda _: GateResult(gate.name, 0.0, 1.0, "blind"))

    gates = tuple(
        blind(gate) if gate.name in ("identity", "structure", "precision") else gate for gate in gate_table.GATES
    )
    monkeypatch.setattr(gate_table, "GATES", gates)
    _only(monkeypatch, "hard_sigmoid-onnx-fp32-simplify", "last_bit-onnx-fp32-trace")
    found = selftest("m0", "seeded", image_size=square(64), forms=(("onnx", "fp32"),))
    assert [each.name for each in found.missed] == ["hard_sigmoid"]
    assert found.exit_code is Exit.REJECTED


def test_tensorrt_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the typed file and in the parsed network: caught, and blamed on the layer."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")
    planted = ("swapped_weights", "last_bit", "dropped_layer", "kernel_bit")
    stages = ("precision", "parse", "parse", "parse")
    chosen = _only(monkeypatch, *(f"{n}-tensorrt-fp16-{s}" for n, s in zip(planted, stages, strict=True)))
    found = selftest("m0", "seeded", image_size=square(64), forms=(("tensorrt", "fp16"),))
    assert (found.missed, found.false_alarms, found.unplanted) == ((), (), ())
    assert [each.stage for each in found.healthy] == ["rewrite", "trace", "simplify", "precision", "parse", "input"]
    assert [each.name for each in found.detections] == [fault.name for fault in chosen]
    assert found.blamed == (len(chosen), len(chosen))


def test_a_fault_that_shows_nowhere_need_not_be_seen(found: SelfTest) -> None:
    def with_missed(effect: float | None) -> Exit:
        missed = Detection("x", "X.", "onnx", "fp32", "trace", (), None, effect)
        return SelfTest(found.weights, found.check, 0, found.healthy, (*found.detections, missed)).exit_code

    assert with_missed(0.5) is Exit.OK
    assert with_missed(2.5) is Exit.REJECTED
    assert with_missed(None) is Exit.REJECTED


def test_a_program_that_the_proof_takes_for_the_model_fails(found: SelfTest) -> None:
    seen = Detection("x", "X.", "onnx", "fp32", "trace", ("structure",), True, 9.0, program=True, proof=Outcome.PROVEN)
    assert replace(found, detections=(seen,)).exit_code is Exit.REJECTED
    assert replace(found, detections=(replace(seen, program=False),)).exit_code is Exit.OK


def test_a_target_that_is_not_installed_is_told_as_not_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise MissingExtra("tensorrt_rtx", "tensorrt", "parsing a network")

    for module in ("api", "evaluated"):
        monkeypatch.setattr(f"runtimes.tensorrt.{module}.product", missing)
    monkeypatch.setattr("export.targets.tensorrt.build.product", missing)
    _only(monkeypatch, "relu6-tensorrt-fp32-parse", "last_bit-tensorrt-fp32-parse")
    found = selftest("m0", "seeded", image_size=square(64), forms=(("tensorrt", "fp32"),))
    (told,) = found.unplanted
    assert told.startswith("2 faults in tensorrt fp32: parsing a network needs the package 'tensorrt_rtx'")
    assert found.detections == ()
    assert found.exit_code is Exit.OK


def test_the_table_and_json(found: SelfTest, capsys: pytest.CaptureFixture[str]) -> None:
    from export.cli import console, tables

    with console.console() as screen:
        tables.show_selftest(screen, found)
    said = capsys.readouterr().err
    visible = len(found.detections) - len(found.invisible)
    assert f"caught        {visible} of {visible} that show" in said
    assert "false alarms  0 of 5" in said
    assert "wrong inputs  7 of 7" in said
    console.print_json(found.to_json())
    record = json.loads(capsys.readouterr().out)
    assert record["caught"] + record["invisible"] == record["planted"] == len(found.detections)
    assert record["faults"][0].keys() >= {"name", "says", "seen_by", "blamed", "effect_over_budget", "program", "proof"}
    assert record["proof"]["told_apart"] == record["proof"]["of"] == found.told_apart[1]
    assert f"proof         {found.told_apart[0]} of {found.told_apart[1]} that change the program told apart" in said
