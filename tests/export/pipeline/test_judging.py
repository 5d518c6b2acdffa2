"""Which jobs of a run take one file of a stage."""

from types import SimpleNamespace
from typing import Any, cast

from export.pipeline.judging import Judging
from export.targets.registry import BUILT_IN
from export.targets.target import Job
from tests.silent import Silent


def _keys(target: str, precision: str, *, labeled: bool = False, batch: int = 1, **options: Any) -> list[Any]:
    found = BUILT_IN[target]
    job = Job("m0", found, precision, batch, 18, found.options(**options), "golden" if precision == "int8" else None)
    judging = Judging(cast(Any, SimpleNamespace(labeled=labeled or None)), cast(Any, None), Silent(), defaults=False)
    plan = job.plan
    return [judging._alike(stage, job, made, last=place == len(plan)) for place, (stage, made) in enumerate(plan, 1)]


def test_two_targets_take_one_trace_and_no_other_stage_is_shared() -> None:
    onnx, openvino = _keys("onnx", "fp16"), _keys("openvino", "fp32")
    assert onnx[:2] == openvino[:2]
    assert onnx[2] is openvino[2] is None
    assert _keys("onnx", "fp16", batch=2)[0] != onnx[0]


def test_what_ships_is_another_where_there_are_labeled_images() -> None:
    """It is judged on them too."""
    assert _keys("onnx", "fp32")[1] == _keys("onnx", "fp16")[1]
    assert _keys("onnx", "fp32", labeled=True)[1] != _keys("onnx", "fp16", labeled=True)[1]


def test_compressed_packages_take_one_conversion_and_what_ships_as_it_is_another() -> None:
    eight, four = _keys("coreml", "fp16", ios=16, weights_bits=8), _keys("coreml", "fp16", ios=16, weights_bits=4)
    assert eight[0] == four[0] is not None
    assert eight[1] is four[1] is None
    (plain,) = _keys("coreml", "fp16", ios=16)
    assert plain is not None
    assert plain != eight[0]
