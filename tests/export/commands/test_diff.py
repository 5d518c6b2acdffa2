"""Two releases compared: a folder with itself, with a slower one, with another precision, with another model."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import BadOption
from export.commands.diff import diff
from export.commands.differences import Diff
from export.commands.fail_on import parse_fail_on
from export.commands.recorded import Finding
from validation.timing.paired import Ratio, interleaved, recorded

ONNX, IR, COREML = "m0-64-onnx-fp32-untrained", "m0-64-openvino-fp32-untrained", "m0-64-coreml-fp16-untrained"


@dataclass
class Spinning:
    """A session whose run takes as long as it is told, with the noise of a busy host. `drift`: of this session."""

    microseconds: float
    rng: np.random.Generator
    drift: float = 0.0

    def timed_ns(self, _: Any) -> int:
        noise = self.rng.lognormal(0, 0.05) * (1 + 10 * (self.rng.random() < 0.02))
        return int(self.microseconds * 1000 * noise * (1 + self.drift))


def opener(microseconds: float, rng: np.random.Generator, drift: float = 0.0) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[Any]:
        yield Spinning(microseconds, rng, float(rng.normal(0, drift)))

    return opened


FEED = (np.zeros(1, np.float32), np.zeros(1, np.float32))


def test_the_same_is_never_called_different() -> None:
    """Noise of 5 %, outliers of ten times, and sessions that differ by a per cent for as long as they live."""
    rng = np.random.default_rng(0)
    ratios = [interleaved(opener(1000, rng, 0.01), opener(1000, rng, 0.01), FEED) for _ in range(100)]
    assert sum(ratio.differs for ratio in ratios) == 0


def test_five_per_cent_slower_is_found() -> None:
    rng = np.random.default_rng(1)
    ratios = [interleaved(opener(1000, rng, 0.01), opener(1050, rng, 0.01), FEED) for _ in range(50)]
    assert sum(ratio.slower for ratio in ratios) >= 40


def test_recorded_samples_are_compared_with_an_interval() -> None:
    rng = np.random.default_rng(2)
    old = tuple((1e6 * rng.lognormal(0, 0.05, 400)).astype(int).tolist())
    assert not recorded(old, tuple((1e6 * rng.lognormal(0, 0.05, 400)).astype(int).tolist())).differs
    slower = recorded(old, tuple((1.05e6 * rng.lognormal(0, 0.05, 400)).astype(int).tolist()))
    assert slower.slower
    assert slower.low < 1.05 < slower.high


@pytest.mark.parametrize("text", ["speed", "latency:5", "parity:5%", "latency:-1%", "size:x%"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="--fail-on does not know"):
        parse_fail_on(text)


def test_limits() -> None:
    limits = parse_fail_on("parity, latency:5%,size:2.5%")
    assert limits == {"parity": 0.0, "latency": 0.05, "size": 0.025}
    findings = (
        Finding("latency", "", "", worse=True, growth=0.04),
        Finding("size", "", "", worse=True, growth=0.03),
        Finding("size", "", "", worse=False, growth=-0.5),
        Finding("tools", "", "", worse=True),
        Finding("parity", "", "", worse=True),
    )
    failed = Diff(Path(), Path(), findings, None, (), limits).failures
    assert [finding.kind for finding in failed] == ["size", "parity"]


def test_a_folder_is_no_different_from_itself(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _on_a_quiet_host(monkeypatch, 1000, 1000)
    for slug in (ONNX, COREML):
        found = diff(exported.out / slug, exported.out / slug, time=slug == ONNX)
        assert found.findings == ()
        assert found.ratio is None or isinstance(found.ratio, Ratio)


def test_another_runtime_and_precision(exported: Any) -> None:
    found = diff(exported.out / ONNX, exported.out / COREML, time=False)
    kinds = {finding.kind for finding in found.findings}
    assert {"size", "interface"} <= kinds
    assert "agreement" not in kinds, found.findings  # the budgets say how far fp16 may be off
    assert "parity" not in kinds


def test_other_weights_do_not_agree(exported: Any, command: Any, tmp_path: Path) -> None:
    out = tmp_path / "other"
    made = command("m0", "--image-size", "64", "-w", "seeded:3", "--no-time", "-o", str(out))
    assert made.code == 0, made.err
    other = next(out.iterdir())
    ran = command("diff", str(exported.out / ONNX), str(other), "--no-time", "--fail-on", "agreement", "--json")
    assert ran.code == 1, ran.err
    findings = {finding["kind"]: finding for finding in json.loads(ran.out)["findings"]}
    assert findings["agreement"]["fails"]
    assert not findings["weights"]["fails"]
    assert "worse than --fail-on allows: agreement" in ran.err
    allowed = command("diff", str(exported.out / ONNX), str(other), "--no-time")
    assert allowed.code == 0, allowed.err


def test_a_slower_artifact_is_found_on_the_real_runtime(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _on_a_quiet_host(monkeypatch, 1000, 1500)
    found = diff(exported.out / ONNX, exported.out / ONNX)
    assert [finding.kind for finding in found.findings] == ["latency"], found.ratio
    assert found.findings[0].worse
    assert replace(found, limits={"latency": 0.05}).failures == found.findings


def _on_a_quiet_host(patch: pytest.MonkeyPatch, before: float, after: float) -> None:
    """The real sessions of the old and the new run, and take as many microseconds."""
    from export.commands import diff as module

    rng = np.random.default_rng(3)

    def steady(opened: Callable[[], Any], taking: float) -> Callable[[], Any]:
        @contextmanager
        def opens() -> Iterator[Any]:
            with opened() as session:
                yield Timed(session, Spinning(taking, rng))

        return opens

    def timed(old: Any, new: Any, feeds: Any) -> Ratio:
        return interleaved(steady(old, before), steady(new, after), feeds)

    patch.setattr(module, "interleaved", timed)


@dataclass
class Timed:
    session: Any
    clock: Spinning

    def timed_ns(self, feed: Any) -> int:
        self.session.timed_ns(feed)
        return self.clock.timed_ns(feed)


def _edited(folder: Path, copy: Path, **fields: Any) -> Path:
    shutil.copytree(folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **fields}))
    return copy


def test_a_fall_of_accuracy_is_found_beyond_noise(exported: Any, tmp_path: Path) -> None:
    def measured(top1: float, images: int) -> dict[str, Any]:
        shares = {"top1": top1, "top5": None}
        return {
            "folder": "eval",
            "images": images,
            "matched_by": "label",
            "skipped": [],
            "reference": shares,
            "artifact": shares,
            "agree": images,
            "lost": 0,
            "gained": 0,
            "drop_points": 0.0,
            "interval_points": [-0.1, 0.1],
            "confidence_percent": 95,
            "budget_points": 0.5,
            "evidence": "native",
            "flips": [],
        }

    old = _edited(exported.out / ONNX, tmp_path / "old", accuracy=measured(0.80, 10_000))
    worse = _edited(exported.out / ONNX, tmp_path / "worse", accuracy=measured(0.78, 10_000))
    noise = _edited(exported.out / ONNX, tmp_path / "noise", accuracy=measured(0.78, 100))
    found = diff(old, worse, time=False)
    (finding,) = found.findings
    assert (finding.kind, finding.old, finding.new, finding.worse) == ("accuracy", "80.00%", "78.00%", True)
    assert replace(found, limits=parse_fail_on("accuracy:1%")).failures == (finding,)
    assert replace(found, limits=parse_fail_on("accuracy:3%")).failures == ()
    assert diff(old, noise, time=False).findings == ()
    (lost,) = diff(old, exported.out / ONNX, time=False).findings
    assert (lost.kind, lost.new, lost.worse) == ("accuracy", "not measured", True)


def test_another_precision_is_named(exported: Any, exported_unsigned: Any) -> None:
    (quantized,) = exported_unsigned.out.iterdir()
    found = diff(exported.out / ONNX, quantized, time=False)
    (finding,) = [each for each in found.findings if each.kind == "precision"]
    assert finding.old == "fp32 weights, fp32 activations, fp32 arithmetic"
    assert re.match("int[78] weights, uint8 activations, int8 arithmetic", finding.new)
