"""`vit-export selftest`: on the seeded weights everything is caught; a gate that sees less is told."""

import json
from dataclasses import replace
from typing import Any

import pytest

from efficientvit.errors import MissingExtra
from export.exits import Exit
from export.selftest import run as module
from export.selftest.faults import inputs, rewrites
from export.selftest.faults.coreml import table as coreml
from export.selftest.faults.onnx import table as onnx_table
from export.selftest.faults.openvino import ir
from export.selftest.run import Detection, SelfTest, selftest
from validation.gates import table
from validation.gates.gate import Gate
from validation.gates.result import GateResult


@pytest.fixture(scope="module")
def found() -> SelfTest:
    """Everything but Core ML, whose faults tests/faults plants one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FORMS", (("onnx", "fp32"), ("openvino", "fp32")))
        return selftest("m0", "seeded", image_size=96, seed=3)


def test_everything_is_caught_and_nothing_healthy_rejected(found: SelfTest) -> None:
    assert found.missed == ()
    assert {each.name for each in found.invisible} <= {"transposed_windows"}  # at this size there is one window
    assert found.false_alarms == ()
    assert found.code is Exit.OK
    assert found.unplanted == ()
    assert [each.stage for each in found.healthy] == [
        "rewrite", "trace", "simplify", "openvino", "input",
    ]  # fmt: skip


def test_the_layer_is_named(found: SelfTest) -> None:
    right, of = found.blamed
    assert of > 25
    assert right >= 0.9 * of, [each.name for each in found.detections if each.blamed is False]


def test_every_kind_has_a_name_of_its_own() -> None:
    faults = [*onnx_table.FAULTS, *ir.FAULTS, *coreml.FAULTS, *coreml.MORE_FAULTS]
    kinds = {(fault.name, fault.target) for fault in faults}
    kinds |= {(fault.plant.__name__, "torch") for fault in rewrites.FAULTS}
    assert len(kinds) >= 60
    assert len({str(fault) for fault in faults}) == len(faults)
    assert all(fault.says.endswith(".") for fault in faults)
    assert all(fault.says.endswith(".") for fault in inputs.FAULTS)


def test_what_is_missed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the audit of constants and the structure gate made blind, faults that show must be told as missed."""

    def blind(gate: Gate) -> Gate:
        return replace(gate, judge=lambda _: GateResult(gate.name, 0.0, 1.0, "blind"))

    blinded = ("structure", "precision")
    gates = tuple(blind(gate) if gate.name in blinded else gate for gate in table.GATES)
    monkeypatch.setattr(table, "GATES", gates)
    monkeypatch.setattr(module, "FORMS", (("onnx", "fp32"),))
    monkeypatch.setattr(rewrites, "FAULTS", ())
    monkeypatch.setattr(inputs, "FAULTS", ())
    found = selftest("m0", "seeded", image_size=64)
    assert "hard_sigmoid" in {each.name for each in found.missed}
    assert found.code is Exit.REJECTED


def test_a_fault_that_shows_nowhere_need_not_be_seen(found: SelfTest) -> None:
    def with_missed(effect: float | None) -> Exit:
        missed = Detection("x", "X.", "onnx", "fp32", "trace", (), None, effect)
        return SelfTest(found.weights, found.check, 0, found.healthy, (*found.detections, missed)).code

    assert with_missed(0.5) is Exit.OK
    assert with_missed(2.5) is Exit.REJECTED
    assert with_missed(None) is Exit.REJECTED


def test_a_target_that_is_not_installed_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise MissingExtra("openvino", "openvino", "making an IR")

    monkeypatch.setattr(module, "FORMS", (("openvino", "fp32"),))
    monkeypatch.setattr(module._Bench, "files", missing)
    monkeypatch.setattr(module._Bench, "inputs", lambda *_: ())
    monkeypatch.setattr(rewrites, "FAULTS", ())
    found = selftest("m0", "seeded", image_size=64)
    assert found.unplanted == ("in openvino fp32: making an IR needs the package 'openvino', which is not installed",)
    assert found.detections == ()


def test_the_table_and_json(found: SelfTest, capsys: pytest.CaptureFixture[str]) -> None:
    from export.cli import console, tables
    from export.selftest.record import selftest_record

    with console.console() as screen:
        tables.show_selftest(screen, found)
    said = capsys.readouterr().err
    visible = len(found.detections) - len(found.invisible)
    assert f"caught        {visible} of {visible} that show" in said
    assert "false alarms  0 of 5" in said
    assert "wrong inputs  7 of 7" in said
    record = json.loads(json.dumps(selftest_record(found), allow_nan=False))
    assert record["caught"] + record["invisible"] == record["planted"] == len(found.detections)
    assert record["faults"][0].keys() >= {"name", "says", "seen_by", "blamed", "effect_over_budget"}
