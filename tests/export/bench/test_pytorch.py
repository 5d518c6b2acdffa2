"""PyTorch among the entries: what is folded stays the same model, and a module that isn't is not timed."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.weights.source import find_weights
from export.bench import entries
from export.bench.entries import InPyTorch, Judgments, gathered
from export.bench.pytorch import PyTorch
from export.bench.request import BenchRequest
from export.bench.timm_export import stock_model
from export.bench.torch_export import fold_batch_norms
from runtimes.precision import Precision
from runtimes.pytorch.exported_program import TorchProgram
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.timing.interleaved import in_turns
from validation.verdict import NotRun, Rejected

pytestmark = pytest.mark.tiny_m0

SIZE = 64
timm = pytest.importorskip("timm")


def _stock(_: Any = None) -> torch.nn.Module:
    return stock_model(find_weights("seeded", "m0", square(SIZE)).model)


def _folded() -> torch.nn.Module:
    module = _stock()
    fold_batch_norms(module, square(SIZE))
    return module


def _with_one_weight_off(_: Any = None) -> torch.nn.Module:
    module = _stock()
    weight = next(value for name, value in module.named_parameters() if name.endswith("ffn1.m.pw1.conv.weight"))
    with torch.no_grad():
        weight.mul_(1.001)
    return module


@pytest.fixture(scope="module")
def reference() -> Reference:
    golden = synthetic(Preprocessing(image_size=square(SIZE)))
    return ReferenceModel(find_weights("seeded", "m0", square(SIZE)).model, golden).at(Precision())


@pytest.mark.parametrize("name", ["efficientvit_m0", "mobilenetv3_large_100", "mobilevit_xxs"])
def test_folding_leaves_the_answers_and_no_norm_behind_a_convolution(name: str) -> None:
    torch.manual_seed(0)
    module = timm.create_model(name).eval().double()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for values, low, high in ((part.running_mean, -0.1, 0.1), (part.running_var, 0.5, 2)):
                assert values is not None
                torch.nn.init.uniform_(values, low, high)
    size = 256 if name == "mobilevit_xxs" else 224
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    norms = sum(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    with torch.no_grad():
        before = module(images)
        folded = fold_batch_norms(module, square(size))
        after = module(images)
    assert folded == norms > 30
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    assert np.allclose(after.numpy(), before.numpy(), rtol=0, atol=1e-9 * float(before.abs().max()))


def test_what_passes_is_timed_beside_the_others(tmp_path: Path) -> None:
    request = BenchRequest(("m0",), weights="seeded", image_size=square(SIZE), pytorch=True, batches=(2,), out=tmp_path)
    own = InPyTorch(request, lambda _: None, PyTorch({"eager": TorchProgram()}))
    own.judge(["m0"])
    found = gathered(request, ["m0"], [Judgments("m0")], own)
    ((judged, entry),) = found.timed
    assert (judged.target, judged.precision, found.notes) == ("pytorch", "eager", [])
    (timing,) = in_turns([entry], rounds=1)
    assert timing.attestation.runtime == "torch"
    assert timing.plan.batch == 2
    assert len(timing.samples_ns) >= 5


def test_one_weight_off_is_rejected_and_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "stock_model", _with_one_weight_off)
    request = BenchRequest(("m0",), weights="seeded", image_size=square(SIZE), pytorch=True, out=tmp_path)
    own = InPyTorch(request, lambda _: None, PyTorch({"eager": TorchProgram()}))
    own.judge(["m0"])
    found = gathered(request, ["m0"], [Judgments("m0")], own)
    assert found.timed == []
    (note,) = found.notes
    assert note.startswith("m0, pytorch in eager, batch 1, was not timed: structure gate: ")


@pytest.mark.filterwarnings("ignore")  # of inductor's own
def test_compiled_is_judged_by_what_its_kernels_answer(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that spoils the program is found out although the program itself is right."""
    spoiled = copy.deepcopy(_with_one_weight_off())

    def compiled(_: Any, **options: Any) -> Any:
        assert options == {"options": {"freezing": True, "cpp_wrapper": True}}
        return spoiled

    monkeypatch.setattr(torch, "compile", compiled)
    spec = find_weights("seeded", "m0", square(SIZE)).model.spec
    ways = PyTorch({"eager": TorchProgram(), "compiled": TorchProgram(compiled=True)})
    monkeypatch.setenv("CXX", "sh")  # which is there
    found = {way: verdict for way, _, verdict in ways.judged(_folded(), spec, 1, reference, tmp_path, lambda _: None)}
    assert not isinstance(found["eager"], Rejected)
    assert isinstance(found["compiled"], Rejected)
    assert found["compiled"].reason.startswith("precision gate: ")


def test_without_a_compiler_it_is_not_run_and_says_why(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    spec = find_weights("seeded", "m0", square(SIZE)).model.spec
    ways = PyTorch({"compiled": TorchProgram(compiled=True)})
    ((_, _, verdict),) = ways.judged(_folded(), spec, 1, reference, tmp_path, lambda _: None)
    assert isinstance(verdict, NotRun)
    assert "no 'no-such-compiler'" in verdict.reason
